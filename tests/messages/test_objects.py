"""Every entrance says what came instead of a spec, of weights, of a key or of a mask, and the line to write."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from jaxnorm import analysis, convert
from tests import cases
from tests.messages import message_cases as came
from tests.tools.annotations import no_annotation_checks

XS = jnp.ones((5, 2, 3))
CELL, BN = jn.LSTM(4), jn.zoo.laurent_bn_lstm(4, max_steps=1)
KEY = jax.random.key(0)


def params_of(cell):
    return cases.random_cell_params(cell, np.random.default_rng(0))


P = params_of(CELL)

CELLS = {
    "unroll": lambda x: jn.unroll(x, P, XS),
    "step": lambda x: jn.step(x, P, None, XS[0]),
    "sequence_statistics": lambda x: jn.sequence_statistics(x, P, XS),
    "deterministic": jn.deterministic,
    "Zoneout": jn.Zoneout,
    "RecurrentDropout": jn.RecurrentDropout,
    "VariationalDropout": jn.VariationalDropout,
    "DropConnect": jn.DropConnect,
    "Reparametrized": lambda x: jn.Reparametrized(x, jn.WeightNorm()),
    "summary": lambda x: jn.summary(x, 3),
    "activation_statistics": lambda x: analysis.activation_statistics(x, P, XS),
    "RNN: linen": jl.RNN,
    "RNNCell: linen": jl.RNNCell,
    "RNN: nnx": lambda x: jx.RNN(x, 3, rngs=nnx.Rngs(0)),
    "RNNCell: nnx": lambda x: jx.RNNCell(x, 3, rngs=nnx.Rngs(0)),
}
SEVERAL = {
    "stack": lambda x: jn.stack([CELL, x], [P, P], XS),
    "bidirectional": lambda x: jn.bidirectional((CELL, x), (P, P), XS),
    "residual_stack": lambda x: jn.residual_stack([CELL, x], [P, P], XS),
    "skip_stack": lambda x: jn.skip_stack([CELL, x], [P, P], XS),
}
NORMALIZERS = {
    "LSTM": lambda x: jn.LSTM(4, norm=x),
    "GRU": lambda x: jn.GRU(4, norm=x),
    "LiGRU": lambda x: jn.zoo.LiGRU(4, norm=x),
    "Highway": lambda x: jn.zoo.Highway(norm=x),
}
SPECS = {
    "Norm: linen": jl.Norm,
    "Norm: nnx": lambda x: jx.Norm(x, 3),
}
KERNELS = {
    "Reparametrized": lambda x: jn.Reparametrized(CELL, x),
    "Reparametrized: linen": lambda x: jl.Reparametrized(jl.RNN(CELL), x),
    "Reparametrized: nnx": lambda x: jx.Reparametrized(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), x),
}
NAMED_KERNELS = {name: lambda x, entrance=entrance: entrance({"kernel": x}) for name, entrance in KERNELS.items()}
KEYS = {
    "LSTM.init": lambda x: CELL.init(x, 3),
    "MinGRU.init": lambda x: jn.zoo.MinGRU(4).init(x, 3),
    "GRU.init": lambda x: jn.Zoneout(jn.gru(4)).init(x, 3),
    "Reparametrized.init": lambda x: jn.Reparametrized(CELL, jn.WeightNorm()).init(x, 3),
    "Highway.init": lambda x: jn.zoo.Highway().init(x, 3),
    "SpectralNorm.init": lambda x: jn.SpectralNorm().init(jnp.ones((3, 4)), x),
    "LSTM.initial_carry": lambda x: CELL.initial_carry((2,), key=x),
    "unroll": lambda x: jn.unroll(CELL, P, XS, key=x),
    "step": lambda x: jn.step(CELL, P, None, XS[0], key=x),
    "stack": lambda x: jn.stack([CELL], [P], XS, key=x),
    "bidirectional": lambda x: jn.bidirectional([CELL, CELL], [P, P], XS, key=x),
}
RNGS = {
    "RNN": lambda x: jx.RNN(CELL, 3, rngs=x),
    "RNNCell": lambda x: jx.RNNCell(CELL, 3, rngs=x),
}
SIZES = {
    "LSTM.initial_carry": CELL.initial_carry,
    "GRU.initial_carry": jn.Zoneout(jn.gru(4)).initial_carry,
    "LSTM.initial_carry: reparametrized": jn.Reparametrized(CELL, jn.WeightNorm()).initial_carry,
}
INPUT_SHAPES = {
    "RNNCell.initialize_carry: linen": lambda x: jl.RNNCell(CELL).initialize_carry(KEY, x),
    "RNNCell.initialize_carry: nnx": lambda x: jx.RNNCell(CELL, 3, rngs=nnx.Rngs(0)).initialize_carry(x),
}
CELL_WEIGHTS = {
    "unroll": lambda x: jn.unroll(CELL, x, XS),
    "step": lambda x: jn.step(CELL, x, None, XS[0]),
    "sequence_statistics": lambda x: jn.sequence_statistics(CELL, x, XS),
    "convert.torch.export": lambda x: convert.torch.export(CELL, x),
    "convert.keras.export": lambda x: convert.keras.export(CELL, x),
    "convert.linen.export": lambda x: convert.linen.export(CELL, x),
}
NORM_WEIGHTS = {
    "LayerNorm": lambda x: jn.LayerNorm()(x, XS),
    "RMSNorm": lambda x: jn.RMSNorm()(x, XS),
    "BatchNorm": lambda x: jn.BatchNorm()(x, XS),
    "GroupNorm": lambda x: jn.GroupNorm(1)(x, XS),
    "InstanceNorm": lambda x: jn.InstanceNorm()(x, XS),
}
EXPORTS = {
    "convert.torch.export": lambda x: convert.torch.export(x, P),
    "convert.keras.export": lambda x: convert.keras.export(x, P),
    "convert.linen.export": lambda x: convert.linen.export(x, P),
    "convert.nnx.export": lambda x: convert.nnx.export(x, P, into=None),
    "convert.haiku.export": lambda x: convert.haiku.export(x, P),
    "convert.cudnn.export": lambda x: convert.cudnn.export(x, P),
    "convert.haste.export": lambda x: convert.haste.export(x, P),
    "convert.tfa.export": lambda x: convert.tfa.export(x, P),
    "convert.torch.load": lambda x: convert.torch.load(convert.torch.export(CELL, P), x),
}
ENTRANCES = [
    (CELLS, "cell", "a cell spec such as ln_lstm(128)", came.CELL),
    (SEVERAL, "cells[1]", "a cell spec such as ln_lstm(128)", came.CELL),
    (NORMALIZERS, "norm", "a normalizer such as LayerNorm()", came.NORMALIZER),
    (SPECS, "spec", "a normalizer such as LayerNorm()", came.NORMALIZER),
    (EXPORTS, "spec", "a spec such as lstm(128)", came.SPEC),
    (KERNELS, "kernels", "a weight normalizer such as WeightNorm()", came.WEIGHT_NORMALIZER),
    (NAMED_KERNELS, "kernels['kernel']", "a weight normalizer such as WeightNorm()", came.WEIGHT_NORMALIZER),
    (KEYS, "key", "a key such as jax.random.key(0)", came.KEY),
    (RNGS, "rngs", "a key such as jax.random.key(0)", {k: v for k, v in came.KEY.items() if "Flax" not in k}),
    (SIZES, "batch_shape", "a tuple of sizes such as (64,)", came.SIZES),
    (INPUT_SHAPES, "input_shape", "a tuple of sizes such as (64,)", came.SIZES),
    (
        CELL_WEIGHTS,
        "params",
        "LSTMParams for LSTM",
        came.weights("cell.init(key, in_features)", lambda: P, "LSTMParams"),
    ),
    (
        NORM_WEIGHTS,
        "params",
        "Affine(scale, bias) as made by init(shape)",
        came.weights("norm.init(shape)", lambda: jn.LayerNorm().init((3,)), "Affine"),
    ),
]


def pattern(name, argument, wanted, text):
    caller = name.partition(":")[0]
    return rf"^{re.escape(f'{caller}: {argument} must be {wanted}, ')}{text}"


TABLE = [
    pytest.param(entrance, pattern(name, argument, wanted, text), make, id=f"{name} {argument} {case}")
    for entrances, argument, wanted, objects in ENTRANCES
    for name, entrance in entrances.items()
    for case, (make, text) in objects.items()
    if not (name == "convert.torch.load" and case == "None")  # there None is the default
    and not (name.startswith("RNN:") and case == "several")  # layers
]


@pytest.mark.parametrize(("entrance", "message", "make"), TABLE)
def test_the_wrong_object_is_named_with_the_line_to_write(entrance, message, make):
    wrong = make()
    with no_annotation_checks(), pytest.raises(TypeError) as caught:
        entrance(wrong)
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)


MOMENTS = jn.moments(XS)
RNN = {"linen": lambda **o: jl.RNN(jn.gru(4)).init(KEY, XS, **o), "nnx": lambda **o: nnx_rnn(jn.gru(4))(XS, **o)}


def nnx_rnn(cell):
    return jx.RNN(cell, 3, rngs=nnx.Rngs(0))


TYPED = {  # XS is (batch, time, features) to modules of Flax: 5 examples of 2 steps
    "mask": (
        ValueError,
        {"mask": jnp.ones((5, 3), bool)},
        r"RNN: mask must have shape inputs\.shape\[:-1\] = \(5, 2\), got",
    ),
    "integers": (TypeError, {"mask": jnp.ones((5, 2))}, r"RNN: mask must be a boolean array.*Write mask != 0"),
    "a word": (TypeError, {"mask": "mask"}, r"RNN: mask must be an array, got the string 'mask'"),
    "reset": (
        ValueError,
        {"reset": jnp.ones(2, bool)},
        r"RNN: reset must have shape inputs\.shape\[:-1\] = \(5, 2\), got",
    ),
    "lengths": (
        ValueError,
        {"seq_lengths": jnp.ones(2, int)},
        r"RNN: seq_lengths must have shape \(\*B\) = \(5,\), got \(2,\)",
    ),
    "real lengths": (TypeError, {"seq_lengths": jnp.ones(5)}, r"RNN: seq_lengths must be integers, got float32"),
    "carry": (TypeError, {"initial_carry": (jnp.ones((5, 4)),) * 2}, r"RNN: initial_carry must have the structure"),
    "an array as carry": (
        ValueError,
        {"initial_carry": jnp.ones(5)},
        r"RNN: initial_carry must have shape \(\*B, H\) = \(5, 4\), got \(5,\)",
    ),
    "size of carry": (
        ValueError,
        {"initial_carry": jn.GRUCarry(jnp.zeros((2, 4)))},
        r"RNN: initial_carry\.h must have shape \(\*B, H\) = \(5, 4\), got \(2, 4\)",
    ),
}


@pytest.mark.parametrize("library", RNN)
@pytest.mark.parametrize("name", TYPED)
def test_modules_of_flax_speak_of_their_own_keywords(name, library):
    kind, options, message = TYPED[name]
    with no_annotation_checks(), pytest.raises(kind, match=message):
        RNN[library](**options)


@pytest.mark.parametrize("norm", [jl.Norm(jn.LayerNorm()), jx.Norm(jn.LayerNorm(), 3)], ids=RNN)
def test_norms_of_flax_speak_of_their_own_keywords(norm):
    call = norm if isinstance(norm, jx.Norm) else lambda x, **o: norm.init(KEY, x, **o)
    with (
        no_annotation_checks(),
        pytest.raises(ValueError, match=r"Norm: mask must broadcast to the shape of x = \(5, 2, 3\)"),
    ):
        call(XS, mask=jnp.ones((2, 5), bool))
    with (
        no_annotation_checks(),
        pytest.raises(TypeError, match=r"Norm: x must be an array, got a list with 2"),
    ):
        call([1.0, 2.0])


DRIVERS = {
    "linen.RNN": (lambda: nn.RNN(jn.ln_lstm(4)).init(KEY, XS), "has no num_feature_axes"),
    "linen.RNN, wrapped": (lambda: nn.RNN(jn.Zoneout(jn.gru(4))).init(KEY, XS), "has no num_feature_axes"),
    "linen.Bidirectional": (
        lambda: nn.Bidirectional(nn.RNN(CELL), nn.RNN(CELL)).init(KEY, XS),
        "has no num_feature_axes",
    ),
    "linen.Sequential": (lambda: nn.Sequential([CELL]).init(KEY, XS), "is not called"),
    "nnx.RNN": (lambda: nnx.RNN(CELL)(XS), "has no num_feature_axes"),
    "nnx.Bidirectional": (lambda: nnx.Bidirectional(CELL, CELL, rngs=nnx.Rngs(0))(XS), "is not called"),
    "nnx.Sequential": (lambda: nnx.Sequential(CELL)(XS), "is not called"),
    "a carry": (lambda: CELL.initialize_carry(KEY, (2, 3)), "has no initialize_carry"),
}


@pytest.mark.parametrize("name", DRIVERS)
def test_a_spec_in_a_driver_of_flax_says_what_belongs_there(name):
    call, what = DRIVERS[name]
    with pytest.raises(TypeError, match=rf"a spec is no module of Flax and {what}\. Write jaxnorm\.linen\.RNN\(cell\)"):
        call()
    assert not hasattr(CELL, "num_feature_axes")


RUNNING = BN.initial_stats()
OTHERS = {
    "one cell for several": (
        lambda: jn.stack(CELL, P, XS),
        "stack: cells must be a list or tuple.*got the cell spec LSTM.*Write .cell.",
    ),
    "weights of one cell": (
        lambda: jn.stack([CELL], P, XS),
        "stack: params must be a list.*got LSTMParams.*Write .params, ....",
    ),
    "several as a dict": (
        lambda: jn.bidirectional((CELL, CELL), {"0": P, "1": P}, XS),
        r"bidirectional: params must be a list.*got a dict with '0', '1'\..*from_state_dict\(\[cell\.init",
    ),
    "a carry for several": (
        lambda: jn.stack([CELL], [P], XS, carry=0),
        "stack: carry must be a list.*got the number 0",
    ),
    "no cells": (lambda: jn.skip_stack(None, [P], XS), "skip_stack: cells must be a list or tuple.*got None"),
    "folded number": (
        lambda: jn.update_running(MOMENTS, 3),
        "update_running: measured must be Moments.*got the number 3",
    ),
    "folded checkpoint": (
        lambda: jn.update_running(MOMENTS._asdict(), MOMENTS),
        r"update_running: running must be Moments.*Write Moments\(\*\*running\)",
    ),
    "folded sites": (
        lambda: jn.update_running(MOMENTS, jn.CellNorms(input=MOMENTS)),
        "update_running: measured must have the structure of running",
    ),
    "folded result": (
        lambda: BN.update_running(RUNNING, jn.unroll(BN, params_of(BN), XS)),
        r"update_running: moments of a cell must be CellNorms.*got Unrolled.*unroll\(\.\.\.\)\.moments",
    ),
    "folded dict": (
        lambda: BN.update_running(dict(RUNNING._asdict()), RUNNING),
        "update_running: stats of a cell must be CellNorms.*from_state_dict",
    ),
    "one batch": (
        lambda: jn.population(MOMENTS),
        r"population: batches must be an iterable.*got Moments\. Write \[measured\]",
    ),
    "an array of batches": (lambda: jn.population(XS), "population: batches must be an iterable.*got an array"),
    "numbers": (lambda: jn.population([1, 2]), r"population: batches\[0\] must be Moments.*got the number 1"),
    "other statistics": (
        lambda: jn.population([MOMENTS, jn.CellNorms(input=MOMENTS)]),
        r"population: batches\[1\] has the structure",
    ),
    "population of a spec": (
        lambda: jl.population(jn.bn_lstm(4, max_steps=2), {}, [XS]),
        r"population: module must be a module of Flax linen.*got the cell spec LSTM",
    ),
    "population of a class": (
        lambda: jl.population(jl.Norm, {}, [XS]),
        r"population: module must be a module of Flax linen.*got the class Norm",
    ),
    "population without variables": (
        lambda: jl.population(jl.Norm(jn.BatchNorm()), None, [XS]),
        "population: variables must be a dict.*got None",
    ),
    "population of an NNX spec": (
        lambda: jx.population(jn.BatchNorm(), [XS]),
        "population: model must be a module of Flax NNX",
    ),
    "population of a number": (
        lambda: jx.population(jx.Norm(jn.BatchNorm(), 3), 3),
        r"population: batches must be an iterable.*got the number 3",
    ),
    "spec in Reparametrized of linen": (
        lambda: jl.Reparametrized(CELL, jn.WeightNorm()),
        "Reparametrized: module must be a module of Flax linen.*got the cell spec LSTM",
    ),
    "spec in Reparametrized of NNX": (
        lambda: jx.Reparametrized(CELL, jn.WeightNorm()),
        "Reparametrized: module must be a module of Flax NNX.*got the cell spec LSTM",
    ),
    "linen in NNX": (
        lambda: jx.Reparametrized(nn.Dense(3), jn.WeightNorm()),
        "must be a module of Flax NNX.*got Flax's Dense",
    ),
    "weights of a kernel": (
        lambda: jn.WeightNorm()({"kernel": XS}),
        "params must be KernelParams.*got a dict with 'kernel'",
    ),
    "carry of words": (
        lambda: jn.unroll(CELL, P, XS, carry="zeros"),
        "unroll: carry must be an array, got the string 'zeros'",
    ),
    "statistics of a dict": (
        lambda: jn.unroll(BN, params_of(BN), XS, stats=dict(RUNNING._asdict())),
        r"unroll: stats must be the CellNorms of LSTM, got a dict with.*_state_dict\(cell\.initial_stats\(\), stats\)",
    ),
    "a checkpoint for a carry": (
        lambda: CELL.initial_carry((2,), params=dict(P._asdict())),
        "LSTM.initial_carry: params must be.*from_state_dict",
    ),
    "a checkpoint for another carry": (
        lambda: jn.Reparametrized(CELL, jn.WeightNorm()).initial_carry((2,), params=P),
        "Reparametrized.initial_carry: params must be ReparametrizedParams, got LSTMParams",
    ),
    "no inputs": (lambda: jn.unroll(CELL, P, None), "unroll: xs must be an array, got None"),
    "a word for an axis": (lambda: jn.unroll(CELL, P, XS, time_axis="time"), "unroll: axis must be an int.*got 'time'"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_things_are_named_too(name):
    call, message = OTHERS[name]
    with no_annotation_checks(), pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)


def test_a_checkpoint_goes_back_by_the_line_of_the_message():
    from flax import serialization

    named = serialization.to_state_dict(P)
    with no_annotation_checks(), pytest.raises(TypeError, match="from_state_dict"):
        jn.unroll(CELL, named, XS)
    again = serialization.from_state_dict(CELL.init(KEY, 3), named)
    np.testing.assert_array_equal(jn.unroll(CELL, again, XS).outputs, jn.unroll(CELL, P, XS).outputs)
