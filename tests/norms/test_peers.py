"""Agreement with other libraries where they compute the same: values, input gradients, running statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import jaxnorm as jn
from tests.tools.peers import import_peer, lenient

FEATURES = 6


class Data:
    """Random data, weights for its features, and a cotangent for the output."""

    def __init__(self, rng, shape):
        self.x = (rng.standard_normal(shape) * 2 + 1).astype(np.float32)
        self.cotangent = rng.standard_normal(shape).astype(np.float32)
        self.scale, self.bias = rng.standard_normal((2, FEATURES)).astype(np.float32)
        self.mean, self.var = rng.standard_normal(FEATURES), rng.uniform(0.5, 2.0, FEATURES)
        self.mean, self.var = self.mean.astype(np.float32), self.var.astype(np.float32)

    def affine(self, bias=True):
        return jn.Affine(jnp.asarray(self.scale), jnp.asarray(self.bias) if bias else None)

    def running(self):
        return jn.Moments(jnp.asarray(self.mean), jnp.asarray(self.var), jnp.asarray(7.0))

    def ours(self, spec, params, stats=None):
        """Value, input gradient and statistics."""

        @jax.jit
        def run(x):
            y, pull_back, measured = jax.vjp(lambda x: spec(params, x, stats), x, has_aux=True)
            return y, pull_back(jnp.asarray(self.cotangent))[0], measured

        return run(self.x)

    def theirs(self, function):
        """Value and input gradient of a JAX function."""
        with lenient():

            @jax.jit
            def run(x):
                y, pull_back = jax.vjp(function, x)
                return y, pull_back(jnp.asarray(self.cotangent))[0]

            return run(self.x)

    def torch(self, torch, function, layout=None):
        """Value and input gradient of a PyTorch function that has features on axis 1."""
        to_first = (lambda a: np.moveaxis(a, -1, 1)) if layout == "features_second" else (lambda a: a)
        to_last = (lambda a: np.moveaxis(a, 1, -1)) if layout == "features_second" else (lambda a: a)
        x = torch.tensor(np.ascontiguousarray(to_first(self.x)), requires_grad=True)
        y = function(x)
        y.backward(torch.tensor(np.ascontiguousarray(to_first(self.cotangent))))
        return to_last(y.detach().numpy()), to_last(x.grad.numpy())


def assert_agree(ours, theirs, tolerance=3e-5):
    for a, b in zip(ours[:2], theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_flax_row_norms(rng):
    data = Data(rng, (2, 5, FEATURES))
    weights = {"params": {"scale": data.scale, "bias": data.bias}}
    pairs = [
        (jn.LayerNorm(epsilon=1e-3), linen.LayerNorm(epsilon=1e-3, use_fast_variance=False), True),
        (jn.RMSNorm(epsilon=1e-6), linen.RMSNorm(epsilon=1e-6, use_fast_variance=False), False),
        (jn.GroupNorm(3), linen.GroupNorm(num_groups=3, epsilon=1e-5, use_fast_variance=False), True),
        (jn.InstanceNorm(), linen.InstanceNorm(epsilon=1e-5, use_fast_variance=False), True),
    ]
    for spec, module, bias in pairs:
        used = weights if bias else {"params": {"scale": data.scale}}
        theirs = data.theirs(lambda x, module=module, used=used: module.apply(used, x))
        assert_agree(data.ours(spec, data.affine(bias)), theirs)


def test_flax_batch_norm_in_training_and_inference(rng):
    data = Data(rng, (4, 3, FEATURES))
    spec = jn.BatchNorm(momentum=0.9)
    variables = {
        "params": {"scale": data.scale, "bias": data.bias},
        "batch_stats": {"mean": data.mean, "var": data.var},
    }

    def module(inference):
        return linen.BatchNorm(use_running_average=inference, momentum=0.9, epsilon=1e-5, use_fast_variance=False)

    inference = data.theirs(lambda x: module(True).apply(variables, x))
    assert_agree(data.ours(spec, data.affine(), data.running()), inference)
    training = data.theirs(lambda x: module(False).apply(variables, x, mutable=["batch_stats"])[0])
    ours = data.ours(spec, data.affine())
    assert_agree(ours, training)
    with lenient():
        _, updated = module(False).apply(variables, jnp.asarray(data.x), mutable=["batch_stats"])
    folded = spec.update_running(data.running(), ours[2])
    np.testing.assert_allclose(folded.mean, updated["batch_stats"]["mean"], atol=1e-5)
    np.testing.assert_allclose(folded.var, updated["batch_stats"]["var"], atol=1e-5)


def test_flax_masks(rng):
    data = Data(rng, (4, 3, FEATURES))
    mask = jnp.asarray(rng.random((4, 3, 1)) < 0.6)
    module = linen.BatchNorm(use_running_average=False, use_bias=False, use_scale=False, use_fast_variance=False)
    with lenient():
        theirs, _ = module.apply({}, jnp.asarray(data.x), mask=mask, mutable=["batch_stats"])
    ours, _ = jn.batch_norm(jnp.asarray(data.x), where=mask)
    # On real elements only: theirs normalizes the others too, ours gives zero there.
    np.testing.assert_allclose(ours, np.where(mask, theirs, 0.0), atol=3e-5)


def test_torch_row_norms(torch, rng):
    functional = torch.nn.functional
    data = Data(rng, (2, 5, FEATURES))
    scale, bias = torch.tensor(data.scale), torch.tensor(data.bias)
    pairs = [
        (jn.LayerNorm(), lambda x: functional.layer_norm(x, (FEATURES,), scale, bias, 1e-5), None),
        (jn.RMSNorm(), lambda x: functional.rms_norm(x, (FEATURES,), scale, 1e-5), None),
        (jn.GroupNorm(3), lambda x: functional.group_norm(x, 3, scale, bias, 1e-5), "features_second"),
        (
            jn.InstanceNorm(),
            lambda x: functional.instance_norm(x, weight=scale, bias=bias, eps=1e-5),
            "features_second",
        ),
    ]
    for spec, function, layout in pairs:
        theirs = data.torch(torch, function, layout)
        assert_agree(data.ours(spec, data.affine(not isinstance(spec, jn.RMSNorm))), theirs)


@pytest.mark.parametrize("torch_momentum", [0.1, None])
def test_torch_batch_norm_over_three_batches(torch, rng, torch_momentum):
    # Their momentum weighs the new value, and their running variance is corrected by m/(m-1).
    spec = jn.BatchNorm(momentum=None if torch_momentum is None else 1 - torch_momentum, ddof=1)
    module = torch.nn.BatchNorm1d(FEATURES, momentum=torch_momentum)
    data = Data(rng, (4, 3, FEATURES))
    with torch.no_grad():
        module.weight.copy_(torch.tensor(data.scale))
        module.bias.copy_(torch.tensor(data.bias))
    running = spec.initial_stats((FEATURES,))
    parts = []
    for _ in range(1 if torch_momentum is None else 3):
        data.x = rng.standard_normal(data.x.shape).astype(np.float32) * 2 + 1
        theirs = data.torch(torch, module, "features_second")
        ours = data.ours(spec, data.affine())
        assert_agree(ours, theirs)
        running = spec.update_running(running, ours[2])
        parts.append(data.x)
    np.testing.assert_allclose(running.mean, module.running_mean.numpy(), atol=1e-5)
    np.testing.assert_allclose(running.var, module.running_var.numpy(), atol=1e-5)
    module.eval()
    assert_agree(data.ours(spec, data.affine(), running), data.torch(torch, module, "features_second"))


def test_keras_row_norms(keras, rng):
    data = Data(rng, (2, 5, FEATURES))
    with lenient():
        pairs = [
            (jn.LayerNorm(epsilon=1e-3), keras.layers.LayerNormalization(epsilon=1e-3), True),
            (jn.RMSNorm(epsilon=1e-6), keras.layers.RMSNormalization(epsilon=1e-6), False),
            (jn.GroupNorm(3, epsilon=1e-3), keras.layers.GroupNormalization(3, epsilon=1e-3), True),
            (jn.InstanceNorm(epsilon=1e-3), keras.layers.GroupNormalization(-1, epsilon=1e-3), True),
        ]
        for _, layer, bias in pairs:
            layer.build(data.x.shape)
            layer.set_weights([data.scale, data.bias] if bias else [data.scale])
    for spec, layer, bias in pairs:
        assert_agree(data.ours(spec, data.affine(bias)), data.theirs(layer))


def test_keras_batch_norm_in_training_and_inference(keras, rng):
    data = Data(rng, (4, 3, FEATURES))
    spec = jn.BatchNorm(epsilon=1e-3, momentum=0.9)
    with lenient():
        layer = keras.layers.BatchNormalization(epsilon=1e-3, momentum=0.9)
        layer.build(data.x.shape)
        layer.set_weights([data.scale, data.bias, data.mean, data.var])
    assert_agree(data.ours(spec, data.affine(), data.running()), data.theirs(lambda x: layer(x, training=False)))
    ours = data.ours(spec, data.affine())
    trainable, frozen = layer.trainable_variables, layer.non_trainable_variables

    def stateless(x):
        return layer.stateless_call([v.value for v in trainable], [v.value for v in frozen], x, training=True)

    assert_agree(ours, data.theirs(lambda x: stateless(x)[0]))
    with lenient():
        _, (mean, var) = stateless(jnp.asarray(data.x))
    folded = spec.update_running(data.running(), ours[2])
    np.testing.assert_allclose(folded.mean, mean, atol=1e-5)
    np.testing.assert_allclose(folded.var, var, atol=1e-5)


def test_keras_masks(keras, rng):
    data = Data(rng, (4, 3, FEATURES))
    mask = jnp.asarray(rng.random((4, 3)) < 0.6)
    with lenient():
        layer = keras.layers.BatchNormalization(epsilon=1e-5, center=False, scale=False)
        theirs = layer(jnp.asarray(data.x), training=True, mask=mask)
    ours, _ = jn.batch_norm(jnp.asarray(data.x), where=mask[..., None])
    np.testing.assert_allclose(ours, np.where(mask[..., None], theirs, 0.0), atol=3e-5)


def test_haiku(rng):
    haiku = import_peer("haiku", "bench")
    data = Data(rng, (4, 5, FEATURES))
    constant = haiku.initializers.Constant
    scaled = {"create_scale": True, "scale_init": constant(data.scale)}
    both = {**scaled, "create_offset": True, "offset_init": constant(data.bias), "eps": 1e-3}
    pairs = [
        (jn.LayerNorm(epsilon=1e-3), lambda x: haiku.LayerNorm(-1, **both)(x)),
        (jn.RMSNorm(epsilon=1e-3), lambda x: haiku.RMSNorm(-1, eps=1e-3, **scaled)(x)),
        (jn.GroupNorm(3, epsilon=1e-3), lambda x: haiku.GroupNorm(3, **both)(x)),
        (jn.InstanceNorm(epsilon=1e-3), lambda x: haiku.InstanceNorm(**both)(x)),
        (jn.BatchNorm(epsilon=1e-3), lambda x: haiku.BatchNorm(decay_rate=0.9, **both)(x, is_training=True)),
    ]
    for spec, function in pairs:
        with lenient():
            module = haiku.without_apply_rng(haiku.transform_with_state(function))
            variables = module.init(jax.random.key(0), data.x)
        theirs = data.theirs(lambda x, module=module, variables=variables: module.apply(*variables, x)[0])
        assert_agree(data.ours(spec, data.affine(not isinstance(spec, jn.RMSNorm))), theirs)


def test_equinox(rng):
    equinox = import_peer("equinox", "bench")
    data = Data(rng, (4, 5, FEATURES))
    one = equinox.nn

    def weighed(module):
        return equinox.tree_at(lambda m: (m.weight, m.bias), module, (data.scale, data.bias))

    layer, rms = (weighed(kind(FEATURES, eps=1e-3)) for kind in (one.LayerNorm, one.RMSNorm))
    group = jax.vmap(weighed(one.GroupNorm(3, FEATURES, eps=1e-3)))  # features first
    pairs = [
        (jn.LayerNorm(epsilon=1e-3), jax.vmap(jax.vmap(layer))),
        (jn.RMSNorm(epsilon=1e-3, use_bias=True), jax.vmap(jax.vmap(rms))),
        (jn.GroupNorm(3, epsilon=1e-3), lambda x: jnp.moveaxis(group(jnp.moveaxis(x, -1, 1)), 1, -1)),
    ]
    for spec, function in pairs:
        assert_agree(data.ours(spec, data.affine()), data.theirs(function))


def test_lengths_and_cosines(torch, keras, rng):
    """Normalization to length one, of data and of products, by its names in other libraries; a row of zeros too."""
    data = Data(rng, (2, 5, FEATURES))
    data.x[0, 0] = 0.0
    functional = torch.nn.functional
    spec = jn.zoo.ScaleNorm(scale_init=1.0)
    ours = data.ours(spec, spec.init((FEATURES,)))
    theirs = data.torch(torch, lambda x: functional.normalize(x, dim=-1, eps=1e-5))
    assert_agree((ours[0], ours[1][1:]), (theirs[0], theirs[1][1:]))
    with lenient():
        layer = keras.layers.UnitNormalization()
    unit = data.theirs(layer)
    assert_agree((ours[0], ours[1][1:]), (unit[0], unit[1][1:]))
    kernel = rng.standard_normal((FEATURES, 4)).astype(np.float32)
    x, w = torch.tensor(data.x[:, :, None]), torch.tensor(kernel.T.copy())
    cosines = functional.cosine_similarity(x, w, dim=-1)
    np.testing.assert_allclose(jn.zoo.cosine_norm(jnp.asarray(data.x), jnp.asarray(kernel)), cosines.numpy(), atol=1e-5)
