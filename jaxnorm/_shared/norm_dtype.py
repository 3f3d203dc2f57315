"""The dtypes of a normalizer as a module: the dtype to compute in, and the dtype of the result."""

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, DTypeLike


def data_in(x: Array, dtype: DTypeLike | None) -> Array:
    """Converts data to the dtype to compute in, with the digits of the data and of the result; None keeps theirs."""
    x = validate.real("Norm", "x", x)
    if dtype is None:
        return x
    with jax.numpy_dtype_promotion("standard"):  # bfloat16 with float32 is an error in strict mode
        return x.astype(jnp.promote_types(x.dtype, dtype))


def result_in(y: Array, dtype: DTypeLike | None) -> Array:
    """Converts a result to its dtype; None keeps it."""
    return y if dtype is None else y.astype(dtype)
