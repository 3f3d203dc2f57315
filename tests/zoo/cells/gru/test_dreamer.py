"""The GRUs of DreamerV3 in NumPy float64, written from its code: [x, h] normalized together, and blocks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells import oracles
from tests.cells.oracles import by_gate, flat, sigmoid

STEPS, BATCH, HIDDEN = 4, 3, 4


def rms(v, epsilon, scale=1.0):
    return v / np.sqrt((v**2).mean(-1, keepdims=True) + epsilon) * scale


def gates(h, reset, update, candidate):
    """Reset multiplies the pre-activation of the candidate; ``update`` comes with its -1."""
    return sigmoid(update) * np.tanh(sigmoid(reset) * candidate) + (1 - sigmoid(update)) * h


def concatenated_step(p, h, x, epsilon):
    both = rms(np.concatenate([x, h], -1), epsilon, p.norm.input.scale) + (
        0.0 if p.norm.input.bias is None else p.norm.input.bias
    )
    out = both @ np.concatenate([flat(p.kernel), flat(p.recurrent)])
    reset, update, candidate = np.split(out if p.bias is None else out + p.bias, 3, axis=-1)
    return gates(h, reset, update, candidate)


def gelu(v):
    return 0.5 * v * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3)))


def block_step(p, h, x, blocks, epsilon):
    """Block by block: each has a kernel for [its h, e, x] and one for its gates."""
    e = gelu(rms(h @ p.recurrent + p.recurrent_bias, epsilon, p.norm.recurrent.scale))
    size = h.shape[-1] // blocks
    hidden = []
    for k in range(blocks):
        own = np.s_[k * size : (k + 1) * size]
        layer = np.concatenate([p.block[k], p.mix[:, own], p.kernel[:, own]])
        hidden.append(np.concatenate([h[:, own], e, x], -1) @ layer + p.bias[own])
    u = gelu(rms(np.concatenate(hidden, -1), epsilon, p.norm.summed.scale))
    new = []
    for k in range(blocks):
        own = np.s_[k * size : (k + 1) * size]
        bias = flat(by_gate(p.gates_bias, 3)[:, own])
        reset, update, candidate = np.split(u[:, own] @ flat(p.gates[k]) + bias, 3, axis=-1)
        new.append(gates(h[:, own], reset, update, candidate))
    return np.concatenate(new, -1)


CASES = {
    "generic": (jn.zoo.dreamer_v3_gru(HIDDEN), lambda p, h, x: concatenated_step(p, h, x, 1e-4)),
    "generic with a bias of the norm and none of its own": (
        jn.zoo.ConcatenatedGRU(HIDDEN, norm=jn.RMSNorm(use_bias=True, epsilon=0.1), use_bias=False),
        lambda p, h, x: concatenated_step(p, h, x, 0.1),
    ),
    "blocks": (jn.zoo.dreamer_v3_block_gru(HIDDEN, blocks=2), lambda p, h, x: block_step(p, h, x, 2, 1e-4)),
    "another width": (
        jn.zoo.dreamer_v3_block_gru(HIDDEN, blocks=4, embedding_features=5),
        lambda p, h, x: block_step(p, h, x, 4, 1e-4),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_cell_is_what_the_source_computes(name, x64, rng):
    cell, step = CASES[name]
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, STEPS, (BATCH,), jnp.float64)
    h = rng.standard_normal((BATCH, HIDDEN))
    got = jn.unroll(cell, params, xs, carry=jn.GRUCarry(jnp.asarray(h)))
    weights = oracles.to_numpy(params)
    for x, y in zip(np.asarray(xs), got.outputs, strict=True):
        h = step(weights, h, x)
        np.testing.assert_allclose(y, h, rtol=1e-10, atol=1e-12)


def test_older_and_newer_dreamer_differ(rng):
    """In the older one the norm stands after the product, in the newer one before it."""
    new, old = jn.zoo.dreamer_v3_gru(HIDDEN), jn.zoo.dreamer_gru(HIDDEN)
    p = cases.random_cell_params(new, rng)
    q = cases.random_cell_params(old, rng)._replace(kernel=p.kernel, recurrent=p.recurrent)
    xs = cases.random_inputs(rng, 2)
    assert not np.allclose(jn.unroll(new, p, xs).outputs, jn.unroll(old, q, xs).outputs, atol=1e-2)


def test_fresh_weights(key):
    params = jn.zoo.dreamer_v3_gru(64).init(key, 36)
    np.testing.assert_allclose(np.std(params.kernel), 0.1, rtol=0.05)  # one kernel of 100 inputs
    np.testing.assert_allclose(np.std(params.recurrent), 0.1, rtol=0.05)
    np.testing.assert_array_equal(params.norm.input.scale, np.ones(100))
    block = jn.zoo.dreamer_v3_block_gru(64, blocks=4).init(key, 36)
    for leaf in (block.kernel, block.block, block.mix):
        np.testing.assert_allclose(np.std(leaf), (4 * (16 + 32 + 36)) ** -0.5, rtol=0.1)  # of all 4 blocks
    np.testing.assert_allclose(np.std(block.gates), 0.125, rtol=0.05)
    np.testing.assert_array_equal(block.gates_bias, np.repeat([0.0, -1.0, 0.0], 64))


def test_nothing_in_gives_the_bias_and_finite_gradients(rng):
    """Zeros have no length: the norm of them is zero, without epsilon too."""
    cell = jn.zoo.dreamer_v3_gru(HIDDEN, epsilon=0.0)
    params = cases.random_cell_params(cell, rng)

    def loss(params, xs):
        return jn.unroll(cell, params, xs).outputs.sum()

    value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, jnp.zeros((1, BATCH, 3)))
    reset, update, candidate = by_gate(np.asarray(params.bias, np.float64), 3)
    np.testing.assert_allclose(value, BATCH * gates(0.0, reset, update, candidate).sum(), rtol=1e-5)
    chex.assert_tree_all_finite(gradients)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jn.zoo.ConcatenatedGRU(4, norm=jn.LayerNorm()), r"norm must be RMSNorm\(\).*, got LayerNorm"),
        (lambda: jn.zoo.ConcatenatedGRU(4, norm=jn.RMSNorm(fraction=0.5)), r"norm must be RMSNorm\(\) with fraction=1"),
        (lambda: jn.zoo.dreamer_v3_gru(4, use_bias=False), r"update_bias=-1.0 is where a bias starts, but use_bias"),
        (lambda: jn.zoo.dreamer_v3_block_gru(8, use_bias=False), r"BlockGRU: update_bias=-1.0 is where a bias starts"),
        (lambda: jn.zoo.dreamer_v3_block_gru(12), r"BlockGRU: 8 blocks do not divide 12 hidden features"),
        (lambda: jn.zoo.BlockGRU(8, norm=jn.CellNorms(cell=jn.RMSNorm())), r"BlockGRU: there is no site 'cell'"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
