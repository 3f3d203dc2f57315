"""The matrix products of a cell, and how ``prepare`` readies the weights for them, once a sequence."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxnorm._namedtuple import NamedTuple
from jaxnorm._single_cpu import on_single_cpu
from jaxnorm._typing import Array, DTypeLike, Float
from jaxnorm.cells.preactivation.centering import center
from jaxnorm.norms.base import Normalizer, Params, Reducible
from jaxnorm.norms.core.moments import statistics_dtype

P = TypeVar("P", bound=Any)


class Kernel(NamedTuple):
    """The matrix of a recurrent product, or one per block, either plain or transposed: the other field is None.

    On a CPU, a loop that multiplies by the transpose is several times faster if memory holds the transposed matrix.
    """

    matrix: Float[Array, "*N H O"] | None
    transposed: Float[Array, "*N O H"] | None = None


class GateKernels(NamedTuple):
    """A kernel split into one piece per gate; each piece multiplies its input by its own mask."""

    pieces: tuple[Any, ...]
    masks: Float[Array, "G *B I"]

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the whole kernel."""
        return self.masks.shape[-1], len(self.pieces) * self.pieces[0].shape[-1]

    @property
    def dtype(self) -> Any:
        """The dtype of the kernel."""
        return self.pieces[0].dtype


def scaled(x: Float[Array, "*T I"], mask: Float[Array, "*B I"]) -> Float[Array, "*T I"]:
    """Multiplies ``x`` by a mask for its last axes, in at least float32, and rounds once."""
    dtype = statistics_dtype(x.dtype)
    aligned = mask.astype(dtype).reshape((1,) * (x.ndim - mask.ndim) + mask.shape)
    return (x.astype(dtype) * aligned).astype(x.dtype)


def matmul(x: Float[Array, "*B I"], kernel: Float[Array, "I O"] | Kernel | GateKernels) -> Float[Array, "*B O"]:
    """Computes ``x @ kernel``, accumulated and returned in at least float32."""
    if isinstance(kernel, GateKernels):
        gates = [matmul(scaled(x, mask), piece) for piece, mask in zip(kernel.pieces, kernel.masks, strict=True)]
        return jnp.concatenate(gates, axis=-1)
    array: Any = kernel
    contracted = 0
    if isinstance(kernel, Kernel):
        array, contracted = (kernel.matrix, 0) if kernel.transposed is None else (kernel.transposed, 1)

    def product(x: Array, array: Array) -> Array:
        axes = (((x.ndim - 1,), (contracted,)), ((), ()))
        return lax.dot_general(x, array, axes, preferred_element_type=statistics_dtype(array.dtype))

    return _with_derivative(product, x.astype(array.dtype), array, kernel)


def block_matmul(x: Float[Array, "*B NS"], kernel: Kernel) -> Float[Array, "*B N O"]:
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
    turned = isinstance(kernel, Kernel) and kernel.transposed is not None  # in a loop that transposes it
    return product(x, array) if x.ndim <= 2 or turned else _by_rows(product, x, array)


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


def check_features(caller: str, x: Array, kernel: Array | GateKernels) -> None:
    """Raises ValueError unless the last axis of the input fits the kernel."""
    if x.ndim < 1 or x.shape[-1] != kernel.shape[0]:
        got = x.shape[-1] if x.ndim else "no axis of"
        raise ValueError(
            f"{caller}: xs has {got} features, but params.kernel takes I = {kernel.shape[0]}. "
            "Did the params come from init(key, in_features=...) with another size?"
        )


def merge_gates(leaf: Float[Array, "*lead G H"]) -> Float[Array, "*lead GH"]:
    """Merges the gate axis into the features, the layout of the engine; the order in memory stays the same."""
    return leaf.reshape(*leaf.shape[:-2], -1)


def split_gates(leaf: Float[Array, "*lead GH"], gates: int) -> Float[Array, "*lead G H"]:
    """The inverse of :func:`merge_gates`."""
    return leaf.reshape(*leaf.shape[:-1], gates, -1)


def ready_kernels(
    params: P, input_norm: Normalizer, recurrent_norm: Normalizer, groups: tuple[int, ...], dtype: DTypeLike | None
) -> P:
    """Centers both kernels where a normalizer would subtract the mean of their product, and casts them."""
    kernel = ready_kernel(input_norm, groups, params.kernel, dtype)
    recurrent = ready_kernel(recurrent_norm, groups, params.recurrent, dtype)
    ready: P = params._replace(kernel=kernel, recurrent=Kernel(recurrent))
    return ready


def ready_kernel(
    norm: Normalizer, groups: tuple[int, ...], kernel: Float[Array, "I GH"], dtype: DTypeLike | None
) -> Float[Array, "I GH"]:
    """Centers a kernel if the normalizer of its product would subtract the mean, and casts it unless dtype is None."""
    centered = center(norm, groups, kernel)
    return centered if dtype is None else centered.astype(dtype)


def gather_bias(norm: Normalizer, params: Params, bias: Array | None) -> tuple[Params, Array | None]:
    """Moves the bias of a normalizer into the bias that follows it, so that a step adds one bias instead of two."""
    if not isinstance(norm, Reducible) or not norm.adds_bias_last or params.bias is None:
        return params, bias
    return params._replace(bias=None), add_biases(bias, params.bias)


def add_biases(*biases: Array | None) -> Array | None:
    """Sums biases in at least float32; None if there are none."""
    present = [bias.astype(statistics_dtype(bias.dtype)) for bias in biases if bias is not None]
    return sum(present[1:], start=present[0]) if present else None
