"""The common base of cells similar to LSTM and GRU: gates side by side, two products, one bias after all norms."""

import dataclasses
from typing import Any, ClassVar

import jax

from jaxnorm._base.typing import Array, Initializer
from jaxnorm.cells import initializers
from jaxnorm.cells.base import Key
from jaxnorm.cells.cell_base import CellBase
from jaxnorm.cells.initializers import GatesInitializer
from jaxnorm.cells.preactivation.methods import PreActivationMethods
from jaxnorm.cells.preactivation.preactivation import PreActivation
from jaxnorm.cells.sites import CellNorms
from jaxnorm.norms.identity import Identity


@dataclasses.dataclass(frozen=True)
class GatedCellBase(PreActivationMethods, CellBase):
    """The common base of cells with several gates; not a cell itself.

    Attributes:
      gate_groups: sizes of the groups of consecutive gates that share statistics.
      recurrent_init: initializer of U. It draws each gate separately; a tuple gives one initializer per gate.
    """

    _: dataclasses.KW_ONLY
    gate_groups: tuple[int, ...] = (1,)
    recurrent_init: GatesInitializer | None = initializers.orthogonal

    gates_apart: ClassVar[bool] = False
    """Whether the step takes gates from the pre-activation object alone, so that hidden features may be spread."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_groups(type(self).__name__, self.gate_groups, self.gate_count)
        check_vectors(type(self).__name__, self.sites, self.site_shapes(), self.gate_groups)

    @property
    def gates(self) -> PreActivation:
        """The pre-activation object of all gates."""
        return PreActivation(self.sites, self.gate_groups, by_gate=self.gates_apart, caller=type(self).__name__)

    def init_gated(
        self, key: Key, in_features: int, gate: int = 0, start: float | Initializer | None = None
    ) -> dict[str, Any]:
        """Draws the weights, keyed by name; ``start`` (number or initializer) sets the initial bias of one gate."""
        kernel, recurrent = self.init_kernels(self.recurrent_init, key, in_features)
        bias, norm = self.start_bias(key, gate, start), self.fresh_norms(key)
        return {
            "kernel": kernel,
            "recurrent": recurrent,
            "bias": bias if self.use_bias else None,
            "norm": norm if self.use_bias else shift_last_norm(self.sites, norm, bias),
            "carry": self.fresh_carry(),
        }


def shift_last_norm(norms: CellNorms, weights: CellNorms, bias: Array) -> CellNorms:
    """Adds initial biases (G*H,) to the bias of the last norm before the gates that has one."""
    for name in ("summed", "recurrent", "input"):
        own = getattr(weights, name)
        if getattr(norms, name) != Identity() and getattr(own, "bias", None) is not None:
            return weights._replace(**{name: own._replace(bias=own.bias + bias)})
    return weights


def check_groups(caller: str, groups: tuple[int, ...], gates: int) -> None:
    """Raises ValueError unless the group sizes are positive and add up to the number of gates."""
    if not isinstance(groups, tuple) or not all(isinstance(g, int) and g > 0 for g in groups) or sum(groups) != gates:
        raise ValueError(
            f"{caller}: gate_groups must be a tuple of positive sizes that add up to {gates}, got {groups!r}. "
            f"({gates},) shares statistics over all gates, {(1,) * gates} keeps each gate apart."
        )


def check_vectors(caller: str, norms: CellNorms, shapes: CellNorms, groups: tuple[int, ...]) -> None:
    """Raises ValueError if a norm of several groups has weights that are not vectors over the features."""
    for name in ("input", "recurrent", "summed"):
        norm, shape = getattr(norms, name), getattr(shapes, name)
        if len(groups) == 1 or norm == Identity():
            continue
        for leaf in jax.tree.leaves(jax.eval_shape(lambda norm=norm, shape=shape: norm.init(shape))):
            if leaf.shape[-1:] != shape[-1:]:
                raise ValueError(
                    f"{caller}: {norm!r} at the site {name!r} has a weight of shape {leaf.shape} for all gates, which "
                    f"cannot be cut into the groups gate_groups={groups!r}. Pass gate_groups=({sum(groups)},), or a "
                    "normalizer with a weight for each feature."
                )
