"""Normalizers of Flax and Keras with weights along other axes than usual, groups of devices, batch renormalization."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.tools.peers import import_peer, lenient

SHAPE = (4, 3, 2, 5)


@pytest.fixture
def keras():
    module = import_peer("keras")
    if module.backend.backend() != "jax":
        pytest.skip("keras runs on another backend: the comparison needs KERAS_BACKEND=jax")
    return module


def test_flax_layers_keep_their_axes(rng):
    linen = import_peer("flax.linen")
    x = rng.standard_normal(SHAPE).astype(np.float32)
    for module, spec in (
        (linen.LayerNorm(reduction_axes=(1, 2), feature_axes=-1), jn.LayerNorm((1, 2), feature_axis=-1, epsilon=1e-6)),
        (linen.RMSNorm(reduction_axes=-1, feature_axes=[1]), jn.RMSNorm(feature_axis=(1,), epsilon=1e-6)),
        (linen.InstanceNorm(feature_axes=(1, 3)), jn.InstanceNorm(feature_axis=(1, 3), epsilon=1e-6)),
        (linen.BatchNorm(axis=1, use_running_average=False), jn.BatchNorm(feature_axis=1)),
    ):
        with lenient():
            variables = module.init(jax.random.key(0), x)
            variables["params"] = {
                name: jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype)
                for name, leaf in variables["params"].items()
            }
            theirs, _ = module.apply(variables, x, mutable=["batch_stats"])
        found = convert.linen.load(variables, module)
        assert found.spec == spec
        np.testing.assert_allclose(found.spec(found.params, jnp.asarray(x))[0], theirs, rtol=2e-5, atol=2e-5)


def test_flax_groups_of_devices():
    linen = import_peer("flax.linen")
    module = linen.LayerNorm(axis_name="i", axis_index_groups=[[0, 1], [2, 3]])
    found = convert.linen.load({"scale": jnp.ones(3), "bias": jnp.ones(3)}, module)
    assert found.spec.axis_index_groups == ((0, 1), (2, 3))


def test_keras_batch_norm_keeps_its_axis(keras, rng):
    x = rng.standard_normal(SHAPE).astype(np.float32)
    with lenient():
        layer = keras.layers.BatchNormalization(axis=1)
        theirs = layer(x, training=True)
    found = convert.keras.load(layer)
    assert found.spec.feature_axis == 1
    np.testing.assert_allclose(found.spec(found.params, jnp.asarray(x))[0], theirs, rtol=2e-5, atol=2e-5)


LIMITS = {"rmax": 2.0, "rmin": 0.5, "dmax": 0.3}


@pytest.mark.parametrize("limits", [None, LIMITS])
def test_keras_batch_renorm_goes_on_here(keras, rng, limits, tmp_path):
    xs = (rng.standard_normal((4, 6, 5)) * 2 + 1).astype(np.float32)
    with lenient(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = keras.layers.BatchNormalization(renorm=True, renorm_clipping=limits, momentum=0.9, renorm_momentum=0.9)
        model = keras.Sequential([keras.layers.Input((5,)), layer])
        for x in xs[:3]:
            layer(x, training=True)
        layer.gamma.assign(rng.standard_normal(5))
        layer.beta.assign(rng.standard_normal(5))
        model.save(tmp_path / "renorm.keras")
        found = convert.keras.load(layer)
        inference, training = layer(xs[3], training=False), layer(xs[3], training=True)
    assert found.notes == ()
    assert found.spec == jn.zoo.BatchRenorm(
        momentum=0.9, **({"r_max": np.inf, "d_max": np.inf} if limits is None else {"r_max": 2.0, "d_max": 0.3})
    )
    x = jnp.asarray(xs[3])
    np.testing.assert_allclose(found.spec(found.params, x, found.stats)[0], inference, rtol=2e-5, atol=2e-5)
    y, measured = found.spec.train(found.params, x, found.stats)
    np.testing.assert_allclose(y, training, rtol=2e-5, atol=2e-5)
    running = found.spec.update_running(found.stats, measured)
    np.testing.assert_allclose(running.mean, layer.moving_mean.value, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(running.var, layer.moving_variance.value, rtol=1e-5, atol=1e-6)
    of_file = convert.keras.load(tmp_path / "renorm.keras", layer=layer.name)
    assert of_file.spec == found.spec
    jax.tree.map(np.testing.assert_array_equal, of_file.stats, found.stats)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"renorm_momentum": 0.5}, "momentum=0.99 with renorm_momentum=0.5 cannot be represented"),
        ({"renorm_clipping": {"rmax": 2.0}}, "rmax=2.0 and rmin=None cannot be represented: here rmin is 1 / rmax"),
        ({"renorm_clipping": {"rmax": 2.0, "rmin": 0.25}}, "rmax=2.0 and rmin=0.25 cannot be represented"),
    ],
)
def test_keras_batch_renorm_of_another_kind_is_refused(keras, options, message):
    with lenient():
        layer = keras.layers.BatchNormalization(renorm=True, **options)
        layer.build((2, 3))
    with pytest.raises(ValueError, match=message):
        convert.keras.load(layer)


@pytest.mark.parametrize("library", [convert.torch, convert.keras])
def test_layers_that_have_no_feature_axis_take_none(library):
    spec = jn.LayerNorm(feature_axis=0)
    with pytest.raises(ValueError, match="LayerNorm with feature_axis=0 cannot be represented"):
        library.export(spec, spec.init((3,)))
