"""Objects that users put in place of a spec, of weights or of a key, each with the words that a message has for it."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx


def says(*texts):
    """The pattern of these texts, one after the other."""
    return ".*".join(map(re.escape, texts))


ANYWHERE = {
    "None": (lambda: None, says("got None. Write ")),
    "a float": (lambda: 2.5, says("got the number 2.5. Write ")),
    "a dict": (lambda: {"a": 1}, says("got a dict with 'a'. Write ")),
    "an array": (lambda: np.zeros((2, 3), np.int32), says("got an array with shape (2, 3) and dtype int32. Write ")),
    "another object": (object, says("got an object of type object. Write ")),
    "a module of Python": (lambda: jn.initializers, says("got the module jaxnorm.cells.initializers. Write ")),
    "a string": (lambda: "no such name", says("got the string 'no such name'. Write ")),
    "some function": (lambda: len, says("got the function len. Write ")),
    "a class of Flax": (lambda: nn.LSTMCell, says("got the class LSTMCell of Flax. Write ")),
}
CELL = ANYWHERE | {
    "a preset": (lambda: jn.ln_gru, says("got the preset ln_gru, which was not called. Write ln_gru(128).")),
    "a partial": (
        lambda: functools.partial(jn.bn_lstm, max_steps=3),
        says("got the preset bn_lstm, which was not called. Write bn_lstm(128, max_steps=...)."),
    ),
    "a class": (lambda: jn.LSTM, says("got the class LSTM. Write LSTM(128).")),
    "a class of wrappers": (lambda: jn.Zoneout, says("got the class Zoneout. Write Zoneout(ln_lstm(128)).")),
    "a number": (lambda: 8, says("got the number 8. Write ln_lstm(8).")),
    "a number of NumPy": (lambda: np.int64(8), says("got the number", "8", "Write ln_lstm(8).")),
    "a name": (lambda: "rms_gru", says("got the string 'rms_gru'. Write jaxnorm.rms_gru(128).")),
    "a cell of linen": (
        lambda: nn.OptimizedLSTMCell(4),
        says("got Flax's OptimizedLSTMCell. Write lstm(4); convert.linen.load(variables, module)"),
    ),
    "a cell of NNX": (
        lambda: nnx.GRUCell(3, 5, rngs=nnx.Rngs(0)),
        says("got Flax's GRUCell. Write gru(5); convert.nnx.load(module)"),
    ),
    "our module of linen": (
        lambda: jl.RNN(jn.gru(4)),
        says("got the module jaxnorm.linen.RNN. Its spec is module.cell."),
    ),
    "our module of NNX": (
        lambda: jx.RNNCell(jn.gru(4), 3, rngs=nnx.Rngs(0)),
        says("got the module jaxnorm.nnx.RNNCell. Its spec is module.cell."),
    ),
    "several": (lambda: (jn.gru(4), jn.gru(4)), says("got a tuple with 2 entries. Run several cells by jaxnorm.stack")),
    "a normalizer": (
        jn.LayerNorm,
        says("got the normalizer LayerNorm(", "A normalizer goes into a cell: LSTM(128, norm="),
    ),
    "a function of arrays": (
        lambda: jn.layer_norm,
        says("got the function layer_norm. A normalizer goes into a cell: LSTM(128, norm="),
    ),
    "a weight normalizer": (
        jn.WeightNorm,
        says("got the weight normalizer WeightNorm(", "goes around a cell: Reparam"),
    ),
    "weights": (lambda: jn.gru(4).init(jax.random.key(0), 3), says("got GRUParams. Write ln_lstm(128).")),
}
NORMALIZER = ANYWHERE | {
    "a class": (lambda: jn.LayerNorm, says("got the class LayerNorm. Write LayerNorm().")),
    "a function": (lambda: jn.rms_norm, says("got the function rms_norm. Write RMSNorm().")),
    "a name": (lambda: "batch_norm", says("got the string 'batch_norm'. Write jaxnorm.BatchNorm().")),
    "a number": (lambda: 8, says("got the number 8. Write LayerNorm().")),
    "a cell": (lambda: jn.gru(4), says("got the cell spec GRU(", "Write LayerNorm().")),
    "a preset": (lambda: jn.ln_gru, says("got the preset ln_gru, which was not called. Write LayerNorm().")),
    "a norm of linen": (lambda: nn.RMSNorm(), says("got Flax's RMSNorm. Write RMSNorm(); convert.linen.load(")),
    "a norm of NNX": (
        lambda: nnx.BatchNorm(4, rngs=nnx.Rngs(0)),
        says("got Flax's BatchNorm. Write BatchNorm(); convert.nnx.load(module)"),
    ),
    "our module": (
        lambda: jl.Norm(jn.LayerNorm()),
        says("got the module jaxnorm.linen.Norm. Its spec is module.spec."),
    ),
    "weights": (lambda: jn.LayerNorm().init((3,)), says("got Affine. Write LayerNorm().")),
}
WEIGHT_NORMALIZER = {name: case for name, case in ANYWHERE.items() if name != "a dict"} | {
    "a class": (lambda: jn.SpectralNorm, says("got the class SpectralNorm. Write SpectralNorm().")),
    "a function": (lambda: jn.weight_norm, says("got the function weight_norm. Write WeightNorm().")),
    "a number": (lambda: 8, says("got the number 8. Write WeightNorm().")),
    "a normalizer": (jn.LayerNorm, says("got the normalizer LayerNorm(", "Write WeightNorm().")),
    "a cell": (lambda: jn.gru(4), says("got the cell spec GRU(", "Write WeightNorm().")),
    "a norm of linen": (lambda: nn.RMSNorm(), says("got Flax's RMSNorm. Write WeightNorm();")),
}
SPEC = ANYWHERE | {
    "a preset": (lambda: jn.ln_gru, says("got the preset ln_gru, which was not called. Write ln_gru(128).")),
    "a class": (lambda: jn.LSTM, says("got the class LSTM. Write LSTM(128).")),
    "a function": (lambda: jn.rms_norm, says("got the function rms_norm. Write RMSNorm().")),
    "a name": (lambda: "gru", says("got the string 'gru'. Write jaxnorm.gru(128).")),
    "a cell of linen": (lambda: nn.GRUCell(4), says("got Flax's GRUCell. Write gru(4);")),
    "a norm of linen": (lambda: nn.LayerNorm(), says("got Flax's LayerNorm. Write LayerNorm();")),
    "our module": (lambda: jl.RNN(jn.gru(4)), says("got the module jaxnorm.linen.RNN. Its spec is module.cell.")),
    "a list": (lambda: [jn.gru(4)], says("got a list with 1 entry. Write lstm(128).")),
}
KEY = {name: case for name, case in ANYWHERE.items() if name != "None"} | {
    "zero": (lambda: 0, says("got the number 0. Write jax.random.key(0).")),
    "a number": (lambda: 7, says("got the number 7. Write jax.random.key(7).")),
    "a number of NumPy": (lambda: np.int32(7), says("got the number", "7", "Write jax.random.key(7).")),
    "an array of a number": (lambda: jnp.asarray(3), says("got an array with shape () and dtype int32. Write jax.ra")),
    "floats": (lambda: jnp.zeros(2), says("got an array with shape (2,) and dtype float32. Write jax.random.key(0).")),
    "several keys": (
        lambda: jax.random.split(jax.random.key(0), 3),
        says("got an array with shape (3,)", "several keys: pass one of them, keys[0]"),
    ),
    "streams of Flax": (lambda: nnx.Rngs(0), says("got Flax's Rngs. Take one key out of it: rngs.params().")),
    "a cell": (lambda: jn.gru(4), says("got the cell spec GRU(", "Write jax.random.key(0).")),
}
SIZES = {
    "a number": (lambda: 64, says("got the number 64. Write (64,).")),
    "a number of NumPy": (lambda: np.int64(3), says("got the number", "Write (3,).")),
    "None": (lambda: None, says("got None. Write (64,), or () without a batch.")),
    "an array": (lambda: np.zeros((5, 2, 3)), says("got an array with shape (5, 2, 3)", "Write xs.shape[1:-1].")),
    "a string": (lambda: "64", says("got the string '64'. Write ")),
    "a fraction": (lambda: (2.5,), says("got (2.5,). Write ")),
    "below zero": (lambda: (-1,), says("got (-1,). Write ")),
    "an unknown size": (lambda: (None, 3), says("got (None, 3). Write ")),
}


def weights(spec_init, params, made):
    """Cases of what comes in place of weights that ``made`` is the type of."""
    return {
        "a checkpoint": (
            lambda: dict(params()._asdict()),
            says("got a dict with", f"flax.serialization.from_state_dict({spec_init}, params)."),
        ),
        "a list": (lambda: list(params()), says("got a list with", f"Write {made}(*params), or {spec_init}.")),
        "a number": (lambda: 3, says(f"got the number 3. Make them with {spec_init}.")),
        "a string": (lambda: "weights", says("got the string 'weights'.")),
        "a cell": (lambda: jn.gru(4), says("got the cell spec GRU(")),
        "None": (lambda: None, says(f"got None. Make them with {spec_init}.")),
        "variables": (
            lambda: {"params": {"kernel": jnp.zeros((3, 4))}},
            says("got a dict with 'params'. These are the variables of a module of Flax, for module.apply(params"),
        ),
        "other weights": (
            lambda: jn.KernelParams(jnp.ones((3, 4)), None),
            says(f"got KernelParams. Make them with {spec_init}"),
        ),
        "a class": (lambda: jn.LSTMParams, says("got the class LSTMParams.")),
    }
