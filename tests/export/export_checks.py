"""Programs with free sizes, written to bytes and read back, beside the direct call."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax import export

OPTIMIZER = optax.adam(1e-2)


def check_reloaded(function: Callable[..., Any], free: tuple[Any, ...], *calls: tuple[Any, ...]) -> None:
    """Exports a function for arguments with free sizes; the bytes, read back, give the values of the function itself.

    Args:
      function: any pure function of trees.
      free: its arguments as shapes and dtypes, with symbols for what is free.
      *calls: arguments to compare with.
    """
    pytest.importorskip("flatbuffers", reason="jax.export needs flatbuffers to write bytes")
    run = jax.jit(function)
    reloaded = export.deserialize(export.export(run)(*free).serialize())
    for arguments in calls:
        got, expected = reloaded.call(*arguments), run(*arguments)
        assert jax.tree.structure(got) == jax.tree.structure(expected)
        for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6 * max(1.0, np.abs(other).max(initial=0.0)))


def shapes(tree: Any) -> Any:
    """Shapes and dtypes of a tree."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def training(loss: Callable[..., Any]) -> Callable[..., Any]:
    """One step of Adam; ``loss(params, *rest)`` gives a number and what else there is.

    The state of the optimizer is a list of its arrays: the types of optax are not registered for serialization.
    """

    def step(params: Any, state: list[Any], *rest: Any) -> Any:
        structure = jax.tree.structure(jax.eval_shape(OPTIMIZER.init, params))
        (value, more), gradients = jax.value_and_grad(loss, has_aux=True)(params, *rest)
        with jax.numpy_dtype_promotion("standard"):  # optax divides by counts
            updates, new = OPTIMIZER.update(gradients, jax.tree.unflatten(structure, state), params)
            params = optax.apply_updates(params, updates)
        return params, jax.tree.leaves(new), value, gradients, more

    return step


def begin(params: Any) -> list[Any]:
    """The state of the optimizer before the first step."""
    return jax.tree.leaves(OPTIMIZER.init(params))
