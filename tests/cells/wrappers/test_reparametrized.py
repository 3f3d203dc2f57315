"""A cell with normalized kernels is the plain cell with the kernels of the paper; they are made once a sequence."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
import jaxnorm.linen
from tests import cases
from tests.cells import oracles
from tests.contracts import cell_checks

STEPS, BATCH, HIDDEN = 4, 3, 4


def unit(kernel):
    return kernel / np.sqrt((kernel**2).sum(0, keepdims=True))


def weight_norm(params, name):
    return params.scale[name].reshape(4, HIDDEN) * unit(getattr(params.cell, name))


def bounded(params, name):
    return params.state[name].rho * unit(getattr(params.cell, name))


@pytest.mark.parametrize(
    ("cell", "kernel"),
    [(jn.zoo.weight_norm_lstm(HIDDEN), weight_norm), (jn.zoo.bounded_weight_norm_lstm(HIDDEN), bounded)],
    ids=["weight_norm", "bounded"],
)
def test_it_is_the_lstm_with_the_kernels_of_the_paper(cell, kernel, x64, rng):
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, STEPS, (BATCH,), jnp.float64)
    got = jn.unroll(cell, params, xs)
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    inside = weights.cell._replace(kernel=kernel(weights, "kernel"), recurrent=kernel(weights, "recurrent"))
    state = (np.zeros((BATCH, HIDDEN)),) * 2
    for x, y in zip(np.asarray(xs), got.outputs, strict=True):
        state, expected = oracles.lstm_step(inside, state, x)
        np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-12)


def test_it_starts_as_the_plain_cell_and_the_bound_is_the_mean_length(key):
    xs = jax.random.normal(jax.random.key(1), (3, 2, 5))
    cell = jn.zoo.weight_norm_lstm(HIDDEN)
    params = cell.init(key, 5)
    np.testing.assert_allclose(
        jn.unroll(cell, params, xs).outputs, jn.unroll(jn.lstm(HIDDEN), params.cell, xs).outputs, atol=1e-6
    )
    params = jn.zoo.bounded_weight_norm_lstm(HIDDEN).init(key, 5)
    lengths = np.sqrt(np.square(np.asarray(params.cell.kernel)).sum(0))
    np.testing.assert_allclose(params.state["kernel"].rho, lengths.mean(), rtol=1e-5)


def test_gradients_are_orthogonal_to_v_and_leave_the_bound_alone(x64, rng):
    xs = cases.random_inputs(rng, 3, (BATCH,), jnp.float64)
    for cell in (jn.zoo.weight_norm_lstm(HIDDEN), jn.zoo.bounded_weight_norm_lstm(HIDDEN)):
        params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
        gradient = jax.jit(jax.grad(lambda p, cell=cell: jnp.sum(jnp.sin(jn.unroll(cell, p, xs).outputs))))(params)
        for name in ("kernel", "recurrent"):
            along = (getattr(params.cell, name) * getattr(gradient.cell, name)).sum(0)
            np.testing.assert_allclose(along, 0.0, atol=1e-10)
            assert getattr(gradient.cell, name).any()
        assert all(leaf.any() for leaf in jax.tree.leaves(gradient.scale))
        assert not any(leaf.any() for leaf in jax.tree.leaves(gradient.state))


@pytest.mark.heavy
def test_it_keeps_the_contract_of_cells(x64):
    cell = jn.Reparametrized(jn.ln_gru(HIDDEN), {"recurrent": jn.WeightNorm()})
    cell_checks.check_loop(cell)
    cell_checks.check_split(cell)
    cell_checks.check_vmap(cell)
    cell_checks.check_program(cell)
    assert isinstance(cell, jn.Cell)
    assert pickle.loads(pickle.dumps(cell)) == cell
    assert hash(cell) == hash(jn.Reparametrized(jn.ln_gru(HIDDEN), (("recurrent", jn.WeightNorm()),)))
    assert cell != jn.Reparametrized(jn.ln_gru(HIDDEN), jn.WeightNorm())


def test_cells_that_draw_masks_are_found_inside():
    """Around a wrapper and inside of one."""
    dropped = jn.Zoneout(jn.gru(HIDDEN), rate=0.5)
    cell = jn.Reparametrized(dropped, jn.WeightNorm())
    assert cell.needs_key
    quiet = jn.deterministic(cell)
    assert not quiet.needs_key
    assert quiet == jn.Reparametrized(jn.deterministic(dropped), jn.WeightNorm())
    params, xs = cell.init(jax.random.key(0), 3), jnp.ones((3, 2, 3))
    outside = jn.Zoneout(jn.Reparametrized(jn.gru(HIDDEN), jn.WeightNorm()), rate=0.5)
    key = jax.random.key(1)
    np.testing.assert_allclose(
        jn.unroll(cell, params, xs, key=key).outputs, jn.unroll(outside, params, xs, key=key).outputs, atol=1e-6
    )
    with pytest.raises(ValueError, match=r"Zoneout: rate=0.5 needs randomness, but key is None"):
        jn.unroll(cell, params, xs)


def test_kernels_are_made_before_the_loop(rng):
    cell = jn.zoo.weight_norm_lstm(HIDDEN)
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng)
    program = jax.make_jaxpr(jax.grad(lambda p: jn.unroll(cell, p, xs).outputs.sum()))(params)
    found = list(cell_checks.equations(program.jaxpr))
    assert any(equation.primitive.name == "sqrt" for equation in found)
    for scan in (equation for equation in found if equation.primitive.name == "scan"):
        inside = cell_checks.equations(scan.params["jaxpr"].jaxpr)
        assert not any(equation.primitive.name == "sqrt" for equation in inside)


def test_it_runs_in_a_flax_module(key):
    cell = jn.zoo.weight_norm_lstm(HIDDEN)
    xs = jax.random.normal(jax.random.key(1), (2, 5, 3))
    ys, variables = jaxnorm.linen.RNN(cell).init_with_output(key, xs)
    params = variables["params"]
    inside = jn.LSTMParams(**{**params["cell"], "norm": jn.CellNorms()})
    same = jn.ReparametrizedParams(inside, params["scale"], {})
    np.testing.assert_allclose(ys, jn.unroll(cell, same, xs, time_axis=1).outputs, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda key: jn.Reparametrized(jn.LayerNorm(), jn.WeightNorm()), TypeError, r"cell must be a cell spec"),
        (lambda key: jn.Reparametrized(jn.lstm(4), {"kernel": 3}), TypeError, r"kernels\['kernel'\] must be a weight"),
        (lambda key: jn.Reparametrized(jn.lstm(4), {}), ValueError, r"kernels is empty"),
        (lambda key: jn.Reparametrized(jn.lstm(4), jn.SpectralNorm()), ValueError, r"SpectralNorm.* moves in training"),
        (
            lambda key: jn.Reparametrized(jn.lstm(4), {"kern": jn.WeightNorm()}).init(key, 3),
            ValueError,
            r"LSTM has no weight 'kern', only \('kernel', 'recurrent'",
        ),
    ],
)
def test_errors(make, error, message, key, unhooked):
    with pytest.raises(error, match=message):
        make(key)
