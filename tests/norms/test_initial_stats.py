"""Running statistics before any data: other values than mean 0 and variance 1, wherever they are made."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
import jaxnorm.linen
import jaxnorm.nnx
from tests.tools.peers import import_peer, lenient

SPEC = jn.BatchNorm(mean_init=0.5, var_init=3.0, epsilon=0.25)


def test_statistics_begin_with_the_values_of_the_spec():
    mean, var, count = SPEC.initial_stats((3,), jnp.float64 if jax.config.jax_enable_x64 else jnp.float32)
    np.testing.assert_array_equal(mean, np.full(3, 0.5))
    np.testing.assert_array_equal(var, np.full(3, 3.0))
    assert float(count) == 0.0
    assert jn.BatchNorm().initial_stats((2,)).var.tolist() == [1.0, 1.0]


def test_specs_with_statistics_of_their_own():
    fields = {"mean_init": 0.5, "var_init": 3.0}
    rows = jn.zoo.FrameWiseBatchNorm(max_steps=2, **fields).initial_stats((3,))
    assert rows.mean.tolist() == [[0.5] * 3] * 2
    assert rows.var.tolist() == [[3.0] * 3] * 2
    assert rows.count.shape == (2,)
    stream = jn.zoo.StreamingNorm(**fields).initial_stats((1,))
    assert (stream.long.mean.tolist(), stream.long.var.tolist()) == ([0.5], [3.0])
    assert (stream.short.mean.tolist(), stream.gradient_long.var.tolist()) == ([0.0], [0.0])
    for spec in (jn.zoo.BatchRenorm(**fields), jn.zoo.GhostBatchNorm(2, **fields), jn.zoo.RangeBatchNorm(**fields)):
        assert spec.initial_stats((1,)).var.tolist() == [3.0]
    by_class = jn.zoo.ConditionalBatchNorm(4, SPEC)
    assert by_class.initial_stats((1,)).mean.tolist() == [0.5]


def test_cells_and_modules_make_them(rng):
    cell = jn.elman(3, norm=dataclasses.replace(SPEC, momentum=0.5), max_steps=2)
    assert cell.initial_stats().input.mean.tolist() == [[0.5] * 3] * 2
    x = jnp.asarray(rng.standard_normal((4, 3)), jnp.float32)
    want = (np.asarray(x) - 0.5) / np.sqrt(3.25)
    module = jaxnorm.linen.Norm(SPEC, use_running_average=True)
    y, variables = module.init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(y, want, rtol=1e-6, atol=1e-6)
    assert variables["batch_stats"]["var"].tolist() == [3.0] * 3
    np.testing.assert_allclose(jaxnorm.nnx.Norm(SPEC, 3, use_running_average=True)(x), want, rtol=1e-6, atol=1e-6)


def test_keras(rng):
    keras = import_peer("keras")
    if keras.backend.backend() != "jax":
        pytest.skip("keras runs on another backend: the comparison needs KERAS_BACKEND=jax")
    x = rng.standard_normal((4, 3)).astype(np.float32)
    constant = keras.initializers.Constant
    with lenient():
        layer = keras.layers.BatchNormalization(
            epsilon=0.25, moving_mean_initializer=constant(0.5), moving_variance_initializer=constant(3.0)
        )
        theirs = layer(x, training=False)
    running = SPEC.initial_stats((3,))
    np.testing.assert_allclose(SPEC(SPEC.init((3,)), jnp.asarray(x), running)[0], theirs, rtol=1e-5, atol=1e-6)
    with lenient():
        layer = keras.layers.BatchNormalization(momentum=0.5, moving_mean_initializer=constant(0.5))
        layer(x, training=True)
    norm = jn.BatchNorm(momentum=0.5, mean_init=0.5)
    _, measured = norm(norm.init((3,)), jnp.asarray(x))
    np.testing.assert_allclose(
        norm.update_running(norm.initial_stats((3,)), measured).mean, layer.moving_mean.value, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"var_init": -1.0}, r"BatchNorm: var_init must be a number in \[0.0, inf\], got -1.0"),
        ({"mean_init": float("nan")}, r"BatchNorm: mean_init must be a number in \[-inf, inf\], got nan"),
    ],
)
def test_values_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        jn.BatchNorm(**fields)
