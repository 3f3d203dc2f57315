"""What is peculiar to the RG-LRU: blocks, decays near one, a first step with multiplier one, all steps at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxnorm as jn
from tests import cases, oracles

HIDDEN = 6
METHODS = ["chunked", "scan", "associative"]


def gates_of(p, x, norm):
    """Both gates of a step, block by block; the norm sees each gate whole."""
    blocks, size = p.kernel.shape[:2]
    parts = np.stack([x[:, k * size : (k + 1) * size] for k in range(blocks)])
    v = [np.concatenate([parts[k] @ p.kernel[k, :, gate] for k in range(blocks)], axis=-1) for gate in range(2)]
    bias = np.zeros((2, x.shape[1])) if p.bias is None else oracles.by_gate(p.bias, 2)
    return [oracles.sigmoid(norm(v[gate], gate) + bias[gate]) for gate in range(2)]


def oracle(p, xs, h, *, real, starts, norm=lambda v, gate: v, exponent=8.0):
    """Equations 1 to 4 with a loop over steps; ``starts`` marks the first real steps of sequences."""
    hs = []
    for x, here, start in zip(xs, real, starts, strict=True):
        r, i = gates_of(p, x, norm)
        a = oracles.sigmoid(p.decay_logit) ** (exponent * r)
        multiplier = np.where(start[:, None], 1.0, np.sqrt(1.0 - a * a))
        new = a * h + multiplier * (i * x)
        h = np.where(here[:, None], new, h)
        hs.append(np.where(here[:, None], new, 0.0))
    return np.stack(hs), h


def layer(p):
    scale, bias = (oracles.by_gate(leaf, 2) for leaf in p.norm.input)
    return lambda v, gate: oracles.layer_norm(v, scale[gate], bias[gate])


def draw(cell, rng, steps=5, batch=(3,)):
    params = cases.random_cell_params(cell, rng, in_features=HIDDEN, dtype=jnp.float64)
    return params, jnp.asarray(rng.standard_normal((steps, *batch, HIDDEN)))


CELLS = {
    "one block": (jn.zoo.RGLRU(HIDDEN), None),
    "blocks": (jn.zoo.RGLRU(HIDDEN, blocks=3, exponent=5.0), None),
    "without bias": (jn.zoo.RGLRU(HIDDEN, blocks=2, use_bias=False), None),
    "layer norm": (jn.zoo.RGLRU(HIDDEN, blocks=2, norm=jn.LayerNorm()), layer),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CELLS)
def test_cell_is_the_equation_of_the_paper(name, method, x64, rng):
    cell, norm = CELLS[name]
    params, xs = draw(cell, rng)
    out = jn.unroll(cell, params, xs, method=method)
    p, real = oracles.to_numpy(params), np.ones((5, 3), bool)
    starts = np.arange(5)[:, None] == np.zeros(3)
    options = {} if norm is None else {"norm": norm(p)}
    expected, last = oracle(
        p, np.asarray(xs), np.zeros((3, HIDDEN)), real=real, starts=starts, exponent=cell.exponent, **options
    )
    np.testing.assert_allclose(out.outputs, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(out.carry.h, last, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_first_steps_after_masks_and_resets(method, x64, rng):
    """A masked step is no first step: the first real one after it is. A reset at a masked step counts, too."""
    cell = jn.zoo.RGLRU(HIDDEN, blocks=2)
    params, xs = draw(cell, rng, 6)
    where = np.array([[0, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1], [1, 1, 1]], bool)
    reset = np.zeros((6, 3), bool)
    reset[4, 1] = reset[3, 2] = True
    starts = np.zeros((6, 3), bool)
    starts[2, 0] = starts[0, 1] = starts[4, 1] = starts[0, 2] = starts[4, 2] = True
    out = jn.unroll(cell, params, xs, where=jnp.asarray(where), reset=jnp.asarray(reset), method=method)
    h, hs, p = np.zeros((3, HIDDEN)), [], oracles.to_numpy(params)
    for t in range(6):
        h = np.where(reset[t][:, None], 0.0, h)
        one, h = oracle(p, np.asarray(xs[t : t + 1]), h, real=where[t : t + 1], starts=starts[t : t + 1])
        hs.append(one[0])
    np.testing.assert_allclose(out.outputs, np.stack(hs), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_carry_that_is_handed_on_is_no_first_step(method, x64, rng):
    cell = jn.zoo.RGLRU(HIDDEN)
    params, xs = draw(cell, rng)
    whole = jn.unroll(cell, params, xs, method=method)
    first = jn.unroll(cell, params, xs[:2], method=method)
    rest = jn.unroll(cell, params, xs[2:], carry=first.carry, method=method)
    np.testing.assert_allclose(rest.outputs, whole.outputs[2:], rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(rest.carry.step, [5, 5, 5])
    anew = jn.unroll(cell, params, xs[2:], carry=first.carry.carry, method=method)  # h alone begins a sequence
    p, real = oracles.to_numpy(params), np.ones((3, 3), bool)
    starts = np.arange(3)[:, None] == np.zeros(3)
    expected, _ = oracle(p, np.asarray(xs[2:]), np.asarray(first.carry.h), real=real, starts=starts)
    np.testing.assert_allclose(anew.outputs, expected, rtol=1e-10, atol=1e-12)


def test_gradients_of_all_methods_agree(x64, rng):
    cell = jn.zoo.RGLRU(HIDDEN, blocks=2, norm=jn.RMSNorm(), learn_carry=True)
    params, xs = draw(cell, rng)
    reset = jnp.asarray(rng.random((5, 3)) < 0.3)

    def loss(params, xs, **options):
        return jnp.sum(jnp.sin(3.0 * jn.unroll(cell, params, xs, reset=reset, **options).outputs))

    first, *others = (jax.grad(loss, (0, 1))(params, xs, method=method) for method in METHODS)
    for other in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), first, other)
    check_grads(jax.jit(lambda p, x: loss(p, x, method="scan")), (params, xs), order=1, modes=["rev"])


def test_digits_of_a_decay_near_one(rng):
    """1 - a^2 is about 1e-6 here: from a itself in float32 it would have one digit."""
    cell = jn.zoo.RGLRU(HIDDEN, use_bias=False)
    params = cases.random_cell_params(cell, rng, in_features=HIDDEN)
    params = params._replace(decay_logit=jnp.asarray(rng.uniform(15.0, 17.0, HIDDEN), jnp.float32))
    xs = jnp.asarray(rng.standard_normal((400, 3, HIDDEN)), jnp.float32)
    p, real = oracles.to_numpy(params), np.ones((400, 3), bool)
    expected, _ = oracle(p, np.asarray(xs, np.float64), np.zeros((3, HIDDEN)), real=real, starts=~real)
    shift = jn.CountedCarry(jn.zoo.RGLRUCarry(jnp.zeros((3, HIDDEN))), jnp.ones(3, jnp.int32))
    for method in METHODS:
        got = jn.unroll(cell, params, xs, carry=shift, method=method).outputs
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("extreme", [200.0, -200.0])
def test_gates_and_decays_at_their_ends_have_finite_gradients(method, extreme, rng):
    cell = jn.zoo.RGLRU(HIDDEN)
    params = cases.random_cell_params(cell, rng, in_features=HIDDEN)
    xs = jnp.asarray(rng.standard_normal((4, 2, HIDDEN)), jnp.float32)
    for changed in (
        params._replace(decay_logit=jnp.full((HIDDEN,), extreme)),
        params._replace(bias=jnp.full((2 * HIDDEN,), extreme)),
    ):
        value, gradient = jax.value_and_grad(lambda p: jnp.sum(jn.unroll(cell, p, xs, method=method).outputs))(changed)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((value, gradient)))


def test_initial_values(key):
    cell = jn.zoo.RGLRU(512, blocks=4, decay_range=(0.5, 0.9))
    params = cell.init(key, 512)
    decay = np.asarray(jax.nn.sigmoid(params.decay_logit), np.float64) ** 8
    assert 0.5 - 1e-3 < decay.min() < 0.51
    assert 0.89 < decay.max() < 0.9 + 1e-3
    np.testing.assert_allclose(decay.mean(), 0.7, atol=0.02)
    published = np.asarray(jax.nn.sigmoid(jn.zoo.RGLRU(512).init(key, 512).decay_logit), np.float64) ** 8
    assert 0.9 - 1e-3 < published.min() < published.max() < 0.999 + 1e-4
    assert params.kernel.shape == (4, 128, 2, 128)
    np.testing.assert_allclose(np.std(params.kernel, axis=(1, 3)), 128**-0.5, rtol=0.03)
    assert not np.any(params.bias)
    assert len({leaf.tobytes() for leaf in np.asarray(params.kernel).transpose(0, 2, 1, 3).reshape(8, -1)}) == 8


def test_state_in_float32_of_inputs_in_half_precision(rng):
    cell = jn.zoo.RGLRU(HIDDEN, dtype=jnp.bfloat16)
    params = cases.random_cell_params(cell, rng, in_features=HIDDEN)
    out = jn.unroll(cell, params, jnp.ones((3, 2, HIDDEN), jnp.bfloat16))
    assert out.outputs.dtype == jnp.bfloat16
    assert out.carry.h.dtype == jnp.float32


def test_what_does_not_fit_is_refused(key):
    with pytest.raises(ValueError, match=r"RGLRU: blocks must divide hidden_features = 6, got 4"):
        jn.zoo.RGLRU(6, blocks=4)
    with pytest.raises(ValueError, match=r"RGLRU: decay_range must be two numbers in \(0, 1\).*got \(0\.9, 1\.0\)"):
        jn.zoo.RGLRU(6, decay_range=(0.9, 1.0))
    with pytest.raises(ValueError, match=r"RGLRU\.init: .* in_features must be H = 6, got 3"):
        jn.zoo.RGLRU(6).init(key, 3)
    with pytest.raises(ValueError, match=r"RGLRU: there is no site 'recurrent'"):
        jn.zoo.RGLRU(6, norm=jn.CellNorms(recurrent=jn.LayerNorm()))


def test_cells_that_do_not_ask_get_no_age(rng, monkeypatch):
    """Not even those that count steps for the rows of their statistics."""
    seen, step = [], jn.LSTM.step

    def watched(self, weights, carry, t):
        seen.append(t.age)
        return step(self, weights, carry, t)

    monkeypatch.setattr(jn.LSTM, "step", watched)
    cell = jn.bn_lstm(2, max_steps=3)
    jn.unroll(cell, cases.random_cell_params(cell, rng), cases.random_inputs(rng, 7, (2,)))
    assert seen
    assert set(seen) == {None}
