"""Finds the axes of an output unit's inputs, for all weights of a model.

The axes come from the user's rule, from the module that owns the weight, or from the weights next to it. We do not
guess: if the axes are not certain, we raise an error with the path of the weight.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeAlias

from jaxnorm._base import validate
from jaxnorm._base.paths import Path, name_finder
from jaxnorm._base.typing import Array, Axis
from jaxnorm.norms.core.axes import hashable_axis
from jaxnorm.weight_norms.base import WeightNormalizer, axis_is_open, with_axis

AxisRule: TypeAlias = Axis | Mapping[str, Axis | None] | Callable[[Path, Array], Axis | None]
"""Axes for all weights, or axes by name, or a function of the path (a tuple of names) and the array.

A name is the path of a weight joined by underscores (``encoder_out_kernel``), or the end of it; the longest name wins.
For a weight without a matching name, the rule does not apply. None instead of axes leaves the weight unnormalized.
"""

ATTENTION = ("query", "key", "value", "out")

Group: TypeAlias = dict[str, tuple[int, ...]]
"""The shapes of a weight and its neighbors in the same module, by name."""


def input_axes(
    caller: str,
    rule: AxisRule | None,
    weights: Mapping[Path, Any],
    chosen: Iterable[Path],
    known: Mapping[Path, Axis] | None = None,
    names: Iterable[Path] | None = None,
) -> dict[Path, tuple[int, ...]]:
    """Finds the axes of each chosen weight; omits weights that should be left unnormalized.

    Args:
      caller: the name of the caller, for messages.
      rule: the user's rule.
      weights: all weights of the model by path, as arrays or other objects with a shape.
      chosen: the paths of the weights to look up.
      known: axes that modules declare for their own weights.
      names: the paths that a name may match, if there are more than the paths of ``weights``.
    """
    ask = _asking(caller, rule, weights, list(weights if names is None else names))
    groups = grouped(weights)
    found = {}
    for path in chosen:
        told, axis = ask(path)
        if not told:
            axis = known[path] if known and path in known else _evident(caller, path, groups)
        if axis is not None:
            at = f"{caller}: {'/'.join(path)}"
            found[path] = validate.axes(at, hashable_axis(at, "axis", axis), len(weights[path].shape))
    return found


def grouped(weights: Mapping[Path, Any]) -> dict[Path, Group]:
    """Groups the shapes of weights by their parent path."""
    groups: dict[Path, Group] = {}
    for path, array in weights.items():
        groups.setdefault(path[:-1], {})[path[-1]] = tuple(array.shape)
    return groups


def settle(
    caller: str,
    rule: AxisRule | None,
    weights: Mapping[Path, Any],
    specs: Mapping[Path, WeightNormalizer],
    known: Mapping[Path, Axis] | None = None,
) -> dict[Path, WeightNormalizer]:
    """Fills in the axes of weight normalizers that have none, and drops the ones whose weights stay unnormalized."""
    axes = input_axes(caller, rule, weights, [path for path, spec in specs.items() if axis_is_open(spec)], known)
    settled = {
        path: with_axis(spec, axes[path]) if path in axes else spec
        for path, spec in specs.items()
        if path in axes or not axis_is_open(spec)
    }
    if not settled:
        raise ValueError(f"{caller}: axis is None for every weight, so nothing would be normalized.")
    return settled


def _asking(
    caller: str, rule: AxisRule | None, weights: Mapping[Path, Any], names: list[Path]
) -> Callable[[Path], tuple[bool, Axis | None]]:
    """Returns a function of a path: whether the rule applies to this weight, and its axes."""
    if rule is None:
        return lambda path: (False, None)
    if isinstance(rule, Mapping):
        find = name_finder(f"{caller}: axis", rule, names)

        def by_name(path: Path) -> tuple[bool, Axis | None]:
            name = find(path)
            return (False, None) if name is None else (True, rule[name])

        return by_name
    if callable(rule):
        return lambda path: (True, rule(path, weights[path]))
    return lambda path: (True, rule)


def _evident(caller: str, path: Path, groups: Mapping[Path, Group]) -> Axis:
    """Infers the axes from names and shapes of weights, for this library's cells and for Flax layers."""
    *parents, name = path
    beside = groups[tuple(parents)]
    shape = beside[name]
    if len(shape) < 2:
        _refuse(caller, path, shape, "a vector does not say whether it is one unit or many")
    if name.endswith("embedding"):
        return -1  # a table of vectors, where each vector is one unit
    if len(shape) == 2:
        return 0
    of_cell = _in_cell(name, beside)
    if of_cell is not None:
        return of_cell
    attention = is_attention(path, groups)
    if len(shape) == 3 and attention:
        return (0, 1) if parents[-1] == "out" else 0
    if _is_gated(tuple(parents), groups):
        return len(shape) - 3
    if "bias" in beside:
        return _beside_bias(caller, path, shape, beside["bias"])
    if len(shape) == 3:
        _refuse(caller, path, shape, "three axes do not say which of them belong to the inputs of a unit")
    if attention or name == "recurrent":
        _refuse(caller, path, shape, "it is laid out neither as a convolution nor as in a single layer")
    return tuple(range(len(shape) - 1))


BLOCK_GRU = {"kernel": 0, "recurrent": 0, "block": 1, "mix": 0, "gates": 1}
"""The input axes of the kernels of a ``BlockGRU``; ``block`` (K, S, S) has three axes."""


def _in_cell(name: str, beside: Group) -> int | None:
    """Returns the input axis of a cell's kernel, which may have leading layer axes; None if it is not a cell's kernel.

    We recognize the two kernels by each other's shape: kernel (I, G, H) and recurrent (H, G, H), or (K, S, G, S) with
    leading blocks or micro-steps. The first pair may also lack G.
    """
    if name == "projection":
        return len(beside[name]) - 2
    if name in BLOCK_GRU and "block" in beside:
        return BLOCK_GRU[name] + len(beside["block"]) - 3
    if name == "kernel" and "decay_logit" in beside:
        return len(beside[name]) - 3  # the blocks of an RG-LRU, (N, S, G, S)
    if name not in ("kernel", "recurrent"):
        return None
    kernel, recurrent = (beside.get(name, ()) for name in ("kernel", "recurrent"))
    fed_back = beside.get("projection", kernel)[-1:]
    for layers in range(min(len(kernel), len(recurrent)) - 1):
        k, r = kernel[layers:], recurrent[layers:]
        if kernel[:layers] != recurrent[:layers]:
            break
        if len(k) in (2, 3) and r[1:] == k[1:] and r[:1] == fed_back:
            return layers
        if (len(k), len(r)) == (3, 4) and r[2] == k[1] and r[1] == r[3] and k[2] in (r[1], r[0] * r[1]):
            return layers + (name == "recurrent")
    if len(kernel) == len(recurrent) == 3 and recurrent[0] == recurrent[2] == kernel[2]:
        return 0  # some gates see only the inputs, or only the state
    return None


def is_attention(path: Path, groups: Mapping[Path, Group]) -> bool:
    """Whether a kernel is one of the four kernels of Flax attention: (I, heads, F), or (heads, F, O) for the output."""
    *above, own, _ = ("", "", *path)
    if own not in ATTENTION:
        return False
    kernels = [groups.get((*above[2:], name), {}).get("kernel", ()) for name in ATTENTION]
    value, out = kernels[2:]
    return min(map(len, kernels)) > 2 and len({*map(len, kernels)}) == 1 and value[-2:] == out[-3:-1]


def _is_gated(parents: Path, groups: Mapping[Path, Group]) -> bool:
    """Whether a kernel (I, G, H) belongs to a cell without a recurrent kernel: its norm has weights for all gates."""
    beside = groups[parents]
    of_norm = {**groups.get((*parents, "norm"), {}), **groups.get((*parents, "norm", "input"), {})}
    *layers, _, gates, hidden = beside["kernel"] if len(beside.get("kernel", ())) > 2 else (0, 0, 0)
    vector = (*layers, gates * hidden)
    return "recurrent" not in beside and any(of_norm.get(name) == vector for name in ("scale", "bias"))


def _beside_bias(caller: str, path: Path, shape: tuple[int, ...], bias: tuple[int, ...]) -> Axis:
    """Infers the axes from the bias. It has one number per unit, so its axes are the unit axes, including the last.

    The bias of gates is flat: one of its axes stands for neighboring kernel axes, (G * H,) for (G, H).
    """
    last = len(shape) - 1
    subsets = [
        axes
        for number in range(len(bias), last + 1)
        for axes in itertools.combinations(range(len(shape)), number)
        if axes[-1:] == (last,)
    ]
    exact = [axes for axes in subsets if tuple(shape[a] for a in axes) == bias]
    places = exact or [axes for axes in subsets if _flattens(shape, axes, bias)]
    if len(places) != 1:
        ways = "along several of its axes" if places else "along none of its axes that end with the last"
        _refuse(caller, path, shape, f"the bias beside it, of shape {bias}, would fit {ways}")
    return tuple(a for a in range(len(shape)) if a not in places[0])


def _flattens(shape: tuple[int, ...], axes: tuple[int, ...], flat: tuple[int, ...]) -> bool:
    """Whether these axes of a shape become ``flat`` if we merge neighboring axes."""
    if not axes or not flat:
        return not axes and not flat
    return any(
        axes[k - 1] - axes[0] == k - 1
        and math.prod(shape[a] for a in axes[:k]) == flat[0]
        and _flattens(shape, axes[k:], flat[1:])
        for k in range(1, len(axes) + 1)
    )


def _refuse(caller: str, path: Path, shape: tuple[int, ...], reason: str) -> NoReturn:
    raise ValueError(
        f"{caller}: {'/'.join(path)} has shape {shape}, and {reason}. Name the axes over which the inputs of a unit "
        f"lie, such as axis={{{'_'.join(path)!r}: (0, 1)}}, or None in their place to leave it alone."
    )


def contracted(equation: str | None) -> tuple[int, ...]:
    """Returns the contracted axes of an einsum's second operand; empty if they are not certain."""
    if equation is None or "." in equation.partition(",")[2].partition("->")[0]:
        return ()
    operand, _, result = equation.replace(" ", "").partition(",")[2].partition("->")
    return tuple(a for a, letter in enumerate(operand) if letter not in result)
