"""Kernels with unit vectors by a loop in NumPy at float64, and an optimizer that makes them."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnorm import optim

close = partial(chex.assert_trees_all_close, rtol=2e-5, atol=2e-5)


def places(shape, spanned):
    """The places of all parts of a kernel that span the given axes: its units, or its matrices."""
    along = [a for a in range(len(shape)) if a not in spanned]
    for at in np.ndindex(*[shape[a] for a in along]):
        place = [slice(None)] * len(shape)
        for a, index in zip(along, at, strict=True):
            place[a] = index
        yield tuple(place)


def unit_vectors(kernel, inputs):
    """The kernel with the weights of each unit divided by their length, one unit after the other."""
    kernel = np.asarray(kernel, np.float64)
    made = np.empty_like(kernel)
    for place in places(kernel.shape, inputs):
        made[place] = kernel[place] / np.sqrt((kernel[place] ** 2).sum())
    return made


def normalized(tree, axes):
    """The tree with unit vectors in its kernels, by the ends of their names."""

    def of_leaf(path, leaf):
        names = "_".join(str(entry.key) for entry in path)
        found = [inputs for end, inputs in axes.items() if f"_{names}".endswith(f"_{end}")]
        return jnp.asarray(unit_vectors(leaf, found[0]), leaf.dtype) if found else leaf

    return jax.tree_util.tree_map_with_path(of_leaf, tree)


def project(params, **options):
    """One update without a gradient."""
    optimizer = optax.chain(optax.sgd(0.0), optim.project_weights(**options))
    update = jax.jit(
        lambda params: optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    )
    return optax.apply_updates(params, update(params)[0])
