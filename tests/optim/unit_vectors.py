"""Kernels with unit vectors by a loop in NumPy at float64, and an optimizer that makes them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnorm import optim


def unit_vectors(kernel, inputs):
    """The kernel with the weights of each unit divided by their length, one unit after the other."""
    kernel = np.asarray(kernel, np.float64)
    made = np.empty_like(kernel)
    along = [a for a in range(kernel.ndim) if a not in inputs]
    for unit in np.ndindex(*[kernel.shape[a] for a in along]):
        place = [slice(None)] * kernel.ndim
        for a, index in zip(along, unit, strict=True):
            place[a] = index
        made[tuple(place)] = kernel[tuple(place)] / np.sqrt((kernel[tuple(place)] ** 2).sum())
    return made


def normalized(tree, axes):
    """The tree with unit vectors in its kernels, by the ends of their names."""

    def of_leaf(path, leaf):
        names = "_".join(str(entry.key) for entry in path)
        found = [inputs for end, inputs in axes.items() if f"_{names}".endswith(f"_{end}")]
        return jnp.asarray(unit_vectors(leaf, found[0]), leaf.dtype) if found else leaf

    return jax.tree_util.tree_map_with_path(of_leaf, tree)


def close(got, want, tolerance=2e-5):
    with jax.numpy_rank_promotion("allow"):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), got, want)


def project(params, **options):
    """One update without a gradient."""
    optimizer = optax.chain(optax.sgd(0.0), optim.project_weights(**options))
    update = jax.jit(
        lambda params: optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    )
    return optax.apply_updates(params, update(params)[0])
