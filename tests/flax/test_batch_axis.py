"""The axis that Flax and Keras give to batch normalization is answered where a module would keep its statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx

MODULES = {
    "linen": lambda spec, x, features: jl.Norm(spec).init_with_output(jax.random.key(0), x, False)[0],
    "nnx": lambda spec, x, features: jx.Norm(spec, features)(x),
}
both = pytest.mark.parametrize("kind", MODULES)


@both
@pytest.mark.parametrize(
    ("shape", "axis", "kept"),
    [((2, 6), -1, (2,)), ((6, 6), 1, (6,)), ((2, 5, 6), -1, (2, 5)), ((2, 3, 4, 5), 1, (2, 4, 5))],
)
@pytest.mark.parametrize("make", [jn.BatchNorm, jn.zoo.FrozenBatchNorm])
def test_an_axis_of_features_is_answered(kind, shape, axis, kept, make):
    message = (
        rf"Norm: axis={axis} of {make.__name__} would .* shape \({', '.join(map(str, kept))},?\)\. .* leave it out"
    )
    with pytest.raises(ValueError, match=message):
        MODULES[kind](make(axis), jnp.ones(shape), kept)


@both
@pytest.mark.parametrize(
    ("spec", "axes", "features"),
    [
        (jn.BatchNorm(0, epsilon=0.1), (0,), (5, 6)),
        (jn.BatchNorm((0, 2), epsilon=0.1), (0, 2), (5,)),
        (jn.BatchNorm(feature_axis=0, epsilon=0.1), (1, 2), (4,)),
        (jn.BatchNorm((1, 2), feature_axis=0, epsilon=0.1), (1, 2), (4,)),
        (jn.zoo.RangeBatchNorm(-1, epsilon=0.1), None, (4, 5)),
    ],
    ids=repr,
)
def test_all_other_axes_run(kind, spec, axes, features, rng):
    x = rng.standard_normal((4, 5, 6)).astype("float32")
    y = MODULES[kind](spec, jnp.asarray(x), features)
    assert y.shape == x.shape
    if axes is not None:
        wide = x.astype(np.float64)
        expected = (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + 0.1)
        np.testing.assert_allclose(y, expected, atol=1e-5)
