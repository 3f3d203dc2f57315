"""What is peculiar to the sLSTM: exponential gates and their stabilizer, heads, and the first step."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells import oracles

HIDDEN, HEADS, SIZE = 4, 2, 2


def plain(p, v, site):
    return v


def layer_norm(p, v, site):
    return oracles.layer_norm(v, *getattr(p.norm, site))


def pre_activations(p, x, h, norm):
    """i f z o of a batch, the recurrent product head by head and gate by gate."""
    recurrent = np.concatenate(
        [
            np.concatenate([h[:, k * SIZE : (k + 1) * SIZE] @ p.recurrent[k, :, gate] for k in range(HEADS)], axis=-1)
            for gate in range(4)
        ],
        axis=-1,
    )
    total = norm(p, x @ oracles.flat(p.kernel), "input") + norm(p, recurrent, "recurrent") + p.bias
    return np.split(total, 4, axis=-1)


def without_stabilizer(p, xs, norm=plain):
    """The equations before they are stabilized: exponentials as they are, from zero."""
    c = n = h = np.zeros((xs.shape[1], HIDDEN))
    hs = []
    for x in xs:
        i, f, z, o = pre_activations(p, x, h, norm)
        i, f = np.exp(i), oracles.sigmoid(f)
        c, n = f * c + i * np.tanh(z), f * n + i
        h = oracles.sigmoid(o) * c / n
        hs.append(h)
    return np.stack(hs)


def stabilized(p, xs, carry, norm=plain):
    """The stabilized equations, with the carry after the last step."""
    c, n, m, h = carry
    first, hs = True, []
    for x in xs:
        i, f, z, o = pre_activations(p, x, h, norm)
        log_f = -np.logaddexp(0.0, -f)
        new = i if first and not np.any(n) else np.maximum(i, m + log_f)
        i, f = np.minimum(np.exp(i - new), 1.0), np.minimum(np.exp(np.minimum(m + log_f - new, 0.0)), 1.0)
        c, n, m, first = f * c + i * np.tanh(z), f * n + i, new, False
        h = oracles.sigmoid(o) * c / n
        hs.append(h)
    return np.stack(hs), (c, n, m, h)


NORMS = {"plain": (jn.Identity(), plain), "layer_norm": (jn.LayerNorm(), layer_norm)}


@pytest.mark.parametrize("name", NORMS)
def test_cell_is_the_equation_of_the_paper(name, x64, rng):
    """With and without stabilizer, from zeros, and in the middle of a sequence."""
    spec, norm = NORMS[name]
    cell = jn.zoo.SLSTM(HIDDEN, heads=HEADS, norm=spec)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, dtype=jnp.float64)
    p, data = oracles.to_numpy(params), np.asarray(xs)
    first = jn.unroll(cell, params, xs)
    np.testing.assert_allclose(first.outputs, without_stabilizer(p, data, norm), rtol=1e-10, atol=1e-12)
    outputs, carry = stabilized(p, data, (np.zeros((3, HIDDEN)),) * 4, norm)
    np.testing.assert_allclose(first.outputs, outputs, rtol=1e-10, atol=1e-12)
    for got, expected in zip(first.carry, carry, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)
    second = jn.unroll(cell, params, xs, carry=first.carry)
    np.testing.assert_allclose(second.outputs, stabilized(p, data, carry, norm)[0], rtol=1e-10, atol=1e-12)


def test_norms_of_the_sum_and_before_the_output(x64, rng):
    cell = jn.zoo.SLSTM(HIDDEN, heads=HEADS, norm=jn.CellNorms(summed=jn.LayerNorm(), cell=jn.RMSNorm()))
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, 1, dtype=jnp.float64)
    p = oracles.to_numpy(params)
    summed = oracles.layer_norm(np.asarray(xs[0]) @ oracles.flat(p.kernel), *p.norm.summed)
    _, _, z, o = np.split(summed + p.bias, 4, axis=-1)
    expected = oracles.sigmoid(o) * oracles.rms_norm(np.tanh(z), p.norm.cell.scale)  # c / n of a first step is tanh(z)
    np.testing.assert_allclose(jn.unroll(cell, params, xs).outputs[0], expected, rtol=1e-10, atol=1e-12)


def test_heads_know_nothing_of_each_others_past(rng):
    cell = jn.zoo.SLSTM(HIDDEN, heads=HEADS)
    params = cases.random_cell_params(cell, rng)
    xs = cases.random_inputs(rng)
    carry = jn.unroll(cell, params, xs).carry
    other = carry._replace(h=carry.h.at[:, 0].add(1.0))
    one, two = (jn.unroll(cell, params, xs, carry=state).outputs for state in (carry, other))
    np.testing.assert_array_equal(np.any(np.asarray(one != two), axis=(0, 1)), [True, True, False, False])


@pytest.mark.parametrize("size", [-300.0, 300.0])
def test_gates_of_any_size_are_finite_with_masks_and_resets(size, rng):
    """exp(300) is no float32; asking the whole batch whether a step is the first gives NaN after a reset at -300."""
    cell = jn.zoo.SLSTM(HIDDEN, heads=HEADS)
    params = cases.random_cell_params(cell, rng)
    params = params._replace(bias=params.bias.at[:HIDDEN].set(size).at[HIDDEN : 2 * HIDDEN].set(-size))
    xs, lengths = cases.random_inputs(rng), jnp.array([5, 3, 0])
    reset = jnp.zeros((5, 3), bool).at[2, 0].set(True)
    where = jnp.ones((5, 3), bool).at[0, 1].set(False)

    @jax.jit
    def run(params, xs):
        def loss(params, xs):
            out = jn.unroll(cell, params, xs, lengths=lengths, where=where, reset=reset)
            return jnp.sum(jnp.square(out.outputs)), out

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, xs)

    gradients, out = run(params, xs)
    chex.assert_tree_all_finite((gradients, out))
    assert np.all(out.carry.n[:2] >= 1.0)
    assert not np.any(out.carry.n[2])
    bias = oracles.by_gate(params.bias, 4)
    z, o = (xs[2, 0] @ params.kernel[:, k] + bias[k] for k in (2, 3))
    np.testing.assert_allclose(out.outputs[2, 0], jax.nn.sigmoid(o) * jnp.tanh(z), rtol=1e-5)  # a first step again


def test_shapes_and_values_of_fresh_weights(key):
    params = jn.zoo.SLSTM(12, heads=3).init(key, 500)
    assert params.kernel.shape == (500, 4, 12)
    np.testing.assert_allclose(np.std(params.kernel), (2 / (5 * 500)) ** 0.5, rtol=0.02)
    np.testing.assert_array_equal(params.recurrent, np.zeros((3, 4, 4, 4)))
    expected = np.tile([-(-5 + 12 * (k / 3) ** 0.3) for k in range(4)], 3)
    bias = oracles.by_gate(params.bias, 4)
    np.testing.assert_allclose(bias[1], expected, rtol=1e-5)
    np.testing.assert_array_equal(np.delete(bias, 1, axis=0), np.zeros((3, 12)))
    last = jn.initializers.PowerLaw(1.0)(key, (2, 3), jnp.float32)
    np.testing.assert_allclose(last, [[5.0, 5 - 12 * 0.5**1.6, -7.0]] * 2, rtol=1e-5)
    np.testing.assert_array_equal(jn.initializers.PowerLaw()(key, (2, 1)), [[5.0], [5.0]])
    drawn = jn.zoo.SLSTM(4, heads=2, recurrent_init=jn.initializers.orthogonal, forget_bias=1.0).init(key, 3).recurrent
    np.testing.assert_allclose(drawn[1, :, 2] @ drawn[1, :, 2].T, np.eye(2), atol=1e-6)
    assert not np.allclose(drawn[0], drawn[1])


def test_errors():
    with pytest.raises(ValueError, match="SLSTM: heads must divide hidden_features = 4, got 3"):
        jn.zoo.SLSTM(HIDDEN, heads=3)
    with pytest.raises(ValueError, match="SLSTM: heads must be a positive integer, got 0"):
        jn.zoo.SLSTM(HIDDEN, heads=0)
