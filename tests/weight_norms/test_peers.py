"""Agreement with other libraries where they compute the same, and what they get wrong about weights at zero."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import jaxnorm as jn
from tests.tools.peers import import_peer, lenient


def tensors(torch, *arrays):
    return [torch.tensor(np.asarray(a), dtype=torch.float64, requires_grad=True) for a in arrays]


def test_weight_norm_is_that_of_torch(rng, torch, x64):
    v, g, x = (rng.standard_normal(shape) for shape in ((5, 3), 3, (4, 5)))
    layer = torch.nn.Linear(5, 3, bias=False).double()
    layer = torch.nn.utils.parametrizations.weight_norm(layer, dim=0)
    parts = layer.parametrizations.weight
    with torch.no_grad():
        parts.original0.copy_(torch.tensor(g[:, None]))
        parts.original1.copy_(torch.tensor(v.T.copy()))
    torch.sin(layer(torch.tensor(x))).sum().backward()
    gradients = jax.grad(lambda v, g: jnp.sum(jnp.sin(x @ jn.weight_norm(v, g))), argnums=(0, 1))(v, g)
    np.testing.assert_allclose(jn.weight_norm(jnp.asarray(v), jnp.asarray(g)).T, layer.weight.detach(), rtol=1e-12)
    np.testing.assert_allclose(gradients[0].T, parts.original1.grad, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(gradients[1], parts.original0.grad[:, 0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("iterations", [1, 3])
def test_spectral_norm_is_that_of_torch(rng, torch, x64, iterations):
    w, x = rng.standard_normal((5, 3)), rng.standard_normal((4, 5))
    layer = torch.nn.Linear(5, 3, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(w.T.copy()))
    layer = torch.nn.utils.parametrizations.spectral_norm(layer, n_power_iterations=iterations)
    inside = layer.parametrizations.weight[0]
    u, v = (np.asarray(vector) for vector in (inside._u, inside._v))
    state = jn.weight_norms.SpectralState(jnp.asarray(u), jnp.asarray(v))
    spec, params = jn.SpectralNorm(), jn.KernelParams(jnp.asarray(w))
    layer.eval()
    np.testing.assert_allclose(spec(params, state).T, layer.weight.detach(), rtol=1e-10)
    layer.train()
    torch.sin(layer(torch.tensor(x))).sum().backward()
    u, v = (np.asarray(vector) for vector in (inside._u, inside._v))
    after = jn.weight_norms.SpectralState(jnp.asarray(u), jnp.asarray(v))
    gradient = jax.grad(lambda w: jnp.sum(jnp.sin(x @ spec(jn.KernelParams(w), after))))(jnp.asarray(w))
    np.testing.assert_allclose(gradient.T, layer.parametrizations.weight.original.grad, rtol=1e-9, atol=1e-12)
    # torch replaces u before v, the paper v before u: from the same u on the next u is the same.
    ours = jn.weight_norms.power_iteration(jnp.asarray(w), after, iterations=iterations)
    layer.weight  # noqa: B018  # makes the iterations of another step
    np.testing.assert_allclose(ours.u, np.asarray(inside._u), rtol=1e-9)


def test_weight_standardization_is_that_of_the_authors_pytorch_code(rng, torch, x64):
    kernel = rng.standard_normal((3, 3, 2, 4))
    (weight,) = tensors(torch, kernel.transpose(3, 2, 0, 1))
    # In the words of torch: subtract the mean of each filter, divide by its unbiased std plus 1e-5.
    flat = weight.flatten(1)
    made = (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1e-5)
    got = jn.weight_standardization(jnp.asarray(kernel), ddof=1)
    np.testing.assert_allclose(got.transpose(3, 2, 0, 1), made.detach().reshape(weight.shape), rtol=1e-12)
    torch.sin(made).sum().backward()
    gradient = jax.grad(lambda k: jnp.sum(jnp.sin(jn.weight_standardization(k, ddof=1))))(jnp.asarray(kernel))
    np.testing.assert_allclose(gradient.transpose(3, 2, 0, 1), weight.grad, rtol=1e-9, atol=1e-10)


def test_weight_norm_is_that_of_flax(rng):
    x = jnp.asarray(rng.standard_normal((4, 5)), jnp.float32)
    v, g, b = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((5, 3), 3, 3))
    with lenient():
        layer = linen.WeightNorm(linen.Dense(3))
        variables = layer.init(jax.random.key(0), x)
        dense = {"kernel": v, "bias": b}
        made = {name: dense if isinstance(part, dict) else g for name, part in variables["params"].items()}
        want = layer.apply({"params": made}, x)
    np.testing.assert_allclose(jnp.matmul(x, jn.weight_norm(v, g)) + b[None], want, rtol=1e-4, atol=1e-5)


def test_weight_norm_is_that_of_equinox(rng):
    equinox = import_peer("equinox", "bench")
    x, v, g, b = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in (5, (5, 3), 3, 3))
    layer = equinox.nn.WeightNorm(equinox.nn.Linear(5, 3, key=jax.random.key(0)), axis=0)
    layer = equinox.tree_at(lambda m: (m.layer.weight, m.layer.bias, m.g), layer, (v.T, b, g[:, None]))
    with lenient():
        want = layer(x)
    np.testing.assert_allclose(x @ jn.weight_norm(v, g) + b, want, rtol=1e-4, atol=1e-5)


def test_spectral_norm_is_that_of_flax_haiku_and_keras(rng):
    """All three in the order of the paper, v before u: the kernel and its gradient after the same two iterations."""
    haiku, keras = import_peer("haiku", "bench"), import_peer("keras")
    w, x = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((5, 3), (4, 5)))
    u = jnp.asarray(rng.standard_normal((1, 3)), jnp.float32)
    state = jn.weight_norms.SpectralState(u[0], jnp.zeros(5))

    def ours(w):
        return jnp.matmul(x, jn.spectral_norm(w, state, iterations=2)[0])

    of_flax = linen.SpectralNorm(linen.Dense(3, use_bias=False), n_steps=2)
    of_haiku = haiku.without_apply_rng(haiku.transform_with_state(lambda w: haiku.SpectralNorm(n_steps=2)(w)))

    def with_flax(w):
        params = {"params": {"layer_instance": {"kernel": w}}}
        return of_flax.apply({**params, "batch_stats": stats}, x, update_stats=True, mutable=["batch_stats"])[0]

    def with_haiku(w):
        return x @ of_haiku.apply({}, {"spectral_norm": {"u0": u, "sigma": jnp.ones(())}}, w)[0]

    with lenient():
        variables = of_flax.init(jax.random.key(0), x, update_stats=False)
        stats = jax.tree.map(lambda leaf: u if leaf.ndim == 2 else leaf, variables["batch_stats"])
        found = [jax.vjp(f, w) for f in (with_flax, with_haiku)]
        layer = keras.layers.SpectralNormalization(keras.layers.Dense(3, use_bias=False), power_iterations=2)
        layer.build(x.shape)
        layer.kernel.assign(w)
        layer.vector_u.assign(u)
        of_keras = layer(x, training=True)
    want, pull_back = jax.vjp(ours, w)
    np.testing.assert_allclose(of_keras, want, rtol=1e-4, atol=1e-5)
    for y, pull in found:
        np.testing.assert_allclose(y, want, rtol=1e-3, atol=1e-4)  # theirs add 1e-4 or 1e-12 to lengths
        np.testing.assert_allclose(pull(jnp.cos(want))[0], pull_back(jnp.cos(want))[0], rtol=1e-3, atol=1e-3)


def test_unit_rows_are_those_of_keras(rng):
    keras = import_peer("keras")
    kernel = jnp.asarray(rng.standard_normal((3, 2, 2, 4)), jnp.float32)
    with lenient():
        want = keras.constraints.UnitNorm(axis=(0, 1, 2))(kernel)
    np.testing.assert_allclose(jn.weight_norms.unit_norm(kernel), want, rtol=1e-5)


def test_row_12_zero_weights_have_finite_gradients():
    """NaN in the one library, a gradient of a million in the other: zero here, and the rest is not touched."""
    kernel = jnp.zeros((4, 2)).at[:, 1].set(1.0)
    made, pull_back = jax.vjp(lambda v, g: jn.weight_norm(v, g), kernel, jnp.ones(2))
    gradients = pull_back(jnp.ones((4, 2)))
    np.testing.assert_array_equal(made[:, 0], np.zeros(4))
    chex.assert_tree_all_finite(gradients)
    assert float(jnp.abs(gradients[0]).max()) < 10
