"""Every LN-LSTM and LN-GRU by name is what its source computes, no two are the same, and fresh weights are its own."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells import oracles
from tests.zoo.published import variant_oracles

STEPS, BATCH, HIDDEN = 3, 3, 4

CASES = {name: (cases.PUBLIC[name](HIDDEN), step) for name, step in variant_oracles.STEPS.items()}
CASES |= {
    title: (cases.PUBLIC[name](HIDDEN, **options), step)
    for title, (name, options, step) in variant_oracles.OPTIONS.items()
}


@pytest.mark.parametrize("name", CASES)
def test_preset_is_what_its_source_computes(name, x64, rng):
    cell, step = CASES[name]
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, STEPS, (BATCH,), jnp.float64)
    carry = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), cell.initial_carry((BATCH,)))
    got = jn.unroll(cell, params, xs, carry=carry)
    state, weights = oracles.to_numpy(tuple(carry)), oracles.to_numpy(params)
    for x, y in zip(np.asarray(xs), got.outputs, strict=True):
        state, expected = step(weights, state, x)
        np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-12)
    for entry, expected in zip(got.carry, state, strict=True):
        np.testing.assert_allclose(entry, expected, rtol=1e-10, atol=1e-12)


# ---- no two are the same

NEED = {"bn_lstm": {"max_steps": 3}, "laurent_bn_lstm": {"max_steps": 3}}
PAIRS = {
    kind: {name: cases.PUBLIC[name](HIDDEN, **NEED.get(name, {})) for name in names}
    for kind, names in {
        "layer-normalized LSTM": ("ln_lstm", *(n for n in variant_oracles.STEPS if n.endswith("lstm"))),
        "normalized LSTM": (
            *("lstm", "ln_lstm", "rms_lstm", "bn_lstm", "sonnet_bn_lstm", "laurent_bn_lstm", "weight_norm_lstm"),
            *("bounded_weight_norm_lstm", "norm_prop_lstm", "assorted_time_lstm"),
        ),
        "GRU": ("gru", "rms_gru", "ln_gru", "dreamer_v3_gru", *(n for n in variant_oracles.STEPS if n.endswith("gru"))),
    }.items()
}


def weights_by_name(cell):
    """The same random numbers under the same name (and shape) in every cell."""

    def draw(path, leaf):
        name = jax.tree_util.keystr(path).removeprefix(".cell")
        seed = sum(ord(letter) * 31**place for place, letter in enumerate(name)) % 2**32
        return jnp.asarray(0.9 * np.random.default_rng(seed).standard_normal(leaf.shape))

    shapes = jax.eval_shape(lambda key: cell.init(key, cases.IN_FEATURES), jax.random.key(0))
    return jax.tree.map_with_path(draw, shapes)


@pytest.mark.parametrize("kind", PAIRS)
def test_each_pair_of_presets_is_told_apart(kind, x64, rng):
    """The smallest difference of two is the epsilon of TF-Addons; inputs are small for it, c large for the clip."""
    xs = 0.1 * cases.random_inputs(rng, 2, (BATCH,), jnp.float64)
    start = {name: jnp.asarray(30.0 * rng.standard_normal((BATCH, HIDDEN))) for name in "ch"}
    outputs = {}
    for name, cell in PAIRS[kind].items():
        carry = cell.initial_carry((BATCH,), dtype=jnp.float64)
        state = carry.carry if isinstance(carry, jn.CountedCarry) else carry
        state = state._replace(**{entry: start[entry] for entry in start if entry in state._fields})
        out = jn.unroll(cell, weights_by_name(cell), xs, carry=state)
        outputs[name] = np.asarray(out.outputs)
    for (one, a), (other, b) in combinations(outputs.items(), 2):
        assert np.abs(a - b).max() > 1e-4, f"{one} and {other} compute the same"
        assert PAIRS[kind][one] != PAIRS[kind][other]


# ---- fresh weights

FORGET = {"haste": 1.0, "tfa": 1.0, "sonnet": 1.0, "contrib": 1.0, "sketch_rnn": 1.0}
"""Initial values of the bias of the forget gate, wherever it is; 0 in all others."""


GATE_SITES = ("input", "recurrent", "summed")


@pytest.mark.parametrize("name", [n for n in CASES if n.endswith("ln_lstm")])
def test_the_forget_bias_starts_as_in_the_source(name, key):
    params = CASES[name][0].init(key, 3)
    biases = [
        b
        for b in (params.bias, *(getattr(getattr(params.norm, site), "bias", None) for site in GATE_SITES))
        if b is not None
    ]
    expected = np.repeat([0.0, FORGET.get(name.removesuffix("_ln_lstm"), 0.0), 0.0, 0.0], HIDDEN)
    np.testing.assert_array_equal(sum(np.asarray(b, np.float64) for b in biases), expected)


def deviation(weights):
    return float(np.asarray(weights, np.float64).std())


def test_kernels_start_as_in_the_sources(key):
    """Sizes by the deviation of many weights, structure exactly."""
    inputs, hidden = 60, 40
    glorot = lambda fan_in, fan_out: (2 / (fan_in + fan_out)) ** 0.5  # noqa: E731
    joint = glorot(inputs + hidden, 4 * hidden)
    expected = {
        "kiros_ln_lstm": (0.1 / 3**0.5, hidden**-0.5),
        "haste_ln_lstm": (glorot(inputs, hidden), hidden**-0.5),
        "tfa_ln_lstm": (glorot(inputs, 4 * hidden), (4 * hidden) ** -0.5),
        "fastrnns_ln_lstm": (1.0, 1.0),
        "contrib_ln_lstm": (joint, joint),
        "sketch_rnn_ln_lstm": (glorot(inputs, 4 * hidden), hidden**-0.5),
        "sonnet_ln_lstm": (0.8796 * (inputs + hidden) ** -0.5,) * 2,
        "praxis_ln_lstm": (joint, joint),
        "axlearn_ln_lstm": (joint, joint),
        "kiros_ln_gru": (0.1 / 3**0.5, hidden**-0.5),
        "haste_ln_gru": (glorot(inputs, hidden), hidden**-0.5),
        "dreamer_gru": (glorot(inputs + hidden, 3 * hidden),) * 2,
    }
    for name, (kernel, recurrent) in expected.items():
        params = cases.PUBLIC[name](hidden).init(key, inputs)
        np.testing.assert_allclose(deviation(params.kernel), kernel, rtol=0.05, err_msg=name)
        np.testing.assert_allclose(deviation(params.recurrent), recurrent, rtol=0.05, err_msg=name)
    wide = oracles.flat(np.asarray(jn.zoo.tfa_ln_lstm(hidden).init(key, inputs).recurrent))
    np.testing.assert_allclose(wide @ wide.T, np.eye(hidden), atol=1e-5)
    square = np.asarray(jn.zoo.kiros_ln_lstm(8).init(key, 8).kernel)[:, 2]
    np.testing.assert_allclose(square @ square.T, np.eye(8), atol=1e-5)


def test_joint_draws_the_gates_of_a_tuple_together(key):
    wide = jn.initializers.Joint(jn.initializers.orthogonal)
    cell = jn.LSTM(HIDDEN, recurrent_init=(wide, wide, jn.initializers.eye, wide))
    recurrent = np.asarray(cell.init(key, 3).recurrent)
    rest = oracles.flat(recurrent[:, [0, 1, 3]])
    np.testing.assert_array_equal(recurrent[:, 2], np.eye(HIDDEN))
    np.testing.assert_allclose(rest @ rest.T, np.eye(HIDDEN), atol=1e-6)
    assert cell == jn.LSTM(HIDDEN, recurrent_init=(wide, wide, jn.initializers.eye, wide))
    with pytest.raises(ValueError, match=r"GRU\.init: recurrent_init has 2 initializers"):
        jn.GRU(HIDDEN, recurrent_init=(wide, wide)).init(key, 3)
