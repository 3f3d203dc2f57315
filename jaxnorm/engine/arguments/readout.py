"""The function that reads the outputs of a run, its targets, and what it returns."""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._base import objects, validate
from jaxnorm._base.sizes import known
from jaxnorm._base.typing import Array, DType, PyTree
from jaxnorm.engine.loops.differentiable import is_differentiable
from jaxnorm.engine.loops.scan import select
from jaxnorm.norms.core.moments import statistics_dtype

FORM = "(head, y, target) that returns arrays (*B, ...)"


def check_function(caller: str, function: Any) -> None:
    """Raises TypeError unless ``function`` can be called with three arguments and be hashed."""
    if isinstance(function, type) or not callable(function) or objects.is_spec(function):
        raise TypeError(
            f"{caller}: function must be a function {FORM}, got {objects.describe(function)}. It comes after xs: "
            f"{caller}(cell, params, xs, function, head, targets)."
        )
    try:
        hash(function)
    except TypeError:
        raise TypeError(
            f"{caller}: function must be hashable, so that its program is compiled once, got "
            f"{objects.describe(function)}. Write a plain function, and pass arrays in head."
        ) from None
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions in C have none
        return
    try:
        signature.bind(None, None, None)
    except TypeError:
        raise TypeError(
            f"{caller}: function must be a function {FORM}, got one of {signature}. It gets head and target also where "
            "they are None."
        ) from None


def check_targets(caller: str, targets: Any, layout: tuple[int, ...]) -> Any:
    """Returns targets as arrays; raises unless each begins with the axes of steps and examples of xs."""

    def check(path: Any, leaf: Any) -> Array:
        name = f"targets{jax.tree_util.keystr(path)}"
        array = validate.array(caller, name, leaf)
        hint = "There is one target for each step of each example; what all steps share belongs to head."
        validate.shape(caller, name, array.shape[: len(layout)], layout, "xs.shape without features, (T, *B)", hint)
        return array

    return jax.tree_util.tree_map_with_path(check, targets)


class Readout:
    """Applies a function to the outputs of some steps at once, and sums over them."""

    def __init__(self, caller: str, function: Callable[[Any, Any, Any], Any], batch_shape: tuple[int, ...]) -> None:
        self.caller, self.function, self.batch_shape = caller, function, batch_shape

    def __call__(self, head: PyTree, outputs: PyTree, targets: PyTree, where: Array | None) -> PyTree:
        """Returns the sums over the leading axis, without the steps that are masked."""
        if where is not None:
            outputs = select(where, outputs, self._instead(outputs, 1.0))
            targets = select(where, targets, self._instead(targets, 0.5))
        values = jax.vmap(lambda y, target: self._checked(self.function(head, y, target)))(outputs, targets)
        if where is not None:
            values = select(where, values, jax.tree.map(jnp.zeros_like, values))
        return jax.tree.map(lambda value: jnp.sum(value, axis=0, dtype=sum_dtype(value.dtype)), values)

    def _instead(self, tree: PyTree, scale: float) -> PyTree:
        """What the function sees at masked steps.

        Its value there is dropped, but a derivative that is not finite times zero would be NaN. So we hand it different
        numbers between zero and one, where logarithms, roots, norms and quotients have derivatives.
        """
        lead = 1 + len(self.batch_shape)

        def leaf(like: Array) -> Array:
            if objects.is_key_dtype(like.dtype):
                return like
            if not is_differentiable(like):
                return jnp.zeros_like(like)
            shape = like.shape[lead:]
            size = math.prod(shape)
            values = jnp.arange(1, size + 1, dtype=jnp.float32) * (scale / (size + 1))
            return jnp.zeros_like(like) + values.astype(like.dtype).reshape((1,) * lead + shape)

        return jax.tree.map(leaf, tree)

    def _checked(self, values: Any) -> Any:
        if not jax.tree.leaves(values):
            raise TypeError(
                f"{self.caller}: function must return an array (*B, ...) or a tree of them, got "
                f"{objects.describe(values)}. Return the losses of one step, one for each example."
            )

        def check(path: Any, value: Any) -> Array:
            name = f"function(...){jax.tree_util.keystr(path)}"
            array = validate.array(self.caller, name, value)
            if array.shape[: len(self.batch_shape)] != self.batch_shape:
                raise ValueError(
                    f"{self.caller}: {name} must begin with the axes of the batch, {self.batch_shape}, got shape "
                    f"{array.shape}. Return one value for each example: the sum over time is taken here, and you add "
                    "up examples outside."
                )
            return array

        return jax.tree_util.tree_map_with_path(check, values)


def sum_dtype(dtype: Any) -> DType:
    """The dtype of a sum over time: at least float32, and integers of at least 32 bits for counts."""
    if jnp.issubdtype(dtype, jnp.inexact):
        return statistics_dtype(dtype)
    wide: DType = jnp.dtype(dtype)
    return wide if wide.itemsize >= 4 else jnp.dtype(jnp.int32)


def largest(jaxpr: Any) -> int | None:
    """The number of bytes of the largest array that a program makes; None if a size is not known."""
    sizes = [math.prod(aval.shape) * aval.dtype.itemsize for aval in _results(jaxpr)]
    return max(sizes, default=0) if all(map(known, sizes)) else None


def _results(jaxpr: Any) -> Iterator[Any]:
    """The shapes and dtypes of all results in a program, those of inner programs too."""
    for equation in jaxpr.eqns:
        yield from (variable.aval for variable in equation.outvars if hasattr(variable.aval, "shape"))
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _results(inner)
