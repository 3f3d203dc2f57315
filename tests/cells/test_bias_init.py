"""Initial values of biases: one initializer for all of them, and one gate with a field of its own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.tools.annotations import no_annotation_checks

HIDDEN = 4
NORMAL = jax.nn.initializers.normal(1.0)


def by_gate(bias):
    return np.asarray(bias).reshape(-1, HIDDEN)


def test_a_number_fills_all_gates_but_the_one_with_a_value_of_its_own(key):
    """Keras: ``bias_initializer`` with ``unit_forget_bias``; Flax: ``bias_init`` alone."""
    bias = by_gate(jn.lstm(HIDDEN, bias_init=0.25).init(key, 3).bias)
    np.testing.assert_array_equal(bias, np.repeat([[0.25], [1.0], [0.25], [0.25]], HIDDEN, 1))
    bias = by_gate(jn.lstm(HIDDEN, bias_init=0.25, forget_bias=None).init(key, 3).bias)
    np.testing.assert_array_equal(bias, 0.25)
    for preset in (jn.ln_lstm, jn.rms_lstm):
        np.testing.assert_array_equal(preset(HIDDEN, bias_init=0.25).init(key, 3).bias, 0.25)
    bias = by_gate(jn.zoo.CoupledLSTM(HIDDEN, bias_init=0.25).init(key, 3).bias)
    np.testing.assert_array_equal(bias, np.repeat([[-1.0], [0.25], [0.25]], HIDDEN, 1))


def test_an_initializer_draws_each_gate_apart(key):
    bias = by_gate(jn.lstm(HIDDEN, bias_init=NORMAL).init(key, 3).bias)
    assert len(np.unique(bias[[0, 2, 3]])) == 3 * HIDDEN
    np.testing.assert_array_equal(bias[1], 1.0)
    ramp = jn.gru(HIDDEN, bias_init=lambda key, shape, dtype: jnp.arange(shape[0], dtype=dtype)).init(key, 3)
    np.testing.assert_array_equal(by_gate(ramp.bias), np.tile(np.arange(HIDDEN), (3, 1)))


def test_the_input_gate_starts_opposite_to_the_forget_gate(key):
    cell = jn.lstm(HIDDEN, bias_init=NORMAL, forget_bias=None, input_bias="opposite")
    bias = by_gate(cell.init(key, 3).bias)
    np.testing.assert_array_equal(bias[0], -bias[1])
    assert len(np.unique(np.abs(bias))) == 3 * HIDDEN


def test_two_biases_of_one_gate_are_drawn_apart(key):
    params = jn.gru(HIDDEN, bias_init=NORMAL).init(key, 3)
    assert len(np.unique([params.bias, params.recurrent_bias])) == 6 * HIDDEN
    params = jn.gru(HIDDEN, bias_init=NORMAL, update_bias=2.0).init(key, 3)
    np.testing.assert_array_equal(by_gate(params.bias + params.recurrent_bias)[1], 2.0)
    params = jn.LSTM(HIDDEN, norm=jn.LayerNorm(), bias_at="each", bias_init=NORMAL).init(key, 3)
    assert len(np.unique([params.bias, params.recurrent_bias])) == 6 * HIDDEN + 2
    np.testing.assert_array_equal(by_gate(params.bias + params.recurrent_bias)[1], 1.0)


def biases(params):
    """All leaves named as biases, but those of normalizers."""
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    names = {jax.tree_util.keystr(path): leaf for path, leaf in flat}
    return {name: leaf for name, leaf in names.items() if name.endswith("bias") and "norm" not in name}


OWN = dict.fromkeys(("forget_bias", "update_bias", "transform_bias"))
CELLS = [case for case in cases.CELLS if hasattr(case.cell, "bias_init") and case.cell.use_bias]


@pytest.mark.parametrize("kind", sorted({type(case.cell) for case in CELLS}, key=lambda kind: kind.__name__))
def test_every_cell_with_biases_draws_them(kind, key):
    case = next(case for case in CELLS if type(case.cell) is kind)
    own = {name: None for name in OWN if hasattr(case.cell, name)}
    cell = dataclasses.replace(case.cell, bias_init=NORMAL, **own)
    found = biases(jax.eval_shape(lambda: cell.init(key, cases.IN_FEATURES)))
    assert found
    drawn = biases(cell.init(key, cases.IN_FEATURES))
    assert drawn.keys() == found.keys()
    numbers = np.concatenate([np.ravel(leaf) for leaf in drawn.values()])
    assert np.all(numbers != 0), [name for name, leaf in drawn.items() if not np.all(leaf)]
    assert len(np.unique(numbers)) == len(numbers)


@pytest.mark.parametrize(
    ("cell", "error", "match"),
    [
        (
            lambda: jn.ln_lstm(4, use_bias=False, bias_init=0.5),
            ValueError,
            "LSTM.init: bias_init is where biases start",
        ),
        (lambda: jn.elman(4, use_bias=False, bias_init=NORMAL), ValueError, r"or pass it to the normalizer: LayerNorm"),
        (
            lambda: jn.gru(4, bias_init=jax.nn.initializers.normal),
            TypeError,
            r"GRU.init: bias_init .*normal\(\)",
        ),
        (lambda: jn.gru(4, bias_init="zeros"), TypeError, r"GRU.init: bias_init must be an initializer.*'zeros'"),
        (lambda: jn.lstm(4, forget_bias=jax.nn.initializers.normal), TypeError, r"LSTM.init: forget_bias must"),
        (lambda: jn.gru(4, update_bias=(1.0,)), TypeError, "GRU.init: update_bias must be a number or an initializer"),
    ],
)
def test_what_is_no_initial_value_is_named(cell, error, match, key):
    with no_annotation_checks(), pytest.raises(error, match=match):
        cell().init(key, 3)


def test_an_initializer_made_in_place_compiles_the_loop_once(key):
    from jaxnorm.engine.unroll import _unroll

    params = jn.lstm(HIDDEN).init(key, 3)
    _unroll.clear_cache()
    for scale in (0.1, 0.2, 0.3):
        jn.unroll(jn.lstm(HIDDEN, bias_init=jax.nn.initializers.normal(scale)), params, jnp.ones((3, 2, 3)))
        jn.unroll(jn.lstm(HIDDEN, bias_init=scale), params, jnp.ones((3, 2, 3)))
    assert _unroll._cache_size() == 1
