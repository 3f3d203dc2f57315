"""The leaves of a tree that have derivatives: floating-point and complex ones, not integers, booleans and keys.

The backward pass works on trees with None in place of all other leaves.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._base.typing import PyTree
from jaxnorm.norms.core.moments import statistics_dtype


def is_differentiable(leaf: Any) -> bool:
    """Whether an array, or the description of one, has a derivative."""
    return bool(jnp.issubdtype(leaf.dtype, jnp.inexact))


def differentiable(tree: PyTree) -> PyTree:
    """Replaces all leaves without derivatives by None."""
    return jax.tree.map(lambda leaf: leaf if is_differentiable(leaf) else None, tree)


def join(part: PyTree, whole: PyTree) -> PyTree:
    """Fills the gaps that :func:`differentiable` left in ``part`` with the leaves of ``whole``."""
    return jax.tree.map(lambda a, b: b if a is None else a, part, whole, is_leaf=lambda node: node is None)


def vjp(function: Callable[..., PyTree], *primals: PyTree) -> tuple[PyTree, Callable[..., Any]]:
    """Like ``jax.vjp``, with cotangents for the leaves that have derivatives only, of arguments and of results."""

    def of_parts(*parts: PyTree) -> tuple[PyTree, PyTree]:
        results = function(*join(parts, primals))
        return differentiable(results), results

    _, transpose, results = jax.vjp(of_parts, *differentiable(primals), has_aux=True)
    return results, transpose


def widened(tree: PyTree) -> PyTree:
    """Casts floating-point leaves to at least float32, the dtype in which their cotangents add up."""
    return jax.tree.map(
        lambda leaf: leaf.astype(statistics_dtype(leaf.dtype)) if is_differentiable(leaf) else leaf, tree
    )


def narrowed(tree: PyTree, like: PyTree) -> PyTree:
    """Casts the leaves back to the dtypes that they had."""
    return jax.tree.map(lambda leaf, old: leaf.astype(old.dtype) if is_differentiable(old) else leaf, tree, like)
