"""What the tests of the Flax modules share: modules with given weights, and comparison of trees."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
from flax import nnx

LENGTHS = jnp.asarray([5, 2, 3])
close = partial(chex.assert_trees_all_close, rtol=2e-4, atol=2e-5)


def nnx_parts(build):
    """The graph of an NNX module and the places of its variables; nothing is computed."""
    return nnx.split(nnx.eval_shape(build))


def nnx_with(parts, *named):
    """A module with the given weights and statistics."""
    graph, state = parts
    state = jax.tree.map(lambda leaf: leaf, state)
    pure = {}
    for tree in named:
        merge_into(pure, tree)
    nnx.replace_by_pure_dict(state, pure)
    return nnx.merge(graph, state)


def merge_into(pure, tree):
    for name, value in tree.items():
        if isinstance(value, dict):
            merge_into(pure.setdefault(name, {}), value)
        else:
            pure[name] = value


def same(results):
    """The first result, that of the core, is that of the others."""
    for other in results[1:]:
        close(results[0], other)


def nnx_stats(module):
    return nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))
