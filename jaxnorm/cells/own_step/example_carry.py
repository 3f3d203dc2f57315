"""The carry of one example as a hashable value, and its repetition for a batch."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm._base import objects
from jaxnorm._base.typing import Array


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array of a carry: shape, dtype, and its bytes; None for zeros. Keys have an implementation besides."""

    shape: tuple[int, ...]
    dtype: Any
    data: bytes | None = dataclasses.field(repr=False)
    impl: Any = None

    def array(self) -> Array:
        """Makes the array."""
        if self.data is None:
            return jnp.zeros(self.shape, self.dtype)
        numbers = jnp.asarray(np.frombuffer(self.data, self.dtype).reshape(self.shape))
        return numbers if self.impl is None else jax.random.wrap_key_data(numbers, impl=self.impl)


@dataclasses.dataclass(frozen=True)
class ExampleCarry:
    """The carry of one example. Called with the shape of a batch, it gives every example the same."""

    tree: Any
    """The structure."""
    entries: tuple[Entry, ...]

    def __call__(self, batch_shape: tuple[int, ...]) -> Any:
        """Repeats the carry for each example of a batch."""
        arrays = (entry.array() for entry in self.entries)
        return jax.tree.unflatten(self.tree, [jnp.broadcast_to(a, (*batch_shape, *a.shape)) for a in arrays])


def example_carry(caller: str, name: str, tree: Any) -> ExampleCarry:
    """Reads a tree of arrays, of numbers, and of shapes with dtypes (``jax.ShapeDtypeStruct``), which stand for zeros.

    Raises:
      TypeError: a leaf is something else, or a traced array.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    entries = (_entry(caller, name + jax.tree_util.keystr(path), leaf) for path, leaf in leaves)
    return ExampleCarry(structure, tuple(entries))


def _entry(caller: str, name: str, leaf: Any) -> Entry:
    if isinstance(leaf, jax.core.Tracer):
        raise TypeError(
            f"{caller}: {name} is traced by jit, grad or another transformation. Pass it in params, and let {name} be "
            "a function (batch_shape, params) that returns the carry."
        )
    if isinstance(leaf, jax.ShapeDtypeStruct):
        if objects.is_key_dtype(leaf.dtype):
            raise TypeError(f"{caller}: {name} is a key without a value. Write jax.random.key(0), or another key.")
        return Entry(leaf.shape, leaf.dtype, None)
    if not isinstance(leaf, bool | int | float | complex | np.generic | np.ndarray | jax.Array):
        raise TypeError(
            f"{caller}: {name} must be an array, a number or jax.ShapeDtypeStruct(shape, dtype) of one example, or a "
            f"function (batch_shape) that returns the carry; got {objects.describe(leaf)}."
        )
    with jax.ensure_compile_time_eval():  # a spec may be made inside of jit, too
        array, impl = jnp.asarray(leaf), None
        if objects.is_key_dtype(array.dtype):
            array, impl = jax.random.key_data(array), jax.random.key_impl(array)
        return Entry(array.shape, array.dtype, np.asarray(array).tobytes(), impl)
