"""The matrix products of a cell, accumulated in at least float32."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxnorm._base.devices import on_single_cpu
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Float
from jaxnorm.norms.core.moments import statistics_dtype


class RecurrentKernel(NamedTuple):
    """The matrix of a recurrent product, or one per block, either plain or transposed: the other field is None.

    On a CPU, a loop that multiplies by the transpose is several times faster if memory holds the transposed matrix.
    """

    matrix: Float[Array, "*N H O"] | None
    transposed: Float[Array, "*N O H"] | None = None


def scaled(x: Float[Array, "*T I"], mask: Float[Array, "*B I"]) -> Float[Array, "*T I"]:
    """Multiplies ``x`` by a mask for its last axes, in at least float32, and rounds once."""
    dtype = statistics_dtype(x.dtype)
    aligned = mask.astype(dtype).reshape((1,) * (x.ndim - mask.ndim) + mask.shape)
    return (x.astype(dtype) * aligned).astype(x.dtype)


def matmul(x: Float[Array, "*B I"], kernel: Float[Array, "I *O"] | RecurrentKernel) -> Float[Array, "..."]:
    """Computes ``x @ kernel``, accumulated and returned in at least float32."""
    array: Any = kernel
    contracted = 0
    if isinstance(kernel, RecurrentKernel):
        array, contracted = (kernel.matrix, 0) if kernel.transposed is None else (kernel.transposed, 1)

    def product(x: Array, array: Array) -> Array:
        axes = (((x.ndim - 1,), (contracted,)), ((), ()))
        return lax.dot_general(x, array, axes, preferred_element_type=statistics_dtype(array.dtype))

    return _with_derivative(product, x.astype(array.dtype), array, kernel)


def matmul_by_gate(
    x: Float[Array, "*T I"], kernels: tuple[Any, ...], masks: Float[Array, "G *B I"]
) -> Float[Array, "*T GO"]:
    """Multiplies ``x`` by the kernel of each gate, under the mask of that gate, and concatenates the products."""
    products = [matmul(scaled(x, mask), kernel) for mask, kernel in zip(masks, kernels, strict=True)]
    return jnp.concatenate(products, axis=-1)


def block_matmul(x: Float[Array, "*B NS"], kernel: RecurrentKernel) -> Float[Array, "*B N O"]:
    """Multiplies each of N parts of the features by its own matrix (N, S, O), in at least float32."""
    array: Any = kernel.matrix if kernel.transposed is None else kernel.transposed
    contracted = 1 if kernel.transposed is None else 2

    def product(x: Array, array: Array) -> Array:
        parts = x.reshape(*x.shape[:-1], array.shape[0], array.shape[contracted])
        axes = (((parts.ndim - 1,), (contracted,)), ((parts.ndim - 2,), (0,)))
        y = lax.dot_general(parts, array, axes, preferred_element_type=statistics_dtype(array.dtype))
        return jnp.moveaxis(y, 0, -2)

    return _with_derivative(product, x.astype(array.dtype), array, kernel)


Product: TypeAlias = Callable[[Array, Array], Array]


def _with_derivative(product: Product, x: Array, array: Array, kernel: Any) -> Array:
    """Computes a product; its derivative merges the leading axes into rows where that matters."""
    in_loop = isinstance(kernel, RecurrentKernel) and kernel.transposed is not None  # only loops hold it transposed
    on_mesh = not isinstance(kernel, RecurrentKernel) and array.ndim == 3  # gates on an axis of their own
    return product(x, array) if x.ndim <= 2 or in_loop or on_mesh else _by_rows(product, x, array)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _by_rows(product: Product, x: Array, array: Array) -> Array:
    """A product that keeps the leading axes of ``x``, but computes the kernel's gradient over merged rows.

    The gradient sums over steps and examples. XLA copies an operand into a new layout if a product sums over two axes;
    so on a single CPU we merge them into one. The product itself needs no merging: it contracts a single axis.
    """
    return product(x, array)


def _by_rows_jvp(product: Product, primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    (x, array), (t_x, t_array) = primals, tangents

    def merged(x: Array, array: Array) -> Array:
        y = product(x.reshape(-1, x.shape[-1]), array)
        return y.reshape(*x.shape[:-1], *y.shape[1:])

    y = product(x, array)
    parts = []  # symbolic zeros: no product for an argument without a tangent
    if not isinstance(t_x, SymbolicZero):
        parts.append(product(t_x, array))
    if not isinstance(t_array, SymbolicZero):
        parts.append(on_single_cpu(merged, product, x, t_array))  # its transpose is the kernel's gradient
    return y, sum(parts[1:], start=parts[0])


_by_rows.defjvp(_by_rows_jvp, symbolic_zeros=True)


def check_features(caller: str, x: Array, features: int) -> None:
    """Raises ValueError unless the last axis of the input fits the kernel."""
    if x.ndim < 1 or x.shape[-1] != features:
        got = x.shape[-1] if x.ndim else "no axis of"
        raise ValueError(
            f"{caller}: xs has {got} features, but params.kernel takes I = {features}. "
            "Did the params come from init(key, in_features=...) with another size?"
        )
