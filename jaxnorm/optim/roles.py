"""Decides whether a weight is a kernel, by its name, its parents and its siblings.

In a cell the rank would do: vectors have rank one, kernels more. In a model it does not: biases of attention have the
axes (heads, F), gains of a normalizer over several axes have as many, and ``nn.scan`` adds an axis to all weights.
"""

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import jax

from jaxnorm._base.paths import Path, name_finder, variable_names
from jaxnorm._base.typing import PyTree
from jaxnorm._shared.kernel_axes import Group, grouped

KERNELS = frozenset(("kernel", "recurrent", "projection", "embedding", "lora_a", "lora_b"))
"""Weights that mix features: by a matrix product or a row look-up, which is the product with a one-hot vector."""

OF_NORMS = ("bias", "scale", "slope", "threshold", "alpha", "learned_epsilon", "learned_sigma")
OTHERS = frozenset((*OF_NORMS, "peephole", "decay_logit", "beta1", "beta2", "rho"))
"""Weights with one number per unit, or one for all, that is added to a unit, multiplies it or is compared."""

BLOCKS = frozenset(("block", "mix", "gates"))
"""Kernels of a ``BlockGRU``, which always occur together."""

CARRY = frozenset(("c", "h", "n", "m"))
"""The learned initial carry, under ``carry``."""

SITES = frozenset(("input", "recurrent", "cell"))
"""The gains of ``NormPropLSTM``, under ``scale``."""


class Weights:
    """The weights of a tree, keyed by path in the order of its leaves, and the role of each.

    Weights that another transformation masked have a name but no shape.
    """

    def __init__(self, caller: str, params: PyTree) -> None:
        if params is None:
            raise ValueError(f"{caller}: params is None. Pass the weights: optimizer.update(gradients, state, params).")
        self.caller = caller
        self.leaves: dict[Path, Any] = {}
        self.masked: set[Path] = set()
        for path, leaf in jax.tree_util.tree_leaves_with_path(params, is_leaf=is_masked):
            if is_masked(leaf):
                self.masked.add(variable_names(path))
            else:
                self.leaves[variable_names(path)] = self._checked(path, leaf)
        self.groups: dict[Path, Group] = grouped(self.leaves)
        self.names = [*self.leaves, *self.masked]
        self._shapes = {path: tuple(leaf.shape) for path, leaf in self.leaves.items()} | dict.fromkeys(self.masked, ())

    def _checked(self, path: Any, leaf: Any) -> Any:
        if not path or not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            place = f", got {type(leaf).__name__}" + (f" at {'/'.join(variable_names(path))}" if path else "")
            raise TypeError(
                f"{self.caller}: params must be a tree of arrays under their names{place}. Pass the weights: "
                "cell.init(...), variables['params'] of a linen module, nnx.state(module, nnx.Param)."
            )
        return leaf

    def is_kernel(self, path: Path) -> bool:
        """Whether a weight is a kernel.

        Raises:
          ValueError: its name does not tell.
        """
        *parents, name = path
        if is_gain_of_kernel(path, self._shapes):
            return False
        if name == "recurrent":
            return not self._is_one_weight_a_unit(path)
        if name in BLOCKS and all((*parents, other) in self._shapes for other in BLOCKS):
            return True
        if name in CARRY and parents[-1:] == ["carry"]:
            return False
        for end in _ends(name):
            if end in KERNELS or end in OTHERS:
                return end in KERNELS
        self._refuse(path)

    def _is_one_weight_a_unit(self, path: Path) -> bool:
        """Whether a recurrent weight is a vector, as in ``IndRNN``, possibly stacked over layers."""
        beside = self.groups[path[:-1]]
        return len(beside["recurrent"]) < max(2, len(beside.get("kernel", ())))

    def _refuse(self, path: Path) -> NoReturn:
        argument = "decay" if self.caller == "decay_mask" else "axis"
        answers = "True or False" if argument == "decay" else "the axes over which the inputs of a unit lie, or None"
        raise ValueError(
            f"{self.caller}: the name of {'/'.join(path)} does not say whether it is a kernel. Running statistics and "
            "states do not belong among the weights: pass variables['params'], or nnx.state(module, nnx.Param). Of a "
            f"weight of your own say it, by its name: {argument}={{{path[-1]!r}: ...}}, with {answers}."
        )


def told_by_name(weights: Weights, argument: str, told: Any) -> dict[Path, str]:
    """Finds the entry of a mapping by names for each weight that has one."""
    if not isinstance(told, Mapping):
        return {}
    find = name_finder(f"{weights.caller}: {argument}", told, weights.names)
    found = {path: find(path) for path in weights.leaves}
    return {path: name for path, name in found.items() if name is not None}


def is_masked(node: Any) -> bool:
    """Whether another transformation replaced a weight by ``optax.MaskedNode``."""
    return isinstance(node, tuple) and getattr(node, "_fields", None) == ()


def is_gain_of_kernel(path: Path, shapes: Mapping[Path, tuple[int, ...]]) -> bool:
    """Whether a weight under ``scale`` is the gain of a kernel of the same name; a layer could also be named ``scale``.

    ``Reparametrized`` has the kernel under ``cell`` or ``module``. In linen it may have only scales, if the wrapped
    module is its sibling. ``NormPropLSTM`` has sites under ``scale``.
    """
    return any(name == "scale" and _is_gain(path[:k], path[k + 1 :], path, shapes) for k, name in enumerate(path[:-1]))


def _is_gain(above: Path, below: Path, path: Path, shapes: Mapping[Path, tuple[int, ...]]) -> bool:
    if any((*above, inside, *below) in shapes for inside in ("cell", "module")):
        return True
    if len(below) == 1 and below[0] in SITES and (*path[:-1], "kernel") not in shapes:
        return True
    alone = all(other[: len(above)] != above or other[len(above)] == "scale" for other in shapes)
    return alone and any(
        other[: len(above) - 1] == above[:-1] and other[-len(below) :] == below and _counts_units(shapes[path], kernel)
        for other, kernel in shapes.items()
    )


def _counts_units(gain: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """Whether a gain has one number per unit of a kernel: the sizes of some of its axes, or their product."""
    sizes = iter(kernel)
    some = all(size in sizes for size in gain)
    joined = [(math.prod(kernel[k:]),) for k in range(1, len(kernel))]
    return len(gain) < len(kernel) and (some or gain in joined)


def _ends(name: str) -> list[str]:
    """Returns a name and its word suffixes, without trailing numbers: ``pos_embedding``, ``bias_1``."""
    words = name.replace("/", "_").split("_")
    while len(words) > 1 and words[-1].isdigit():
        words.pop()
    return ["_".join(words[k:]) for k in range(len(words))]
