"""The recurrent highway network: its equations in NumPy, and its variational dropout with the masks that were drawn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells.oracles import by_gate, flat, sigmoid, to_numpy
from tests.zoo.cells.relative_tools import BATCH, HIDDEN, STEPS, bn, check_equation, features_of, ln, part

DEPTH = 3
NORMS = {"plain": (None, jn.Identity()), "ln": (ln, jn.LayerNorm()), "bn": (bn, jn.BatchNorm())}


def step(p, carry, x, norm=None, x_mask=1.0, s_mask=1.0, gates=((0, 1),)):
    """Zilly et al.; ``norm(v, affine)`` acts on each group of gates."""

    def product(v, kernel, affine):
        parts = []
        for group in map(list, gates):
            a = v @ flat(kernel[:, group])
            parts.append(a if norm is None else norm(a, part(affine, features_of(group))))
        return np.concatenate(parts, axis=-1)

    (s,) = carry
    for layer, (kernel, bias) in enumerate(zip(p.recurrent, by_gate(p.bias, len(p.recurrent)), strict=True)):
        affine = None if norm is None else part(p.norm.recurrent, features_of(layer, 2 * HIDDEN))
        a = product(s * s_mask, kernel, affine) + bias
        if layer == 0:
            a = a + product(x * x_mask, p.kernel, p.norm.input)
        h, t = np.split(a, 2, axis=-1)
        s = (np.tanh(h) - s) * sigmoid(t) + s
    return (s,), s


@pytest.mark.parametrize("norms", NORMS)
def test_recurrent_highway_is_its_equation(norms, x64, rng):
    norm, spec = NORMS[norms]
    check_equation(jn.zoo.RecurrentHighway(HIDDEN, DEPTH, norm=spec), lambda p, c, x: step(p, c, x, norm), rng)


def test_gates_alone_and_one_micro_step(x64, rng):
    cell = jn.zoo.RecurrentHighway(HIDDEN, 1, norm=jn.LayerNorm(), gate_groups=(1, 1))
    check_equation(cell, lambda p, c, x: step(p, c, x, ln, gates=((0,), (1,))), rng)


def masks_of(cell, params, key):
    """What ``prepare`` draws."""
    drawn = cell.prepare(params, batch_shape=(BATCH,), key=jax.random.split(key, 3)[2]).extra
    return np.asarray(drawn.input_mask), np.asarray(drawn.state_mask)


@pytest.mark.parametrize("method", ["scan", "chunked"])
def test_masks_on_the_input_and_before_every_product_for_the_whole_sequence(method, x64, rng, key):
    cell = jn.zoo.RecurrentHighway(HIDDEN, DEPTH, norm=jn.LayerNorm(), rate=0.5, input_rate=0.4)
    x_mask, s_mask = masks_of(cell, cases.random_cell_params(cell, rng), key)
    assert {0.0, 2.0} == set(np.unique(s_mask))
    np.testing.assert_allclose(np.unique(x_mask), [0.0, 1 / 0.6])
    options = {"chunk": 3} if method == "chunked" else {}
    check_equation(cell, lambda p, c, x: step(p, c, x, ln, x_mask, s_mask), rng, key=key, method=method, **options)


@pytest.mark.heavy
def test_masks_do_not_depend_on_chunks_nor_do_gradients(x64, rng, key):
    cell = jn.zoo.RecurrentHighway(HIDDEN, 2, norm=jn.BatchNorm(scale_init=0.5), rate=0.5, input_rate=0.5)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, STEPS, (BATCH,), jnp.float64)

    def gradients(**options):
        def loss(params, xs):
            out = jn.unroll(cell, params, xs, key=key, **options).outputs
            return jnp.sum(out * jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape))

        return jax.tree.leaves(jax.value_and_grad(loss, (0, 1))(params, xs))

    expected = gradients(method="scan")
    for got, leaf in zip(gradients(chunk=3, save="chunks"), expected, strict=True):
        np.testing.assert_allclose(got, leaf, rtol=1e-9, atol=1e-11)


def test_dropout_is_off_when_deterministic_and_needs_a_key_otherwise(rng, key):
    cell = jn.zoo.RecurrentHighway(HIDDEN, 2, rate=0.5)
    still = jn.deterministic(cell)
    assert still == dataclasses.replace(cell, deterministic=True)
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng)
    plain = jn.unroll(jn.zoo.RecurrentHighway(HIDDEN, 2), params, xs).outputs
    np.testing.assert_array_equal(jn.unroll(still, params, xs).outputs, plain)
    np.testing.assert_array_equal(jn.unroll(still, params, xs, key=key).outputs, plain)
    with pytest.raises(
        ValueError, match=r"RecurrentHighway: rate=0.5, input_rate=0.0 needs randomness, but key is None"
    ):
        jn.unroll(cell, params, xs)
    first, again, other = (jn.unroll(cell, params, xs, key=jax.random.key(k)).outputs for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert (cell.needs_key, still.needs_key) == (True, False)


def test_as_many_units_are_kept_as_asked_for_and_the_mean_stays(key):
    cell = jn.zoo.RecurrentHighway(64, 1, rate=0.25)
    drawn = cell.prepare(cell.init(key, 3), batch_shape=(100,), key=key).extra
    masks = np.asarray(drawn.state_mask)
    assert masks.shape == (100, 64)
    assert abs((masks > 0).mean() - 0.75) < 0.02
    assert abs(masks.mean() - 1.0) < 0.03
    assert drawn.input_mask is None


def test_fresh_weights(key):
    params = to_numpy(jn.zoo.RecurrentHighway(HIDDEN, 2, norm=jn.LayerNorm(), transform_bias=-4.0).init(key, 3))
    np.testing.assert_array_equal(params.bias, np.tile(np.repeat([0.0, -4.0], HIDDEN), 2))
    for kernel in params.recurrent.transpose(0, 2, 1, 3).reshape(-1, HIDDEN, HIDDEN):
        np.testing.assert_allclose(kernel @ kernel.T, np.eye(HIDDEN), atol=1e-6)
    assert not np.allclose(params.recurrent[0], params.recurrent[1])
    assert params.norm.input.scale.shape == (2 * HIDDEN,)
    assert params.norm.recurrent.scale.shape == (2 * 2 * HIDDEN,)
    shifted = jn.zoo.RecurrentHighway(HIDDEN, 2, norm=jn.LayerNorm(), use_bias=False).init(key, 3)
    assert shifted.bias is None
    np.testing.assert_array_equal(shifted.norm.recurrent.bias, np.tile(np.repeat([0.0, -2.0], HIDDEN), 2))
    np.testing.assert_array_equal(shifted.norm.input.bias, np.zeros(2 * HIDDEN))
    stats = jn.zoo.RecurrentHighway(HIDDEN, 3, norm=jn.BatchNorm(), max_steps=5).initial_stats()
    assert stats.recurrent.mean.shape == (5, 3 * 2 * HIDDEN)
    assert stats.recurrent.count.shape == (5,)
    assert stats.input.mean.shape == (5, 2 * HIDDEN)


def test_errors():
    with pytest.raises(ValueError, match="RecurrentHighway: depth must be a positive integer, got 0"):
        jn.zoo.RecurrentHighway(HIDDEN, 0)
    with pytest.raises(ValueError, match=r"RecurrentHighway: rate must be a number .* got 1.5"):
        jn.zoo.RecurrentHighway(HIDDEN, 2, rate=1.5)
    with pytest.raises(ValueError, match="RecurrentHighway: input_rate must be a number"):
        jn.zoo.RecurrentHighway(HIDDEN, 2, input_rate=-0.1)
