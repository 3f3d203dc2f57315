"""The pre-activations of gates at each place of an image: both products are convolutions."""

import dataclasses
import math
from typing import Any

from jax import lax

from jaxnorm._base.typing import Array, DTypeLike, Float
from jaxnorm.cells.preactivation.centering import center
from jaxnorm.cells.preactivation.matmul import RecurrentKernel
from jaxnorm.cells.preactivation.preactivation import PreActivation
from jaxnorm.cells.preactivation.weights import GateWeights
from jaxnorm.norms.core.moments import statistics_dtype


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution with one number for each axis of an image.

    Attributes:
      strides: distances between neighboring windows.
      dilation: distances between neighboring elements of a window.
      padding: ``"SAME"`` or ``"VALID"``.
    """

    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str

    def image_of(self, image: tuple[int, ...], window: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape of the images that come out."""
        if self.padding == "SAME":
            return tuple(-(-size // stride) for size, stride in zip(image, self.strides, strict=True))
        spans = (dilation * (size - 1) + 1 for dilation, size in zip(self.dilation, window, strict=True))
        sizes = zip(image, spans, self.strides, strict=True)
        return tuple((size - span) // stride + 1 for size, span, stride in sizes)

    def __call__(
        self, x: Float[Array, "..."], kernel: Float[Array, "*window I O"] | RecurrentKernel
    ) -> Float[Array, "..."]:
        r"""Convolves (\*batch, \*image, I), computed and returned in at least float32."""
        array: Any = kernel
        axes: Any = len(self.strides)
        units, inputs = axes + 1, axes
        if isinstance(kernel, RecurrentKernel):
            array = kernel.matrix
            if array is None:
                array, units, inputs = kernel.transposed, inputs, units
        # Products are cast before they are made: the transpose of a convolution takes operands of one dtype only.
        wide = statistics_dtype(array.dtype)
        batch, image = x.shape[: x.ndim - axes - 1], x.shape[x.ndim - axes - 1 :]
        rows = x.astype(array.dtype).astype(wide).reshape(math.prod(batch), *image)
        places = tuple(range(1, axes + 1))
        channels_last = (0, axes + 1, *places)
        y = lax.conv_general_dilated(
            rows,
            array.astype(wide),
            self.strides,
            self.padding,
            rhs_dilation=self.dilation,
            dimension_numbers=lax.ConvDimensionNumbers(channels_last, (units, inputs, *range(axes)), channels_last),
        )
        return y.reshape(*batch, *y.shape[1:])


@dataclasses.dataclass(frozen=True)
class ConvPreActivation(PreActivation):
    r"""Pre-activations with kernels (\*window, I, G*C), gates side by side as in the kernel of one convolution.

    Attributes:
      input_convolution: that of the inputs.
      state_convolution: that of the state.
    """

    input_convolution: Convolution = Convolution((), (), "SAME")
    state_convolution: Convolution = Convolution((), (), "SAME")

    def project_inputs(self, weights: GateWeights, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        """Convolves the inputs of all steps, in at least float32."""
        kernel: Any = weights.kernel
        return self.input_convolution(xs, kernel)

    def project_state(self, weights: GateWeights, h: Float[Array, "..."]) -> Float[Array, "..."]:
        """Convolves the state, in at least float32."""
        kernel: Any = weights.recurrent
        return self.state_convolution(h, kernel)

    def _kernel(self, kernel: Float[Array, "..."], centers: bool, dtype: DTypeLike | None) -> Float[Array, "..."]:
        centered = center(self.groups, kernel) if centers else kernel
        return centered if dtype is None else centered.astype(dtype)
