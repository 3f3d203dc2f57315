"""The first carry of a sequence: zeros or learned, with noise, with a count of steps."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxnorm._base import objects
from jaxnorm._base.typing import Array, DType, DTypeLike
from jaxnorm.cells.base import Cell, CountedCarry, Key
from jaxnorm.cells.hooks import hooks
from jaxnorm.norms.base import Params


def learned_carry(caller: str, params: Params | None) -> Any:
    """Returns the initial carry among the weights of a cell; None if it is not learned or there are no weights."""
    if params is not None and not hasattr(params, "carry"):
        raise TypeError(
            f"{caller}: params must be the weights of the cell, as cell.init makes them, got "
            f"{objects.describe(params)}. "
            f"{objects.restore(params, 'params', caller.split('.')[0] + 'Params', 'cell.init(key, in_features)')}"
        )
    return None if params is None else params.carry


def initial_entry(learned: Array | None, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Makes one entry of the initial carry: the learned values, broadcast to every example, or zeros."""
    return jnp.zeros(shape, dtype) if learned is None else jnp.broadcast_to(learned.astype(dtype), shape)


def add_noise(caller: str, h: Array, deviation: float, key: Key | None) -> Array:
    """Adds independent Gaussian noise to the initial state of each example."""
    if deviation == 0.0:
        return h
    if key is None:
        raise ValueError(
            f"{caller}: initial_noise={deviation} needs randomness, but key is None. "
            "Pass key=jax.random.key(...), in evaluation too, or an initial carry."
        )
    return h + jnp.asarray(deviation, h.dtype) * jax.random.normal(key, h.shape, h.dtype)


def counted(carry: Any, batch_shape: tuple[int, ...]) -> CountedCarry:
    """Adds a count of steps, for cells with separate statistics for each step."""
    return CountedCarry(carry, jnp.zeros(batch_shape, jnp.int32))


def spread(carry: Any, sharding: PartitionSpec | NamedSharding | None) -> Any:
    """Spreads the batch axes of every entry of a carry over a mesh; a PartitionSpec is for the mesh that is set."""
    if sharding is None:
        return carry
    given: Any = sharding
    named = isinstance(sharding, NamedSharding)
    mesh, spec = (given.mesh, given.spec) if named else (jax.sharding.get_abstract_mesh(), given)
    if not any(spec):
        return carry
    explicit = all(kind == AxisType.Explicit for kind in mesh.axis_types)
    place: Any = jax.reshard if explicit else lax.with_sharding_constraint

    def one(entry: Array) -> Array:
        whole = PartitionSpec(*spec, *(None,) * (entry.ndim - len(spec)))  # type: ignore[no-untyped-call]
        placed: Array = place(entry, NamedSharding(mesh, whole) if named else whole)
        return placed

    return jax.tree.map(one, carry)


def cast(entry: Array, dtype: Any) -> Array:
    """Casts an entry of a carry; one that has the dtype stays as it is, since keys cannot be cast."""
    return entry if entry.dtype == dtype else entry.astype(dtype)


def compute_dtype(cell: Cell, params: Params, x_dtype: Any) -> DType:
    """Returns the dtype of products and outputs: the cell's, else the promotion of inputs and kernels.

    Without a kernel it is that of the inputs, or the default one for inputs that are no floating-point numbers.
    """
    if cell.dtype is not None:
        return jnp.dtype(cell.dtype)
    if not hooks(cell).fixes_params:
        return jnp.dtype(x_dtype) if jnp.issubdtype(x_dtype, jnp.inexact) else jnp.result_type(float)
    # dtype=None asks for promotion, so it must work in strict mode too, which refuses bfloat16 with float32.
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(x_dtype, params.kernel.dtype)


def in_floating_point(xs: Array, dtype: DType) -> Array:
    """Converts integer or boolean inputs to the compute dtype; others keep their own."""
    return xs if jnp.issubdtype(xs.dtype, jnp.floating) else xs.astype(dtype)
