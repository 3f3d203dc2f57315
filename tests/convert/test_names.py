"""Arrays under a prefix, missing and unknown ones: the converters name all of them, and the line to write."""

import jax
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert

INPUTS, HIDDEN = 3, 2


def zeros(*shape):
    return np.zeros(shape, np.float32)


def torch_state(gates=4, prefix="", layers=("_l0",), bias=True):
    state = {}
    for end in layers:
        state |= {f"weight_ih{end}": zeros(gates * HIDDEN, INPUTS), f"weight_hh{end}": zeros(gates * HIDDEN, HIDDEN)}
        if bias:
            state |= {f"bias_{side}{end}": zeros(gates * HIDDEN) for side in ("ih", "hh")}
    return {prefix + name: array for name, array in state.items()}


def without(state, *names):
    return {name: array for name, array in state.items() if name not in names}


LSTM = torch_state()
GAMMA = {"gamma": zeros(3)}
LAYERS = {"a.weight": zeros(3), "a.bias": zeros(3), "head.weight": zeros(3, 3), "head.bias": zeros(3)}
KERAS = {"kernel": zeros(INPUTS, 8), "recurrent_kernel": zeros(HIDDEN, 8), "bias": zeros(8)}
FLAX = convert.linen.export(jn.lstm(HIDDEN), jn.lstm(HIDDEN).init(jax.random.key(0), INPUTS))["params"]
HAIKU = {"lstm/linear": {"w": zeros(INPUTS + HIDDEN, 8), "b": zeros(8)}}
HASTE = convert.haste.export(jn.gru(HIDDEN), jn.gru(HIDDEN).init(jax.random.key(0), INPUTS))
TFA = convert.tfa.export(jn.zoo.tfa_ln_lstm(HIDDEN), jn.zoo.tfa_ln_lstm(HIDDEN).init(jax.random.key(0), INPUTS))


def renamed(state, prefix):
    return {prefix + name: array for name, array in state.items()}


CASES = {
    "torch, several": (
        lambda: convert.torch.load(torch_state(4, "encoder.") | torch_state(1, "decoder.")),
        r"under the prefixes 'encoder\.' \(an LSTM\), 'decoder\.' \(an RNN\)\. Pass prefix='encoder\.', or another",
    ),
    "torch, several below a prefix": (
        lambda: convert.torch.load(torch_state(4, "net.a.") | torch_state(3, "net.b."), prefix="net."),
        r"'net\.a\.' \(an LSTM\), 'net\.b\.' \(a GRU\)\. Pass prefix='net\.a\.', or another",
    ),
    "torch, several normalizers": (
        lambda: convert.torch.load(LAYERS | {"b.weight": zeros(3), "b.bias": zeros(3)}, jn.LayerNorm()),
        r"under the prefixes 'a\.' \(LayerNorm\), 'b\.' \(LayerNorm\)\. Pass prefix='a\.', or another",
    ),
    "torch, a normalizer without spec": (
        lambda: convert.torch.load({"module.weight": zeros(3), "module.bias": zeros(3)}),
        r"load: module\.weight, module\.bias may belong to several normalizers.*Pass spec=LayerNorm",
    ),
    "torch, a bias missing below a prefix": (
        lambda: convert.torch.load(without(torch_state(4, "net.rnn."), "net.rnn.bias_hh_l0")),
        r"net\.rnn\.bias_hh_l0 is missing",
    ),
    "torch, another shape below a prefix": (
        lambda: convert.torch.load(torch_state(4, "rnn.") | {"rnn.weight_ih_l0": zeros(7, 3)}),
        r"rnn\.weight_ih_l0 must .*\(8, 3\), got \(7, 3\)",
    ),
    "torch, an unknown array": (
        lambda: convert.torch.load(LSTM | {"weight_hh_l0_twin": zeros(8, 2)}),
        r"convert\.torch\.load: weight_hh_l0_twin not understood, and nothing is left out silently",
    ),
    "torch, one in the place of another": (
        lambda: convert.torch.load(without(LSTM, "weight_hh_l0") | {"weight_hh_l0_twin": zeros(8, 2)}),
        r"weight_hh_l0 is missing, and weight_hh_l0_twin not understood\.",
    ),
    "torch, two missing": (
        lambda: convert.torch.load(without(LSTM, "bias_hh_l0", "weight_ih_l0")),
        r"weight_ih_l0, bias_hh_l0 are missing\.",
    ),
    "torch, a layer missing": (
        lambda: convert.torch.load(torch_state(layers=("_l0", "_l2"))),
        r"weight_ih_l1, weight_hh_l1, bias_ih_l1, bias_hh_l1 are missing",
    ),
    "torch, half a direction missing": (
        lambda: convert.torch.load(without(torch_state(layers=("_l0", "_l0_reverse")), "bias_ih_l0_reverse")),
        r"bias_ih_l0_reverse is missing",
    ),
    "torch, statistics missing": (
        lambda: convert.torch.load({"weight": zeros(3), "bias": zeros(3)}, jn.BatchNorm()),
        r"running_mean, running_var are missing",
    ),
    "keras, paths of two layers": (
        lambda: convert.keras.load(renamed(KERAS, "net/a/lstm_cell/") | renamed(KERAS, "net/b/lstm_cell/")),
        r"under the prefixes 'net/a/lstm_cell/' \(an LSTM\), 'net/b/lstm_cell/' \(an LSTM\)\. Take it "
        r"away: \{name\.removeprefix\('net/a/lstm_cell/'\): array for",
    ),
    "keras, missing": (lambda: convert.keras.load(without(KERAS, "recurrent_kernel")), r"recurrent_kernel is missing"),
    "keras, unknown": (lambda: convert.keras.load(KERAS | {"peephole": zeros(2)}), r"peephole not understood"),
    "keras, two normalizers": (
        lambda: convert.keras.load(renamed(GAMMA, "a/") | renamed(GAMMA, "b/"), jn.LayerNorm(use_bias=False)),
        r"under the prefixes 'a/' \(LayerNorm\), 'b/' \(LayerNorm\)\. Take it away",
    ),
    "keras, half a normalizer": (
        lambda: convert.keras.load(renamed(GAMMA, "a/") | {"a/beta": zeros(3)}, jn.BatchNorm()),
        r"gamma, beta, moving_mean, moving_variance are missing",
    ),
    "linen, two cells": (
        lambda: convert.linen.load({"params": {"encoder": {"cell": FLAX}, "decoder": {"cell": FLAX}}}),
        r"linen\.load: .*'encoder/cell/' \(an LSTM\), 'decoder/cell/' \(an LSTM\)\. Pass prefix='encoder/cell/', or",
    ),
    "linen, an array missing deep inside": (
        lambda: convert.linen.load({"params": {"net": {"cell": without(FLAX, "ig")}}}),
        r"net/cell/ig/kernel is missing",
    ),
    "linen, missing": (
        lambda: convert.linen.load({"params": without(FLAX, "ig", "hf")}),
        r"ig/kernel, hf/kernel, hf/bias are missing",
    ),
    "linen, two normalizers": (
        lambda: convert.linen.load({"params": {"a": {"scale": zeros(3)}, "b": {"scale": zeros(3)}}}, jn.RMSNorm()),
        r"under the prefixes 'a/' \(RMSNorm\), 'b/' \(RMSNorm\)",
    ),
    "haiku, missing": (lambda: convert.haiku.load({"lstm/linear": {"w": zeros(5, 8)}}), r"linear/b is missing"),
    "haiku, unknown": (
        lambda: convert.haiku.load({"lstm/linear": HAIKU["lstm/linear"] | {"peep": zeros(2)}}),
        r"linear/peep not understood",
    ),
    "haiku, a GRU": (lambda: convert.haiku.load({"gru": {"w_i": zeros(3, 6), "b": zeros(6)}}), r"w_h is missing"),
    "haiku, several": (
        lambda: convert.haiku.load(HAIKU | {"gru": {"w_h": zeros(2, 6)}}),
        r"there are lstm, gru\. Pass name=",
    ),
    "haste, two": (
        lambda: convert.haste.load(renamed(HASTE, "a.") | renamed(HASTE, "b.")),
        r"under the prefixes 'a\.' \(a layer\), 'b\.' \(a layer\)\. Pass prefix='a\.'",
    ),
    "tfa, two": (
        lambda: convert.tfa.load(renamed(TFA, "a/") | renamed(TFA, "b/")),
        r"under the prefixes 'a/' \(a cell\), 'b/' \(a cell\)\. Pass prefix='a/'",
    ),
    "haste, an array missing below a prefix": (
        lambda: convert.haste.load(without(renamed(HASTE, "a."), "a.bias")),
        r"a\.bias is missing",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_names_of_arrays_in_messages(name):
    load, message = CASES[name]
    with pytest.raises(ValueError, match=message):
        load()


ONLY = {
    "keras": (convert.keras.load, KERAS, "net/lstm/"),
    "haste": (convert.haste.load, HASTE, "rnn."),
    "tfa": (convert.tfa.load, TFA, "cell/"),
    "torch": (convert.torch.load, LSTM, "net.rnn."),
}


@pytest.mark.parametrize("name", ONLY)
def test_the_only_layer_needs_no_prefix(name, rng):
    load, arrays, prefix = ONLY[name]
    arrays = {key: rng.standard_normal(array.shape).astype(np.float32) for key, array in arrays.items()}
    separator = prefix[-1]
    others = {f"head{separator}weight": zeros(2, 2), f"head{separator}bias": zeros(2)}
    found, expected = load(renamed(arrays, prefix) | others), load(arrays)
    assert found.spec == expected.spec
    assert all(map(np.array_equal, jax.tree.leaves(found.params), jax.tree.leaves(expected.params)))
    assert f"the one layer that fits has the prefix {prefix!r}" in found.notes[-1]
