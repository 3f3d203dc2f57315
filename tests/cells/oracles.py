"""The papers' equations in NumPy float64, one step on a batch each, and a slow loop that runs every row alone.

Nothing here uses JAX or jaxnorm: weights come as NamedTuples of NumPy arrays (see ``to_numpy``), and the four gate
blocks of a kernel are written one after the other, as the papers do, in the order of jaxnorm (i f g o and r z n).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

EPSILON = 1e-5


def to_numpy(tree: Any) -> Any:
    """The same NamedTuples, tuples and Nones with float64 NumPy arrays in them."""
    if tree is None:
        return None
    if isinstance(tree, tuple):
        entries = [to_numpy(entry) for entry in tree]
        return type(tree)(*entries) if hasattr(tree, "_fields") else tuple(entries)
    return np.asarray(tree, np.float64)


def sigmoid(v: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-v)), in a form that cannot overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * v))


def flat(weights: np.ndarray) -> np.ndarray:
    """A kernel (I, G, H) to (I, G * H): the gates side by side, as vectors have them already."""
    return weights if weights.ndim == 1 else weights.reshape(*weights.shape[:-2], -1)


def by_gate(vector: Any, gates: int) -> Any:
    """A vector (..., G * H) to (..., G, H): a row for each gate."""
    return vector.reshape(*vector.shape[:-1], gates, -1)


def layer_norm(v: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Ba et al., eqs. 15 and 16, with epsilon inside the root as in the published code."""
    mean = v.sum(-1, keepdims=True) / v.shape[-1]
    variance = ((v - mean) ** 2).sum(-1, keepdims=True) / v.shape[-1]
    return scale * (v - mean) / np.sqrt(variance + EPSILON) + bias


def rms_norm(v: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Zhang and Sennrich, eq. 4, with epsilon inside the root."""
    return scale * v / np.sqrt((v**2).sum(-1, keepdims=True) / v.shape[-1] + EPSILON)


class BatchStatistics(NamedTuple):
    """Mean, biased variance and number of the rows behind them."""

    mean: np.ndarray
    var: np.ndarray
    count: float


def measure(v: np.ndarray, real: np.ndarray) -> BatchStatistics:
    """Over the rows of (B, F) with ``real`` True; nothing there gives zeros."""
    rows = v[real]
    if len(rows) == 0:
        return BatchStatistics(np.zeros(v.shape[1]), np.zeros(v.shape[1]), 0.0)
    mean = rows.sum(0) / len(rows)
    return BatchStatistics(mean, ((rows - mean) ** 2).sum(0) / len(rows), float(len(rows)))


def batch_norm(v: np.ndarray, statistics: Any, scale: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
    """Cooijmans et al., eq. 3; ``statistics`` is anything with ``mean`` and ``var``."""
    return scale * (v - statistics.mean) / np.sqrt(statistics.var + EPSILON) + bias


# One step on a batch: (params, carry, x) -> (carry, output). A carry is a tuple of (B, H) arrays.


def elman_step(p: Any, carry: tuple, x: np.ndarray) -> tuple[tuple, np.ndarray]:
    """h = tanh(x W + h U + b)."""
    (h,) = carry
    h = np.tanh(x @ p.kernel + h @ p.recurrent + p.bias)
    return (h,), h


def ln_rnn_step(p: Any, carry: tuple, x: np.ndarray) -> tuple[tuple, np.ndarray]:
    """Ba et al., eq. 4: the summed input is normalized once."""
    (h,) = carry
    summed = h @ p.recurrent + x @ p.kernel
    h = np.tanh(layer_norm(summed, *p.norm.cell))
    return (h,), h


def _lstm(c: np.ndarray, gates: np.ndarray, output: Callable) -> tuple[tuple, np.ndarray]:
    """The cell state and output that all LSTMs share; ``output`` is what stands inside the last tanh."""
    i, f, g, o = np.split(gates, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(output(c))
    return (c, h), h


def lstm_step(p: Any, carry: tuple, x: np.ndarray) -> tuple[tuple, np.ndarray]:
    """Gers et al. 2000."""
    c, h = carry
    return _lstm(c, h @ flat(p.recurrent) + x @ flat(p.kernel) + p.bias, lambda c: c)


def ln_lstm_step(p: Any, carry: tuple, x: np.ndarray) -> tuple[tuple, np.ndarray]:
    """Ba et al., supplement, eqs. 20 to 22: two norms over all 4H, one over c for the output only."""
    c, h = carry
    gates = (
        layer_norm(h @ flat(p.recurrent), *p.norm.recurrent) + layer_norm(x @ flat(p.kernel), *p.norm.input) + p.bias
    )
    return _lstm(c, gates, lambda c: layer_norm(c, *p.norm.cell))


def rms_lstm_step(p: Any, carry: tuple, x: np.ndarray) -> tuple[tuple, np.ndarray]:
    """The LN-LSTM with the norm of Zhang and Sennrich in the place of each layer normalization."""
    c, h = carry
    gates = (
        rms_norm(h @ flat(p.recurrent), p.norm.recurrent.scale)
        + rms_norm(x @ flat(p.kernel), p.norm.input.scale)
        + p.bias
    )
    return _lstm(c, gates, lambda c: rms_norm(c, p.norm.cell.scale))


def _gru(p: Any, h: np.ndarray, x: np.ndarray, norm: Callable, renew: bool) -> tuple[tuple, np.ndarray]:
    """The GRU with the reset gate after the recurrent product; ``norm(v, affine, part)`` acts on r and z, and on n."""
    size = h.shape[-1]
    sides = []
    for v, affine, bias in (
        (x @ flat(p.kernel), p.norm.input, p.bias),
        (h @ flat(p.recurrent), p.norm.recurrent, p.recurrent_bias),
    ):
        sides.append(
            [norm(v[..., part], affine, part) + bias[part] for part in (slice(2 * size), slice(2 * size, None))]
        )
    (gates_x, n_x), (gates_h, n_h) = sides
    r, z = np.split(sigmoid(gates_x + gates_h), 2, axis=-1)
    n = np.tanh(n_x + r * n_h)
    h = (1 - z) * h + z * n if renew else (1 - z) * n + z * h
    return (h,), h


def gru_step(p: Any, carry: tuple, x: np.ndarray, renew: bool = False) -> tuple[tuple, np.ndarray]:
    """Cho et al. 2014, with z keeping the old state; ``renew``: Chung et al. 2014."""
    return _gru(p, carry[0], x, lambda v, affine, part: v, renew)


def ln_gru_step(p: Any, carry: tuple, x: np.ndarray, renew: bool = True) -> tuple[tuple, np.ndarray]:
    """Ba et al., supplement, eqs. 26 to 28: norms over 2H for r and z, over H for the candidate."""
    return _gru(p, carry[0], x, lambda v, a, part: layer_norm(v, a.scale[part], a.bias[part]), renew)


def rms_gru_step(p: Any, carry: tuple, x: np.ndarray, renew: bool = True) -> tuple[tuple, np.ndarray]:
    """The LN-GRU with the norm of Zhang and Sennrich in the place of each layer normalization."""
    return _gru(p, carry[0], x, lambda v, a, part: rms_norm(v, a.scale[part]), renew)


def bn_lstm_step(
    p: Any, carry: tuple, x: np.ndarray, real: np.ndarray | None = None, statistics: Any = None
) -> tuple[tuple, np.ndarray, Any]:
    """Cooijmans et al., eqs. 6 to 8; also returns the statistics of the input, recurrent and cell site.

    Without ``statistics`` those of the rows with ``real`` True are taken.
    """
    c, h = carry
    real = np.ones(len(x), bool) if real is None else real
    used = []

    def norm(site: int, v: np.ndarray, scale: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
        used.append(measure(v, real) if statistics is None else statistics[site])
        return batch_norm(v, used[-1], scale, bias)

    gates = norm(0, x @ flat(p.kernel), p.norm.input.scale)
    gates = gates + norm(1, h @ flat(p.recurrent), p.norm.recurrent.scale) + p.bias
    carry, y = _lstm(c, gates, lambda c: norm(2, c, p.norm.cell.scale, p.norm.cell.bias))
    return carry, y, tuple(used)


def run_rows(
    step: Callable,
    xs: np.ndarray,
    carry: tuple,
    initial: tuple,
    *,
    lengths: np.ndarray | None = None,
    where: np.ndarray | None = None,
    reset: np.ndarray | None = None,
    reverse: bool = False,
) -> tuple[np.ndarray, tuple]:
    """Runs every row alone and every step alone, by the words of ``unroll``'s docstring.

    ``step(carry, x)`` maps a batch of one to (carry, output). ``carry`` has entries (*B, H), ``initial`` (H,).
    All is time-major. Returns the outputs and the last carry.
    """
    steps, *batch = xs.shape[:-1]
    hidden = initial[0].shape[-1]
    outputs = np.zeros((steps, *batch, hidden))
    last = tuple(np.array(entry) for entry in carry)
    for row in np.ndindex(*batch):
        length = steps if lengths is None else min(int(lengths[row]), steps)
        state = tuple(entry[row][None] for entry in carry)
        for t in range(length - 1, -1, -1) if reverse else range(length):
            if reset is not None and reset[(t, *row)]:
                state = tuple(entry[None] for entry in initial)
            if where is None or where[(t, *row)]:
                state, y = step(state, xs[(t, *row)][None])
                outputs[(t, *row)] = y[0]
        for entry, value in zip(last, state, strict=True):
            entry[row] = value[0]
    return outputs, last
