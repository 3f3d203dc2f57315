"""The first carry of a sequence: zeros or learned, with noise, with a count of steps."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxnorm._base import objects
from jaxnorm._base.sizes import divides
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


def spread(carry: Any, batch_shape: tuple[int, ...], sharding: PartitionSpec | NamedSharding | None) -> Any:
    """Spreads every entry of a carry over a mesh; a PartitionSpec is for the mesh that is set."""
    if sharding is None:
        return carry
    given: Any = sharding
    named = isinstance(sharding, NamedSharding)
    mesh, spec = (given.mesh, given.spec) if named else (jax.sharding.get_abstract_mesh(), given)
    names = [_names(each) for each in spec]
    if not any(names):
        return carry
    _check_sharding(mesh, names, batch_shape, given)
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    explicit = all(kinds[name] == AxisType.Explicit for each in names for name in each)
    place: Any = jax.reshard if explicit else lax.with_sharding_constraint

    def one(entry: Array) -> Array:
        own = tuple(spec)[: entry.ndim]  # a count of steps has no features
        whole = PartitionSpec(*own, *(None,) * (entry.ndim - len(own)))  # type: ignore[no-untyped-call]
        placed: Array = place(entry, NamedSharding(mesh, whole) if named else whole)
        return placed

    return jax.tree.map(one, carry)


def _names(entry: Any) -> tuple[str, ...]:
    """The mesh axes that one entry of a PartitionSpec names."""
    return entry if isinstance(entry, tuple) else () if entry is None else (entry,)


def _check_sharding(mesh: Any, names: list[tuple[str, ...]], batch_shape: tuple[int, ...], given: Any) -> None:
    """Raises ValueError where a sharding does not fit the mesh or the batch."""
    if mesh.empty:
        raise ValueError(
            f"initial_carry: out_sharding={given} is for the mesh that is set, and none is. Call "
            "jax.set_mesh(mesh), or pass jax.sharding.NamedSharding(mesh, spec)."
        )
    for axis, each in enumerate(names):
        if unknown := [name for name in each if name not in mesh.axis_names]:
            raise ValueError(
                f"initial_carry: out_sharding={given} names the mesh axis {unknown[0]!r}; the mesh has "
                f"{', '.join(map(repr, mesh.axis_names))}."
            )
        devices = math.prod(mesh.shape[name] for name in each)
        if axis < len(batch_shape) and not divides(devices, batch_shape[axis]):
            raise ValueError(
                f"initial_carry: out_sharding={given} spreads axis {axis} of batch_shape={batch_shape} over {devices} "
                f"devices, which do not divide {batch_shape[axis]}. Pad the batch, or leave this axis out."
            )


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
