"""The GRU with the reset gate before the product: its equation in NumPy, and the cells of Keras and Haiku."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells.oracles import flat, sigmoid
from tests.cells.test_peers import agree, order, ours, run_keras
from tests.tools.peers import import_peer, lenient
from tests.zoo.cells.relative_tools import BATCH, HIDDEN, bn, check_equation, features_of, ln, part

LN, BN = jn.LayerNorm(), jn.BatchNorm()


def step(p, carry, x, normalize, groups=((0, 1), (2,)), renew=False):
    """Cho et al.; ``normalize(site, v, gates)`` acts on each group of gates (order r z n)."""
    (h,) = carry

    def gate(group, state):
        group = list(group)
        x_part = normalize("input", x @ flat(p.kernel[:, group]), group)
        h_part = normalize("recurrent", state @ flat(p.recurrent[:, group]), group)
        return normalize("summed", x_part + h_part, group) + p.bias[features_of(group)]

    first = np.concatenate([gate(group, h) for group in groups[:-1]], axis=-1)
    r, z = np.split(sigmoid(first), 2, axis=-1)
    n = np.tanh(gate(groups[-1], r * h))
    h = (1 - z) * h + z * n if renew else (1 - z) * n + z * h
    return (h,), h


def at(norm, there, p):
    return lambda site, v, group: norm(v, part(getattr(p.norm, site), features_of(group))) if site in there else v


@pytest.mark.parametrize("renew", [False, True])
@pytest.mark.parametrize("there", [(), ("input", "recurrent"), ("summed",)])
def test_reset_before_gru_is_its_equation(there, renew, x64, rng):
    cell = jn.zoo.ResetBeforeGRU(
        HIDDEN, norm=jn.CellNorms(**dict.fromkeys(there, LN)), update_gate="renew" if renew else "keep"
    )
    check_equation(cell, lambda p, c, x: step(p, c, x, at(ln, there, p), renew=renew), rng)


def test_each_gate_alone(x64, rng):
    cell = jn.zoo.ResetBeforeGRU(HIDDEN, norm=LN, gate_groups=(1, 1, 1))
    there = ("input", "recurrent")
    check_equation(cell, lambda p, c, x: step(p, c, x, at(ln, there, p), ((0,), (1,), (2,))), rng)


def test_batch_normalization_and_its_moments(x64, rng):
    """Moments of both products come out side by side, and serve as statistics."""
    cell = jn.zoo.ResetBeforeGRU(HIDDEN, norm=jn.CellNorms(recurrent=BN, summed=BN))
    there = ("recurrent", "summed")
    out = check_equation(cell, lambda p, c, x: step(p, c, x, at(bn, there, p)), rng)
    for site in there:
        assert getattr(out.moments, site).mean.shape == (1, 3 * HIDDEN)
        np.testing.assert_array_equal(getattr(out.moments, site).count, 4 * BATCH)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, 1, (BATCH,), jnp.float64)
    carry = jn.GRUCarry(jnp.asarray(rng.standard_normal((BATCH, HIDDEN))))
    trained = jn.unroll(cell, params, xs, carry=carry)
    again = jn.unroll(cell, params, xs, carry=carry, stats=trained.moments)
    np.testing.assert_allclose(again.outputs, trained.outputs, rtol=1e-9)


def test_it_is_another_model_than_with_the_reset_after(rng):
    before, after = jn.zoo.ResetBeforeGRU(HIDDEN), jn.GRU(HIDDEN)
    params = cases.random_cell_params(before, rng)
    xs = cases.random_inputs(rng)
    same = jn.GRUParams(*params[:3], recurrent_bias=jnp.zeros(3 * HIDDEN), norm=params.norm)
    a, b = jn.unroll(before, params, xs).outputs, jn.unroll(after, same, xs).outputs
    np.testing.assert_allclose(a[0], b[0], rtol=1e-6)  # no state yet
    assert not np.allclose(a[1:], b[1:], atol=1e-3)


@pytest.mark.long
def test_keras_gru_with_the_reset_before():
    """It has one bias then."""
    keras = import_peer("keras")
    params, xs, carry, out = ours(jn.zoo.ResetBeforeGRU(HIDDEN))
    places = (1, 0, 2)  # its z r h is our r z n
    with lenient():
        weights = [order(leaf, places) for leaf in (params.kernel, params.recurrent, params.bias)]
        layer = keras.layers.GRU(HIDDEN, return_sequences=True, reset_after=False)
        agree(run_keras(layer, weights, xs, (carry.h,)), out.outputs)


@pytest.mark.long
def test_haiku_gru():
    haiku = import_peer("haiku", "bench")
    params, xs, carry, out = ours(jn.zoo.ResetBeforeGRU(HIDDEN, update_gate="renew"))
    places = (1, 0, 2)  # its z r a is our r z n
    weights = {
        "w_i": order(params.kernel, places),
        "w_h": order(params.recurrent, places),
        "b": order(params.bias, places),
    }
    with lenient():
        run = haiku.without_apply_rng(haiku.transform(lambda x, h: haiku.GRU(HIDDEN)(x, h)))
        h, outputs = carry.h, []
        for x in xs:
            y, h = run.apply({"gru": weights}, x, h)
            outputs.append(y)
        agree(np.stack(outputs), out.outputs)


def test_fresh_weights(key):
    params = jn.zoo.ResetBeforeGRU(HIDDEN, update_bias=-1.0).init(key, 3)
    np.testing.assert_array_equal(params.bias, np.repeat([0.0, -1.0, 0.0], HIDDEN))
    assert jax.tree.map(jnp.shape, (params.kernel, params.recurrent)) == ((3, 3, HIDDEN), (HIDDEN, 3, HIDDEN))
    shifted = jn.zoo.ResetBeforeGRU(HIDDEN, norm=LN, use_bias=False, update_bias=-1.0).init(key, 3)
    np.testing.assert_array_equal(shifted.norm.recurrent.bias, np.repeat([0.0, -1.0, 0.0], HIDDEN))


RELATIVES = {  # with products of other inputs in a step, or a structure of their own
    "ResetBeforeGRU": jn.zoo.ResetBeforeGRU(HIDDEN),
    "ConcatenatedGRU": jn.zoo.ConcatenatedGRU(HIDDEN),
    "BlockGRU": jn.zoo.BlockGRU(HIDDEN, blocks=2),
    "MUT1": jn.zoo.MUT1(HIDDEN),
    "MUT2": jn.zoo.MUT2(HIDDEN),
    "MUT3": jn.zoo.MUT3(HIDDEN),
    "RecurrentHighway": jn.zoo.RecurrentHighway(HIDDEN, 2),
    "IndRNN": jn.zoo.IndRNN(HIDDEN),
    "MinGRU": jn.zoo.MinGRU(HIDDEN),
    "MinLSTM": jn.zoo.MinLSTM(HIDDEN),
}


@pytest.mark.parametrize("name", RELATIVES)
def test_masks_for_each_gate_are_refused(name, rng, key):
    params, xs = cases.random_cell_params(RELATIVES[name], rng, HIDDEN), jnp.ones((2, BATCH, HIDDEN))
    with pytest.raises(ValueError, match=rf"tied=False needs the kernels .*, and {name} does not have them so"):
        jn.unroll(jn.VariationalDropout(RELATIVES[name], input_rate=0.5, tied=False), params, xs, key=key)


@pytest.mark.parametrize("name", ["MinGRU", "MinLSTM"])
def test_masks_of_the_state_need_a_recurrent_kernel(name, rng, key):
    params, xs = cases.random_cell_params(RELATIVES[name], rng, HIDDEN), jnp.ones((2, BATCH, HIDDEN))
    with pytest.raises(ValueError, match=rf"VariationalDropout: {name} has no recurrent kernel"):
        jn.unroll(jn.VariationalDropout(RELATIVES[name], rate=0.5), params, xs, key=key)


def test_errors():
    with pytest.raises(ValueError, match=r"ResetBeforeGRU: gate_groups=\(1, 2\) joins the candidate"):
        jn.zoo.ResetBeforeGRU(HIDDEN, gate_groups=(1, 2))
