"""What all ports share: weights at random in the layout of the original, and what counts as equal."""

import jax
import numpy as np


def drawn(rng, *shape):
    return (0.5 * rng.standard_normal(shape)).astype(np.float32)


def drawn_like(tree, rng):
    """Random numbers for every array of a tree of arrays or shapes."""
    return jax.tree.map(lambda array: drawn(rng, *array.shape), tree)


def fill(module, rng):
    """Random numbers in every array of a PyTorch model, running statistics too, for evaluation."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            array = drawn(rng, *tensor.shape)
            tensor.copy_(tensor.new_tensor(np.abs(array) + 0.5 if name.endswith("running_var") else array))
    return module.eval()


def equal(ours, theirs):
    """Trees of equal numbers, and not zeros alone."""
    ours, theirs = (jax.tree.map(np.asarray, tree) for tree in (ours, theirs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, theirs)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(theirs)) > 1e-2
