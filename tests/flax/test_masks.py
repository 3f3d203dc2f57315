"""Cells that draw masks in the Flax modules: streams, the switch to test time, and Flax's own drivers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.errors import InvalidRngError

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from jaxnorm._shared.names import to_names
from tests import cases
from tests.flax.flax_tools import close, nnx_parts, nnx_with

pytestmark = pytest.mark.long

CELL = jn.Zoneout(jn.VariationalDropout(jn.ln_gru(4), rate=0.3, input_rate=0.4), rate=0.5)


@pytest.fixture
def given(rng):
    params, xs = cases.random_cell_params(CELL, rng), cases.random_inputs(rng, 4, (3,)).swapaxes(0, 1)
    return params, xs, {"params": to_names(params)}


def core(cell, given, key=None):
    return jn.unroll(cell, given[0], given[1], key=key, time_axis=1).outputs


def test_linen_draws_from_the_stream_dropout(given, key):
    _, xs, variables = given
    module = jl.RNN(CELL)
    drawn = module.bind(variables, rngs={"dropout": key}).make_rng("dropout")
    close(module.apply(variables, xs, rngs={"dropout": key}), core(CELL, given, drawn))
    with pytest.raises(InvalidRngError, match="dropout"):
        module.apply(variables, xs)


def test_linen_is_switched_as_flax_does(given, key):
    _, xs, variables = given
    test = core(jn.deterministic(CELL), given)
    close(jl.RNN(CELL).apply(variables, xs, deterministic=True), test)
    close(jl.RNN(CELL, deterministic=True).apply(variables, xs), test)
    close(jl.RNN(jn.deterministic(CELL)).apply(variables, xs), test)
    always = jl.RNN(jn.deterministic(CELL))
    trained = always.apply(variables, xs, deterministic=False, rngs={"dropout": key})
    close(trained, jl.RNN(CELL).apply(variables, xs, rngs={"dropout": key}))
    with pytest.raises(ValueError, match="deterministic"):
        jl.RNN(CELL, deterministic=True).apply(variables, xs, deterministic=True)
    assert jax.eval_shape(lambda: jl.RNN(CELL).init(key, xs))["params"].keys() == variables["params"].keys()


def test_linen_noise_on_the_initial_state_beside_masks(rng, key):
    """``init_key`` is for the noise alone: without masks to draw the state is the same."""
    cell = jn.Zoneout(jn.gru(4, initial_noise=1.0), rate=1.0)
    variables, xs = {"params": to_names(cases.random_cell_params(cell, rng))}, jnp.ones((3, 2, 3))
    one, two = (jl.RNN(cell).apply(variables, xs, init_key=key, rngs={"dropout": jax.random.key(k)}) for k in (1, 2))
    close(one, two)
    close(one[:, 0], cell.initial_carry((3,), key=key).h)
    other = jl.RNN(cell).apply(variables, xs, rngs={"dropout": key})
    assert np.abs(np.asarray(other - one)).max() > 0.1


def test_nnx_takes_a_key_or_the_stream_dropout(given, key):
    params, xs, _ = given
    rnn = nnx_with(nnx_parts(lambda: jx.RNN(CELL, 3, rngs=jax.random.key(0))), to_names(params))
    close(rnn(xs, rngs=key), core(CELL, given, key))
    close(rnn(xs, rngs=nnx.Rngs(dropout=7)), core(CELL, given, nnx.Rngs(dropout=7).dropout()))
    assert not [leaf for _, leaf in nnx.iter_graph(rnn) if isinstance(leaf, (nnx.RngState, nnx.Rngs))]
    with pytest.raises(ValueError, match=r"RNN: Zoneout draws masks .* constructor or rngs to the call, or set determ"):
        rnn(xs)


def test_nnx_keeps_the_stream_of_the_constructor(given):
    params, xs, _ = given
    rnn = jx.RNN(CELL, 3, rngs=nnx.Rngs(0, dropout=7))
    nnx.update(rnn, nnx.state(nnx_with(nnx_parts(lambda: jx.RNN(CELL, 3, rngs=jax.random.key(0))), to_names(params))))
    kept = nnx.Rngs(dropout=7).dropout.fork()
    for _ in range(2):
        close(rnn(xs), core(CELL, given, kept()))


def test_nnx_train_eval_and_view(given, key):
    params, xs, _ = given
    rnn = nnx_with(nnx_parts(lambda: jx.RNN(CELL, 3, rngs=jax.random.key(0))), to_names(params))
    test, train = core(jn.deterministic(CELL), given), core(CELL, given, key)
    close(rnn(xs, deterministic=True), test)
    close(nnx.view(rnn, deterministic=True)(xs), test)
    rnn.eval()
    close(rnn(xs), test)
    close(rnn(xs, deterministic=False, rngs=key), train)
    rnn.train()
    close(rnn(xs, rngs=key), train)
    always = nnx_with(nnx_parts(lambda: jx.RNN(jn.deterministic(CELL), 3, rngs=nnx.Rngs(0))), to_names(params))
    close(always(xs), test)


# ---- Flax's own drivers


def show_state(outputs):
    """Which units have the state of the step before: True (time, batch, features)."""
    ys = np.asarray(outputs).swapaxes(0, 1)
    return ys[1:] == ys[:-1]


def line(xs):
    return xs


SHOWS_INPUT = jn.VariationalDropout(jn.Elman(3, activation_fn=line), input_rate=0.5)
"""With the identity as its kernel and no recurrent one the outputs are the masked inputs."""
EYE = {
    "kernel": np.eye(3, dtype=np.float32),
    "recurrent": np.zeros((3, 3), np.float32),
    "bias": np.zeros(3, np.float32),
}
LONG = jnp.ones((4, 12, 3))


def check_masks(steps, whole):
    """``steps`` come from zoneout, ``whole`` are masked inputs; each as a pair, drawn anew at each step and not."""
    anew, same = (show_state(outputs) for outputs in steps)
    assert 0.3 < anew.mean() < 0.7
    assert (anew[1:] != anew[:-1]).any()
    np.testing.assert_array_equal(same[1:], same[:-1])
    assert 0 < same.mean() < 1
    anew, same = (np.asarray(outputs) != 0 for outputs in whole)
    assert (anew[:, 1:] != anew[:, :-1]).any()
    np.testing.assert_array_equal(same[:, 1:], same[:, :-1])
    assert 0 < same.mean() < 1


def test_linen_cell_in_the_stock_driver(rng, key):
    """A split stream draws anew at each step, one that is not split never."""
    zoneout = jn.Zoneout(jn.gru(4), rate=0.5)
    weights = to_names(cases.random_cell_params(zoneout, rng))

    def run(cell, weights, split, **options):
        driver = nn.RNN(jl.RNNCell(cell, **options), split_rngs={"params": False, "dropout": split})
        return driver.apply({"params": {"cell": weights}}, LONG, rngs={} if options else {"dropout": key})

    check_masks(
        [run(zoneout, weights, split) for split in (True, False)],
        [run(SHOWS_INPUT, EYE, split) for split in (True, False)],
    )
    test = jl.RNN(zoneout).apply({"params": weights}, LONG, deterministic=True)
    close(run(zoneout, weights, True, deterministic=True), test)


def test_nnx_cell_in_the_stock_driver(rng):
    """A stream that is carried on draws anew at each step, a broadcast one never; each call draws anew."""
    zoneout = jn.Zoneout(jn.gru(4), rate=0.5)
    weights = to_names(cases.random_cell_params(zoneout, rng))

    def driver(cell, weights, broadcast):
        inner = jx.RNNCell(cell, 3, rngs=nnx.Rngs(params=0, dropout=1))
        nnx.update(inner, nnx.state(nnx_with(nnx_parts(lambda: jx.RNN(cell, 3, rngs=nnx.Rngs(0))), weights), nnx.Param))
        return nnx.RNN(inner, broadcast_rngs=broadcast)

    check_masks(
        [driver(zoneout, weights, broadcast)(LONG) for broadcast in (None, "dropout")],
        [driver(SHOWS_INPUT, EYE, broadcast)(LONG) for broadcast in (None, "dropout")],
    )
    rnn = driver(zoneout, weights, None)
    assert np.any(show_state(rnn(LONG)) != show_state(rnn(LONG)))
    rnn.eval()
    close(rnn(LONG), jl.RNN(zoneout).apply({"params": weights}, LONG, deterministic=True))
    keyed = jx.RNNCell(zoneout, 3, rngs=jax.random.key(0))
    with pytest.raises(ValueError, match=r"RNNCell: Zoneout draws masks .* streams \(nnx.Rngs\) to the constructor"):
        keyed(keyed.initialize_carry((2, 3)), jnp.ones((2, 3)))
