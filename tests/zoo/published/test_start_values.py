"""How the weights of every preset start: measured, against the rule of its source, which is written here once more.

The number of inputs and outputs that a rule counts is part of it: of one gate or of all, of x or of [x, h], of one
block or of all blocks.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases

CUT = 0.8796256610342398
"""Standard deviation of a standard normal variable that is cut at two."""


def spread(weights, deviation):
    """A standard deviation, up to what so many draws of it vary."""
    np.testing.assert_allclose(weights.std(), deviation, rtol=4 / math.sqrt(2 * weights.size))


def uniform(weights, limit):
    """Even between minus and plus the limit."""
    assert 0.97 * limit < np.abs(weights).max() <= limit * (1 + 1e-6)
    spread(weights, limit / 3**0.5)


def cut_normal(weights, deviation):
    """Normal with this deviation before it was cut at two of them."""
    assert 1.8 * deviation < np.abs(weights).max() <= 2 * deviation * (1 + 1e-4)
    spread(weights, CUT * deviation)


def normal(weights, deviation):
    """Normal; some are beyond two deviations."""
    assert np.abs(weights).max() > 2.5 * deviation
    spread(weights, deviation)


def orthonormal(matrix):
    """Rows or columns, whichever are fewer."""
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=2e-5)


def each(kernel, rule):
    """A rule for each gate of a kernel (I, G, H), the gates different from each other."""
    gates = [kernel[:, gate] for gate in range(kernel.shape[1])]
    for gate in gates:
        rule(gate)
    assert all(not np.array_equal(a, b) for i, a in enumerate(gates) for b in gates[:i])


def glorot(rows, columns):
    """The limit of Glorot and Bengio."""
    return math.sqrt(6 / (rows + columns))


def flat(kernel):
    """All gates side by side."""
    return kernel.reshape(len(kernel), -1)


def lecun(w, u, i, h):
    """Flax's cells: variance 1 / I after the cut, U orthogonal for each gate."""
    each(w, lambda gate: cut_normal(gate, 1 / (CUT * i**0.5)))
    each(u, orthonormal)


def kiros(w, u, i, h):
    each(w, lambda gate: uniform(gate, 0.1))
    each(u, orthonormal)


def haste(w, u, i, h):
    each(w, lambda gate: uniform(gate, glorot(i, h)))
    each(u, orthonormal)


def tfa(w, u, i, h):
    uniform(w, glorot(i, 4 * h))
    orthonormal(flat(u))


def fastrnns(w, u, i, h):
    normal(w, 1.0)
    normal(u, 1.0)


def torch_linear(w, u, i, h):
    """Torch's and PyTorch's linear layers, for both products."""
    each(w, lambda gate: uniform(gate, i**-0.5))
    each(u, lambda gate: uniform(gate, h**-0.5))


def pytorch_kaldi(w, u, i, h):
    each(w, lambda gate: uniform(gate, i**-0.5))
    each(u, orthonormal)


def joint_glorot(w, u, i, h):
    """One kernel (I + H, G H) of [x, h] and all gates."""
    both = np.concatenate([flat(w), flat(u)])
    uniform(both, glorot(*both.shape))
    spread(w, u.std())


def sketch_rnn(w, u, i, h):
    uniform(w, glorot(i, 4 * h))
    each(u, orthonormal)


def sonnet(w, u, i, h):
    cut_normal(w, (i + h) ** -0.5)
    cut_normal(u, (i + h) ** -0.5)


def glorot_each(w, u, i, h):
    each(w, lambda gate: uniform(gate, glorot(i, h)))
    each(u, lambda gate: uniform(gate, glorot(h, h)))


def cooijmans(w, u, i, h):
    orthonormal(flat(w))
    orthonormal(flat(u))


def orthogonal_each(w, u, i, h):
    each(w, orthonormal)
    each(u, orthonormal)


def atn(w, u, i, h):
    orthonormal(flat(w))
    for gate in range(4):
        np.testing.assert_array_equal(u[:, gate], np.eye(h))


def dreamer_v3(w, u, i, h):
    """Fan-in of the linear layer of [h, x]; its deviation makes up for the cut."""
    deviation = 1.1368 * (i + h) ** -0.5
    cut_normal(w, deviation)
    cut_normal(u, deviation)


class Start(NamedTuple):
    kernels: Callable[..., None]
    bias: Mapping[int, float] = MappingProxyType({})
    """Sum of all biases of the pre-activations, by gate (i f g o, r z n, z n); zero in the others."""
    gain: float = 1.0


STARTS = {
    "elman": Start(lambda w, u, i, h: lecun(w[:, None], u[:, None], i, h)),
    "lstm": Start(lecun, {1: 1.0}),
    "gru": Start(lecun),
    "ln_rnn": Start(lambda w, u, i, h: lecun(w[:, None], u[:, None], i, h)),
    "ln_lstm": Start(lecun),
    "ln_gru": Start(lecun),
    "rms_lstm": Start(lecun),
    "rms_gru": Start(lecun),
    "bn_lstm": Start(cooijmans, {1: 1.0}, 0.1),
    "ligru": Start(pytorch_kaldi),
    "mgu": Start(lecun),
    "kiros_ln_lstm": Start(kiros),
    "haste_ln_lstm": Start(haste, {1: 1.0}),
    "tfa_ln_lstm": Start(tfa, {1: 1.0}),
    "fastrnns_ln_lstm": Start(fastrnns),
    "draw_ln_lstm": Start(torch_linear),
    "contrib_ln_lstm": Start(joint_glorot, {1: 1.0}),
    "sketch_rnn_ln_lstm": Start(sketch_rnn, {1: 1.0}),
    "sonnet_ln_lstm": Start(sonnet, {1: 1.0}),
    "praxis_ln_lstm": Start(joint_glorot),
    "axlearn_ln_lstm": Start(joint_glorot),
    "kiros_ln_gru": Start(kiros),
    "haste_ln_gru": Start(haste),
    "dreamer_gru": Start(joint_glorot, {1: -1.0}),
    "dreamer_v3_gru": Start(dreamer_v3, {1: -1.0}),
    "sonnet_bn_lstm": Start(sonnet, {1: 1.0}, 0.1),
    "laurent_bn_lstm": Start(glorot_each),
    "norm_prop_lstm": Start(orthogonal_each),
    "assorted_time_lstm": Start(atn),
    "weight_norm_lstm": Start(lecun, {1: 1.0}),
    "bounded_weight_norm_lstm": Start(lecun, {1: 1.0}),
}
SIZES = [(48, 80), (96, 40)]


def fresh(name, inputs, hidden):
    """The weights of a preset; those inside where its kernels are made of others."""
    options = {"max_steps": 2} if name in ("bn_lstm", "laurent_bn_lstm") else {}
    params = cases.PUBLIC[name](hidden, **options).init(jax.random.key(inputs), inputs)
    return params.cell if isinstance(params, jn.ReparametrizedParams) else params


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize(("inputs", "hidden"), SIZES)
def test_kernels(name, inputs, hidden):
    params = fresh(name, inputs, hidden)
    kernel, recurrent = (np.asarray(leaf, np.float64) for leaf in (params.kernel, params.recurrent))
    STARTS[name].kernels(kernel, recurrent, inputs, hidden)


@pytest.mark.parametrize("name", STARTS)
def test_biases_and_gains(name):
    params, (_, bias, gain) = fresh(name, 8, 8), STARTS[name]
    sites = getattr(params, "norm", None) or jn.CellNorms()
    affine = {site: weights for site, weights in sites._asdict().items() if weights != ()}
    found = [params.bias, getattr(params, "recurrent_bias", None)]
    found += [weights.bias for site, weights in affine.items() if site != "cell" or name == "ln_rnn"]
    total = sum(np.asarray(b, np.float64).reshape(-1, 8) for b in found if b is not None)
    want = np.zeros_like(total)
    for gate, value in bias.items():
        want[gate] = value
    np.testing.assert_array_equal(total, want)
    for site, weights in affine.items():
        np.testing.assert_array_equal(weights.scale, np.full(weights.scale.shape, gain, np.float32))
        if site == "cell" and weights.bias is not None:
            np.testing.assert_array_equal(weights.bias, np.zeros(8))


@pytest.mark.parametrize(
    ("blocks", "hidden", "embedding", "inputs"), [(8, 64, 32, 40), (4, 96, 12, 24), (1, 32, 16, 40)]
)
def test_block_gru(blocks, hidden, embedding, inputs):
    """The published layer of blocks counts the inputs of all blocks; the dense layer has no blocks."""
    cell = jn.zoo.dreamer_v3_block_gru(hidden, blocks=blocks, embedding_features=embedding)
    params = cell.init(jax.random.key(3), inputs)
    size = hidden // blocks
    layer = 1.1368 * (blocks * (size + embedding + inputs)) ** -0.5
    parts = [np.ravel(np.asarray(leaf, np.float64)) for leaf in (params.kernel, params.block, params.mix)]
    cut_normal(np.concatenate(parts), layer)
    for part in parts:
        spread(part, CUT * layer)
    cut_normal(np.asarray(params.gates, np.float64), 1.1368 * (blocks * size) ** -0.5)
    cut_normal(np.asarray(params.recurrent, np.float64), 1.1368 * hidden**-0.5)
    blocks_of_gates = np.asarray(params.gates)
    assert all(not np.array_equal(blocks_of_gates[0], other) for other in blocks_of_gates[1:])
    np.testing.assert_array_equal(params.gates_bias, np.repeat([0.0, -1.0, 0.0], hidden))
    for zero in (params.bias, params.recurrent_bias):
        np.testing.assert_array_equal(zero, np.zeros(len(zero)))
    for site in (params.norm.recurrent, params.norm.summed):
        np.testing.assert_array_equal(site.scale, np.ones(len(site.scale)))


def test_published_pieces():
    """Kiros' input kernels are orthogonal where square; Cooijmans' models of digits have the identity for one gate."""
    each(np.asarray(fresh("kiros_ln_lstm", 16, 16).kernel, np.float64), orthonormal)
    each(np.asarray(fresh("kiros_ln_gru", 16, 16).kernel, np.float64), orthonormal)
    cell = jn.bn_lstm(16, max_steps=2, recurrent_init=jn.initializers.cooijmans_identity)
    recurrent = np.asarray(cell.init(jax.random.key(0), 3).recurrent, np.float64)
    np.testing.assert_array_equal(recurrent[:, 2], np.eye(16))
    orthonormal(flat(recurrent[:, [0, 1, 3]]))
    scales = jn.zoo.norm_prop_lstm(8).init(jax.random.key(0), 3).scale
    assert [set(np.ravel(leaf).tolist()) for leaf in scales] == [{2.0}, {2.0}, {1.0}]


def test_every_preset_has_a_row():
    functions = [value for value in cases.PUBLIC.values() if inspect.isfunction(value)]
    made = {f.__name__ for f in functions if next(iter(inspect.signature(f).parameters), "") == "hidden_features"}
    rows = {*STARTS, "dreamer_v3_block_gru"}
    assert made == rows, f"STARTS lacks {sorted(made - rows)}, and has {sorted(rows - made)} too many"
