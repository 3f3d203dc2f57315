"""Every error of the entrances says where, which argument, what was expected and what came."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.tools.annotations import no_annotation_checks

CELL = jn.ln_lstm(4)
BN = jn.bn_lstm(4, max_steps=2)
XS = jnp.zeros((5, 2, 3))
CARRY = jn.LSTMCarry(jnp.zeros((2, 4)), jnp.zeros((2, 4)))


@functools.cache
def params_of(cell):
    return cases.random_cell_params(cell, np.random.default_rng(0))


UNROLL = {
    "not a cell": (
        TypeError,
        r"unroll: cell must be a cell spec such as ln_lstm\(128\), got the string 'lstm'\. Write jaxnorm\.lstm\(128\)",
        {"cell": "lstm"},
    ),
    "complex numbers": (
        TypeError,
        r"unroll: xs must be real, got complex64\. Put both parts side by side",
        {"xs": XS.astype(jnp.complex64)},
    ),
    "one axis": (
        ValueError,
        r"unroll: xs must have at least two axes, .*\(T, \*B, I\), got shape \(3,\)",
        {"xs": XS[0, 0]},
    ),
    "features": (ValueError, r"xs has 7 features, but params\.kernel takes I = 3", {"xs": jnp.zeros((5, 2, 7))}),
    "time axis beyond": (ValueError, r"unroll: axis=4 is out of range for an array with 3 axes", {"time_axis": 4}),
    "time axis of features": (ValueError, r"unroll: time_axis=-1 is the feature axis of xs", {"time_axis": -1}),
    "where dtype": (
        TypeError,
        r"unroll: where must be a boolean array.*got int32",
        {"where": jnp.ones((5, 2), jnp.int32)},
    ),
    "where shape": (
        ValueError,
        r"unroll: where must have shape .* = \(5, 2\), got \(2, 5\)",
        {"where": jnp.ones((2, 5), bool)},
    ),
    "reset shape": (
        ValueError,
        r"unroll: reset must have shape .* = \(5, 2\), got \(5,\)",
        {"reset": jnp.ones((5,), bool)},
    ),
    "reset dtype": (TypeError, r"unroll: reset must be a boolean array.*got float32", {"reset": jnp.ones((5, 2))}),
    "lengths shape": (
        ValueError,
        r"unroll: lengths must have shape \(\*B\) = \(2,\), got \(3,\)",
        {"lengths": jnp.ones(3, jnp.int32)},
    ),
    "lengths dtype": (TypeError, r"unroll: lengths must be integers, got float32", {"lengths": jnp.ones(2)}),
    "carry structure": (
        TypeError,
        r"unroll: carry must have the structure that cell\.initial_carry",
        {"carry": jnp.zeros((2, 4))},
    ),
    "carry shape": (
        ValueError,
        r"unroll: carry\.h must have shape \(\*B, H\) = \(2, 4\), got \(3, 4\)",
        {"carry": CARRY._replace(h=jnp.zeros((3, 4)))},
    ),
    "count of steps": (
        ValueError,
        r"unroll: carry\.step must have shape .* = \(2,\), got \(1,\)",
        {"cell": BN, "carry": jn.CountedCarry(CARRY, jnp.zeros(1, jnp.int32))},
    ),
    "weights of another size": (
        ValueError,
        r"unroll: params\.bias must have shape \(16,\) .* got \(32,\)",
        {"params": params_of(jn.ln_lstm(8))},
    ),
    "weights of another cell": (
        TypeError,
        r"unroll: params must be LSTMParams for LSTM, got GRUParams\..*cell\.init",
        {"params": params_of(jn.ln_gru(4))},
    ),
    "weights of another norm": (
        TypeError,
        r"unroll: params\.norm\.cell\.bias is missing\.",
        {"params": params_of(jn.rms_lstm(4))},
    ),
    "statistics of another cell": (
        TypeError,
        r"unroll: stats\.cell\.count is missing",
        {"cell": BN, "stats": jn.CellNorms()},
    ),
}


@pytest.mark.parametrize("name", UNROLL)
def test_unroll_says_what_is_wrong(name):
    kind, message, change = UNROLL[name]
    arguments = {"cell": CELL, "xs": XS} | change
    cell, xs = arguments.pop("cell"), arguments.pop("xs")
    params = arguments.pop("params", None) or (params_of(cell) if isinstance(cell, jn.LSTM) else None)
    with no_annotation_checks(), pytest.raises(kind, match=message):
        jn.unroll(cell, params, xs, **arguments)


SPECS = {
    "size": (ValueError, r"LSTM: hidden_features must be a positive integer, got 0", lambda: jn.LSTM(0)),
    "no integer": (TypeError, r"GRU: hidden_features must be an integer, got 2\.5", lambda: jn.GRU(2.5)),
    "rows": (ValueError, r"LSTM: max_steps must be a positive integer, got 0", lambda: jn.bn_lstm(4, max_steps=0)),
    "input bias": (
        ValueError,
        r"LSTM: input_bias must be one of None, 'opposite'; got 'minus'",
        lambda: jn.LSTM(4, input_bias="minus"),
    ),
    "candidate": (
        ValueError,
        r"MinLSTM: candidate must be one of 'linear', 'positive'; got 'log'",
        lambda: jn.zoo.MinLSTM(4, candidate="log"),
    ),
    "noise": (
        ValueError,
        r"Elman: initial_noise must be a number in \[0\.0, inf\], got -1",
        lambda: jn.Elman(4, initial_noise=-1),
    ),
    "norm": (
        TypeError,
        r"LSTM: norm must be a normalizer such as LayerNorm\(\), got the string 'layer'",
        lambda: jn.LSTM(4, norm="layer"),
    ),
    "norm of a site": (
        TypeError,
        r"GRU: norm\.input must be a normalizer",
        lambda: jn.GRU(4, norm=jn.CellNorms(input=3)),
    ),
    "no such site": (
        ValueError,
        r"GRU: there is no site 'cell', only 'input', 'recurrent'",
        lambda: jn.GRU(4, norm=jn.CellNorms(cell=jn.LayerNorm())),
    ),
    "axis at a site": (
        ValueError,
        r"LSTM: norm\.input: LayerNorm.*Use axis=-1",
        lambda: jn.LSTM(4, norm=jn.LayerNorm((-2, -1))),
    ),
    "batch axis at a site": (
        ValueError,
        r"LSTM: norm\.input: BatchNorm.*Leave axis at None",
        lambda: jn.LSTM(4, norm=jn.BatchNorm(0)),
    ),
    "instance norm": (ValueError, r"LSTM: norm\.input: InstanceNorm", lambda: jn.LSTM(4, norm=jn.InstanceNorm())),
    "groups": (
        ValueError,
        r"LSTM: gate_groups must be .* add up to 4, got \(2, 1\)",
        lambda: jn.LSTM(4, gate_groups=(2, 1)),
    ),
    "groups of a GRU": (
        ValueError,
        r"GRU: gate_groups must be .* add up to 3, got \[3\]",
        lambda: jn.GRU(4, gate_groups=[3]),
    ),
    "word": (
        ValueError,
        r"GRU: update_gate must be one of 'keep', 'renew'; got 'z'",
        lambda: jn.GRU(4, update_gate="z"),
    ),
    "inputs": (
        ValueError,
        r"LSTM\.init: in_features must be a positive integer, got -1",
        lambda: jn.LSTM(4).init(jax.random.key(0), -1),
    ),
    "initializers": (
        ValueError,
        r"GRU\.init: kernel_init has 2 initializers, expected one.* 3 gates",
        lambda: jn.GRU(4, kernel_init=(jn.initializers.eye,) * 2).init(jax.random.key(0), 4),
    ),
    "wrapped": (
        TypeError,
        r"Zoneout: cell must be a cell spec such as ln_lstm\(128\), got the normalizer LayerNorm\(",
        lambda: jn.Zoneout(jn.LayerNorm()),
    ),
    "how often": (
        ValueError,
        r"RecurrentDropout: per must be one of 'step', 'sequence'; got 'batch'",
        lambda: jn.RecurrentDropout(jn.gru(4), per="batch"),
    ),
    "unknown field": (TypeError, r"hidden", lambda: jn.ln_gru(4, hidden=4)),
}


@pytest.mark.parametrize("name", SPECS)
def test_specs_say_what_is_wrong(name):
    kind, message, make = SPECS[name]
    with no_annotation_checks(), pytest.raises(kind, match=message):
        make()


def test_unbound_axis_name_says_so():
    cell = jn.bn_lstm(4, max_steps=1, axis_name="devices")
    with pytest.raises(ValueError, match=r"axis_name='devices' is not bound here"):
        jn.unroll(cell, params_of(cell), XS)
