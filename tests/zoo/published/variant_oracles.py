"""What each library computes, in NumPy float64, one step on a batch: ``(params, carry, x) -> (carry, output)``.

Each step is written out from the description of its source, with the weights of jaxnorm (gates i f g o and r z n). The
shared lines are the mean and variance, and nothing else.
"""

from functools import partial
from typing import Any

import numpy as np

from tests.cells.oracles import by_gate, flat, sigmoid


def ln(v: np.ndarray, epsilon: float, scale: Any, bias: Any = 0.0) -> np.ndarray:
    """Over the last axis, epsilon inside the root."""
    mean = v.mean(-1, keepdims=True)
    return scale * (v - mean) / np.sqrt(((v - mean) ** 2).mean(-1, keepdims=True) + epsilon) + bias


def kiros_ln_lstm(p: Any, carry: tuple, x: np.ndarray) -> tuple[tuple, np.ndarray]:
    c, h = carry
    below = ln(x @ flat(p.kernel) + p.bias, 1e-5, *p.norm.input)
    before = ln(h @ flat(p.recurrent), 1e-5, *p.norm.recurrent)
    i, f, g, o = np.split(before + below + p.bias, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(ln(c, 1e-5, *p.norm.cell))
    return (c, h), h


def haste_ln_lstm(p: Any, carry: tuple, x: np.ndarray) -> tuple[tuple, np.ndarray]:
    c, h = carry
    v = ln(x @ flat(p.kernel), 1e-5, p.norm.input.scale) + p.bias
    v = v + ln(h @ flat(p.recurrent), 1e-5, p.norm.recurrent.scale)
    i, f, g, o = np.split(v, 4, axis=-1)
    c = sigmoid(i) * np.tanh(g) + sigmoid(f) * c
    h = sigmoid(o) * np.tanh(ln(c, 1e-5, p.norm.cell.scale, p.norm.cell.bias))
    return (c, h), h


def tfa_ln_lstm(p: Any, carry: tuple, x: np.ndarray) -> tuple[tuple, np.ndarray]:
    c, h = carry
    z = ln(x @ flat(p.kernel), 1e-3, *p.norm.input)
    z = z + ln(h @ flat(p.recurrent), 1e-3, *p.norm.recurrent) + p.bias
    i, f, g, o = np.split(z, 4, axis=-1)
    c = ln(sigmoid(f) * c + sigmoid(i) * np.tanh(g), 1e-3, *p.norm.cell)
    h = sigmoid(o) * np.tanh(c)
    return (c, h), h


def fastrnns_ln_lstm(p: Any, carry: tuple, x: np.ndarray, epsilon: float = 1e-5) -> tuple[tuple, np.ndarray]:
    c, h = carry
    v = ln(x @ flat(p.kernel), epsilon, *p.norm.input)
    i, f, g, o = np.split(v + ln(h @ flat(p.recurrent), epsilon, *p.norm.recurrent), 4, axis=-1)
    c = ln(sigmoid(f) * c + sigmoid(i) * np.tanh(g), epsilon, *p.norm.cell)
    h = sigmoid(o) * np.tanh(c)
    return (c, h), h


def draw_ln_lstm(p: Any, carry: tuple, x: np.ndarray) -> tuple[tuple, np.ndarray]:
    c, h = carry
    i, f, g, o = np.split(x @ flat(p.kernel) + h @ flat(p.recurrent) + p.bias, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(ln(c, 1e-5, *p.norm.cell))
    return (c, h), h


def each_gate(p: Any, h: np.ndarray, x: np.ndarray, epsilon: float, inner: Any = None) -> list[np.ndarray]:
    """The gates of the sum, each normalized over its own H."""
    gates = []
    scale, bias = (None if leaf is None else by_gate(leaf, 4) for leaf in p.norm.summed)
    for k in range(4):
        v = np.concatenate([x, h], -1) @ np.concatenate([p.kernel[:, k], p.recurrent[:, k]])
        v = v if inner is None else v + by_gate(inner, 4)[k]
        gates.append(ln(v, epsilon, scale[k], 0.0 if bias is None else bias[k]))
    return gates


def contrib_ln_lstm(p: Any, carry: tuple, x: np.ndarray) -> tuple[tuple, np.ndarray]:
    c, h = carry
    i, f, g, o = each_gate(p, h, x, 1e-12)
    c = ln(c * sigmoid(f) + sigmoid(i) * np.tanh(g), 1e-12, *p.norm.cell)
    h = np.tanh(c) * sigmoid(o)
    return (c, h), h


def sketch_rnn_ln_lstm(p: Any, carry: tuple, x: np.ndarray) -> tuple[tuple, np.ndarray]:
    c, h = carry
    i, f, g, o = each_gate(p, h, x, 1e-3, p.bias)
    c = c * sigmoid(f) + sigmoid(i) * np.tanh(g)
    h = np.tanh(ln(c, 1e-3, *p.norm.cell)) * sigmoid(o)
    return (c, h), h


def sonnet_ln_lstm(p: Any, carry: tuple, x: np.ndarray) -> tuple[tuple, np.ndarray]:
    c, h = carry
    gates = ln(x @ flat(p.kernel) + h @ flat(p.recurrent), 1e-5, *p.norm.summed) + p.bias
    i, f, g, o = np.split(gates, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = np.tanh(c) * sigmoid(o)
    return (c, h), h


def praxis_ln_lstm(p: Any, carry: tuple, x: np.ndarray, clip: float = 10.0) -> tuple[tuple, np.ndarray]:
    c, h = carry
    i, f, g, o = (v + b for v, b in zip(each_gate(p, h, x, 1e-8), by_gate(p.bias, 4), strict=True))
    c = np.clip(sigmoid(f) * c + sigmoid(i) * np.tanh(g), -clip, clip)
    h = sigmoid(o) * np.tanh(c)
    return (c, h), h


def axlearn_ln_lstm(p: Any, carry: tuple, x: np.ndarray) -> tuple[tuple, np.ndarray]:
    c, h = carry
    i, f, g, o = each_gate(p, h, x, 1e-8)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return (c, h), h


def kiros_ln_gru(p: Any, carry: tuple, x: np.ndarray) -> tuple[tuple, np.ndarray]:
    (h,) = carry
    gates, last = np.s_[: 2 * h.shape[-1]], np.s_[2 * h.shape[-1] :]
    below = ln(x @ flat(p.kernel[:, :2]) + p.bias[gates], 1e-5, *(w[gates] for w in p.norm.input))
    below_x = ln(x @ p.kernel[:, 2] + p.bias[last], 1e-5, *(w[last] for w in p.norm.input))
    preact = ln(h @ flat(p.recurrent[:, :2]), 1e-5, *(w[gates] for w in p.norm.recurrent)) + below
    r, u = np.split(sigmoid(preact), 2, axis=-1)
    candidate = np.tanh(ln(h @ p.recurrent[:, 2], 1e-5, *(w[last] for w in p.norm.recurrent)) * r + below_x)
    h = u * h + (1 - u) * candidate
    return (h,), h


def haste_ln_gru(p: Any, carry: tuple, x: np.ndarray) -> tuple[tuple, np.ndarray]:
    (h,) = carry
    v_x = ln(x @ flat(p.kernel), 1e-5, p.norm.input.scale) + p.bias
    v_h = ln(h @ flat(p.recurrent), 1e-5, p.norm.recurrent.scale) + p.recurrent_bias
    (r_x, z_x, g_x), (r_h, z_h, g_h) = np.split(v_x, 3, axis=-1), np.split(v_h, 3, axis=-1)
    z = sigmoid(z_x + z_h)
    h = z * h + (1 - z) * np.tanh(g_x + sigmoid(r_x + r_h) * g_h)
    return (h,), h


def dreamer_gru(p: Any, carry: tuple, x: np.ndarray) -> tuple[tuple, np.ndarray]:
    (h,) = carry
    both = np.concatenate([x, h], -1) @ np.concatenate([flat(p.kernel), flat(p.recurrent)])
    scale, bias = p.norm.summed
    minus_one = np.repeat([0.0, -1.0, 0.0], h.shape[-1])  # part of the bias in jaxnorm, a constant there
    reset, update, candidate = np.split(ln(both, 1e-3, scale, bias - minus_one), 3, axis=-1)
    update = sigmoid(update - 1)
    h = update * np.tanh(sigmoid(reset) * candidate) + (1 - update) * h
    return (h,), h


STEPS = {
    step.__name__: step
    for step in (
        kiros_ln_lstm,
        haste_ln_lstm,
        tfa_ln_lstm,
        fastrnns_ln_lstm,
        draw_ln_lstm,
        contrib_ln_lstm,
        sketch_rnn_ln_lstm,
        sonnet_ln_lstm,
        praxis_ln_lstm,
        axlearn_ln_lstm,
        kiros_ln_gru,
        haste_ln_gru,
        dreamer_gru,
    )
}
OPTIONS = {
    "sketch_rnn_ln_lstm with a bias inside": (
        "sketch_rnn_ln_lstm",
        {"use_bias": True, "bias_at": "input"},
        sketch_rnn_ln_lstm,
    ),
    "fastrnns_ln_lstm without epsilon": ("fastrnns_ln_lstm", {"epsilon": 0.0}, partial(fastrnns_ln_lstm, epsilon=0.0)),
    "praxis_ln_lstm with a tight clip": ("praxis_ln_lstm", {"cell_clip": 0.3}, partial(praxis_ln_lstm, clip=0.3)),
}
"""Settings of presets that a source has too: the preset, what is given, the step."""
