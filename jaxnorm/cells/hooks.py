"""The declared hooks of a cell: what wrappers, the engine and the Flax modules may ask besides the protocol."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Axis, Float
from jaxnorm.norms.base import Params


class GateMasks(NamedTuple):
    """Factors of the inputs and of the state, with a mask for each gate; None means no mask."""

    input: Float[Array, "G *B I"] | None = None
    state: Float[Array, "G *B H"] | None = None


class CellHooks:
    """The hooks with their defaults; a cell overrides those that hold for it."""

    @property
    def feature_axes(self) -> int:
        """The number of trailing axes of inputs, outputs and carries that are features of one example."""
        return 1

    @property
    def kernel_axes(self) -> Mapping[str, Axis]:
        """The axes that hold the inputs of a unit, keyed by the name of each kernel among the weights."""
        return MappingProxyType({})

    @property
    def gate_count(self) -> int:
        """G, the number of pre-activations for each hidden feature."""
        return 1

    @property
    def supports_candidate_scale(self) -> bool:
        """Whether ``step`` multiplies the candidate by ``t.candidate_scale``."""
        return False

    @property
    def supports_gate_masks(self) -> bool:
        """Whether ``prepare`` takes ``gate_masks``, a :class:`GateMasks`."""
        return False

    @property
    def multiplies_state(self) -> bool:
        """Whether ``project_state`` multiplies ``carry.h`` by the weight ``recurrent``."""
        return True

    @property
    def uses_age(self) -> bool:
        """Whether ``step`` and ``coefficients`` need the age of each example; the carry then counts steps."""
        return False

    @property
    def needs_key(self) -> bool:
        """Whether the cell needs a key for masks."""
        return False

    @property
    def fixes_params(self) -> bool:
        """Whether ``init`` says which weights the cell takes; a cell that does not takes any tree, and any inputs."""
        return True

    def in_features(self, params: Params) -> int | None:
        """I, the number of inputs that the weights are made for; None if there is no weight ``kernel`` that tells."""
        kernel = getattr(params, "kernel", None)
        return None if kernel is None else kernel.shape[0]


def hooks(cell: Any) -> CellHooks:
    """Returns the hooks of a cell: its own, or the defaults if it follows only the protocol."""
    return cell if isinstance(cell, CellHooks) else CellHooks()
