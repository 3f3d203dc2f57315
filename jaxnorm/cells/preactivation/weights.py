"""The weights of gates, prepared for a sequence."""

from typing import Any

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, DType, Float
from jaxnorm.cells.hooks import GateMasks
from jaxnorm.cells.preactivation.matmul import RecurrentKernel
from jaxnorm.cells.sites import CellNorms


class Biases(NamedTuple):
    """Where biases enter; None for no bias there."""

    end: Float[Array, " GH"] | None = None
    """After all norms."""
    input: Float[Array, " GH"] | None = None
    """Before the input norm."""
    recurrent: Float[Array, " GH"] | None = None
    """Before the recurrent norm."""
    recurrent_out: Float[Array, " GH"] | None = None
    """After the recurrent norm."""


class GateParams(NamedTuple):
    """The params that a pre-activation object prepares, for cells that have them in another structure."""

    kernel: Float[Array, "I *GH"] | None
    """None for gates without an input product."""
    recurrent: Float[Array, "..."] | None
    """None for gates without a recurrent product."""
    norm: CellNorms


class GateWeights(NamedTuple):
    """Kernels flat, centered and cast; biases and norm biases that a step would add one after the other, gathered."""

    kernel: Any
    """(I, G*H), or (I, G, H) where hidden features may be spread over devices; vectors then are (G, H) too. A tuple
    holds one (I, H) for each gate, which then has a mask of its own; None for gates without an input product."""
    recurrent: RecurrentKernel | tuple[RecurrentKernel, ...] | Float[Array, "H G H"]
    norm: CellNorms
    bias: Float[Array, " GH"] | None = None
    """Added to the normalized input product."""
    input_bias: Float[Array, " GH"] | None = None
    """Added to the input product before its norm."""
    recurrent_bias: Float[Array, " GH"] | None = None
    """Added to the recurrent product before its norm."""
    recurrent_out: Float[Array, " LH"] | None = None
    """Added to the normalized recurrent product of the last L gates, where it cannot be merged into ``bias``."""
    outer_bias: Float[Array, " GH"] | None = None
    """Added to the normalized sum."""
    extra: Any = ()
    """Further weights of a cell."""
    gate_masks: GateMasks | None = None
    """One mask for each gate; nothing is centered then."""

    @property
    def gates_apart(self) -> bool:
        """Whether gates are an axis of their own."""
        return not isinstance(self.recurrent, tuple)

    @property
    def dtype(self) -> DType:
        """The compute dtype."""
        dtype: DType = self._one_kernel.dtype
        return dtype

    @property
    def in_features(self) -> int:
        """I, the number of inputs."""
        size: int = self._one_kernel.shape[0]
        return size

    @property
    def _one_kernel(self) -> Any:
        return self.kernel[0] if isinstance(self.kernel, tuple) else self.kernel
