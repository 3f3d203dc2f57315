"""What is peculiar to minGRU and minLSTM: the equations, the paper's form with logarithms, and very long sequences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells import oracles

HIDDEN = 4


def g(v):
    return np.where(v >= 0, v + 0.5, oracles.sigmoid(v))


def softplus(v):
    return np.logaddexp(0.0, v)


def layer_norm(p, v, k):
    return oracles.layer_norm(v, *(oracles.by_gate(leaf, p.kernel.shape[1])[k] for leaf in p.norm.input))


def plain(p, v, k):
    return v


def loop(name, p, xs, h, norm=plain, candidate=lambda v: v):
    """The equations of the paper, step by step."""
    hs, bias = [], oracles.by_gate(p.bias, p.kernel.shape[1])
    for x in xs:
        *gates, n = (norm(p, x @ p.kernel[:, k], k) + bias[k] for k in range(p.kernel.shape[1]))
        n = candidate(n)
        if name == "min_gru":
            (z,) = map(oracles.sigmoid, gates)
            h = (1 - z) * h + z * n
        else:
            i, f = map(oracles.sigmoid, gates)
            h = f / (f + i) * h + i / (f + i) * n
        hs.append(h)
    return np.stack(hs)


def with_logarithms(name, p, xs, h):
    """The paper's parallel form, for candidates above zero: everything as a logarithm, sums by logaddexp."""
    count = p.kernel.shape[1]
    *gates, n = (xs @ p.kernel[:, k] + oracles.by_gate(p.bias, count)[k] for k in range(count))
    log_n = np.where(n >= 0, np.log(np.maximum(n, 0.0) + 0.5), -softplus(-n))
    if name == "min_gru":
        log_stays, log_enters = -softplus(gates[0]), -softplus(-gates[0])
    else:
        difference = softplus(-gates[1]) - softplus(-gates[0])
        log_stays, log_enters = -softplus(difference), -softplus(-difference)
    total = np.cumsum(log_stays, axis=0)
    terms = np.concatenate([np.log(h)[None], log_enters + log_n - total])  # log(h), not log(g(h))
    return np.exp(total + np.logaddexp.accumulate(terms, axis=0)[1:])


CELLS = {
    "min_gru": (jn.zoo.MinGRU, jn.zoo.MinGRUCarry),
    "min_lstm": (jn.zoo.MinLSTM, jn.zoo.MinLSTMCarry),
}
every = pytest.mark.parametrize("name", CELLS)


def draw(cell, rng, steps=5):
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, steps, dtype=jnp.float64)
    return params, oracles.to_numpy(params), xs, rng.uniform(0.1, 2.0, (3, HIDDEN))


@every
@pytest.mark.parametrize("method", ["chunked", "associative"])
def test_cell_is_the_equation_of_the_paper(name, method, x64, rng):
    """Plain, and with layer normalization of each gate alone and a positive candidate; from a carry of any sign."""
    make, carry = CELLS[name]
    for cell, options in (
        (make(HIDDEN), {}),
        (make(HIDDEN, norm=jn.LayerNorm(), candidate="positive"), {"norm": layer_norm, "candidate": g}),
    ):
        params, p, xs, h = draw(cell, rng)
        got = jn.unroll(cell, params, xs, carry=carry(jnp.asarray(-h)), method=method)
        np.testing.assert_allclose(got.outputs, loop(name, p, np.asarray(xs), -h, **options), rtol=1e-10, atol=1e-12)


@every
@pytest.mark.parametrize("method", ["chunked", "associative"])
def test_positive_form_is_the_papers_with_logarithms(name, method, x64, rng):
    """The trap of a port: the carry that is handed in is h, and does not go through g."""
    make, carry = CELLS[name]
    cell = make(HIDDEN, candidate="positive")
    params, p, xs, h = draw(cell, rng)
    got = jn.unroll(cell, params, xs, carry=carry(jnp.asarray(h)), method=method)
    np.testing.assert_allclose(got.outputs, with_logarithms(name, p, np.asarray(xs), h), rtol=1e-10)
    assert np.max(np.abs(got.outputs[0] - with_logarithms(name, p, np.asarray(xs), g(h))[0])) > 1e-3


@every
def test_a_thousand_steps_with_saturated_gates_in_float32(name, rng):
    """Gates between exp(-200) and one: the scan stays at rounding of the float64 logarithms, and gradients finite."""
    make, carry = CELLS[name]
    cell = make(HIDDEN, candidate="positive")
    params = cases.random_cell_params(cell, rng)
    steep = jnp.array([40.0] * (params.kernel.shape[1] - 1) + [1.0])
    params = params._replace(kernel=params.kernel * steep[None, :, None])
    xs, h = cases.random_inputs(rng, 1024), np.full((3, HIDDEN), 0.7, np.float32)

    @jax.jit
    def run(xs):
        def loss(xs):
            out = jn.unroll(cell, params, xs, carry=carry(jnp.asarray(h)), method="associative").outputs
            return jnp.sum(out), out

        return jax.grad(loss, has_aux=True)(xs)

    gradient, outputs = run(xs)
    p = oracles.to_numpy(params)
    np.testing.assert_allclose(outputs, with_logarithms(name, p, np.asarray(xs, np.float64), h), rtol=2e-4)
    assert np.all(np.isfinite(gradient))


def test_gates_too_small_for_the_dtype_are_mixed_by_their_ratio():
    """Both gates of a minLSTM at exp(-200): their quotient is 1/2 all the same."""
    cell = jn.zoo.MinLSTM(1)
    params = jn.zoo.MinLSTMParams(jnp.zeros((1, 3, 1)), jnp.array([-200.0, -200.0, 3.0]), jn.CellNorms())
    got = jn.unroll(cell, params, jnp.zeros((1, 1)), carry=jn.zoo.MinLSTMCarry(jnp.array([1.0])))
    np.testing.assert_allclose(got.outputs, [[2.0]])


def test_shapes_and_values_of_fresh_weights(key):
    params = jn.zoo.MinLSTM(HIDDEN, forget_bias=jn.initializers.Uniform(1.0, 2.0)).init(key, 3)
    assert params.kernel.shape == (3, 3, HIDDEN)
    i, f, n = oracles.by_gate(params.bias, 3)
    np.testing.assert_array_equal([i, n], np.zeros((2, HIDDEN)))
    assert np.all((f >= 1.0) & (f <= 2.0))
    params = jn.zoo.MinGRU(HIDDEN, update_bias=-1.0, use_bias=False, norm=jn.LayerNorm()).init(key, 3)
    assert params.bias is None
    np.testing.assert_array_equal(params.norm.input.bias, np.repeat([-1.0, 0.0], HIDDEN))


def test_errors():
    with pytest.raises(ValueError, match="MinGRU: there is no site 'recurrent', only 'input'"):
        jn.zoo.MinGRU(HIDDEN, norm=jn.CellNorms(recurrent=jn.LayerNorm()))
    with pytest.raises(ValueError, match="MinLSTM: gate_groups must be a tuple of positive sizes that add up to 3"):
        jn.zoo.MinLSTM(HIDDEN, gate_groups=(2,))
