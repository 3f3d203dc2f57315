"""Array aliases, and the legend of the axis letters in all annotations.

T time, B batch (any number of axes, or none: ``*B``), I input features, G gates, H hidden features,
F features of a normalizer's input, R rows of per-step running statistics.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike as ArrayLike
from jax.typing import DTypeLike as DTypeLike
from jaxtyping import AbstractDtype
from jaxtyping import Array as Array
from jaxtyping import Bool as Bool
from jaxtyping import Float as Float
from jaxtyping import Int as Int
from jaxtyping import Integer as Integer
from jaxtyping import PRNGKeyArray as PRNGKeyArray
from jaxtyping import Shaped as Shaped

from jaxnorm._base.axis_slice import AxisSlice

if TYPE_CHECKING:
    from jaxtyping import Real as Real
else:

    class Real(AbstractDtype):
        """Data: floating-point numbers, or integers and booleans that we convert to them."""

        dtypes = (*Float.dtypes, *Integer.dtypes, *Bool.dtypes)


AnyArray: TypeAlias = Array | np.ndarray[Any, Any]
"""An array of JAX or of NumPy: lengths and masks come from the host, as a rule."""
DType: TypeAlias = np.dtype[Any]
Axis: TypeAlias = int | tuple[int, ...] | slice | AxisSlice
"""One axis, several, or a slice of the axes that an array has: ``slice(1, None)`` is all but the first."""
AxisName: TypeAlias = str | tuple[str, ...]
AxisIndexGroups: TypeAlias = Sequence[Sequence[int]]
"""Groups of members of a named axis, as in ``jax.lax.psum``: ``((0, 1), (2, 3))``."""
Initializer: TypeAlias = Callable[..., jax.Array]
"""``(key, shape, dtype) -> array``, as in ``jax.nn.initializers``."""

ParamsInitializer: TypeAlias = Callable[[Any, int], Any]
"""``(key, in_features) -> params``: draws all weights of a cell."""

PyTree: TypeAlias = Any
"""Any tree of arrays; we use it where another object defines the structure."""
