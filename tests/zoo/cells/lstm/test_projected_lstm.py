"""The LSTM with projection: its equation in NumPy, PyTorch's own, and what is peculiar to two sizes of a state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.cells.oracles import flat, sigmoid
from tests.cells.test_peers import agree, fill, ours
from tests.tools.peers import import_peer, lenient
from tests.zoo.cells.relative_tools import FEATURES, HIDDEN, check_equation, ln

P = 3
LN = jn.LayerNorm()


def step(p, carry, x, normalize):
    """Sak et al. without peepholes; ``normalize(site, v)``."""
    c, h = carry
    gates = normalize("input", x @ flat(p.kernel)) + normalize("recurrent", h @ flat(p.recurrent))
    i, f, g, o = np.split(normalize("summed", gates) + p.bias, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = normalize("projection", (sigmoid(o) * np.tanh(normalize("cell", c))) @ p.projection)
    return (c, h), h


@pytest.mark.parametrize("where", ["", "input recurrent cell", "summed cell projection", "projection"])
def test_projected_lstm_is_its_equation(where, x64, rng):
    there = where.split()
    cell = jn.zoo.ProjectedLSTM(HIDDEN, P, norm=jn.CellNorms(**dict.fromkeys(there, LN)))
    check_equation(
        cell,
        lambda p, carry, x: step(p, carry, x, lambda s, v: ln(v, getattr(p.norm, s)) if s in there else v),
        rng,
    )


def test_one_normalizer_stands_at_all_sites_but_those_that_are_named():
    cell = jn.zoo.ProjectedLSTM(HIDDEN, P, norm=LN)
    assert cell.norm == jn.CellNorms(LN, LN, LN, jn.Identity(), jn.Identity())


@pytest.mark.long
def test_torch_lstm_with_projection():
    torch = import_peer("torch")
    params, xs, carry, out = ours(jn.zoo.ProjectedLSTM(HIDDEN, P))
    module = torch.nn.LSTM(FEATURES, HIDDEN, proj_size=P)
    rest = np.linspace(-1, 1, 4 * HIDDEN, dtype=np.float32)
    fill(
        module,
        weight_ih=flat(params.kernel).T,
        weight_hh=flat(params.recurrent).T,
        weight_hr=params.projection.T,
        bias_ih=params.bias - rest,
        bias_hh=rest,
    )
    with lenient():
        ys, (h, c) = module(torch.tensor(xs), (torch.tensor(carry.h)[None], torch.tensor(carry.c)[None]))
    agree(ys.detach(), out.outputs)
    agree(h[0].detach(), out.carry.h)
    agree(c[0].detach(), out.carry.c)


def test_sizes_of_weights_states_and_statistics(key):
    cell = jn.zoo.ProjectedLSTM(5, 2, norm=jn.CellNorms(projection=jn.BatchNorm()), learn_carry=True, max_steps=3)
    params = jax.eval_shape(lambda k: cell.init(k, 3), key)
    shapes = (params.kernel, params.recurrent, params.projection, params.bias, params.norm.projection.scale)
    assert [leaf.shape for leaf in shapes] == [(3, 4, 5), (2, 4, 5), (5, 2), (20,), (2,)]
    assert [leaf.shape for leaf in params.carry] == [(5,), (2,)]
    assert [leaf.shape for leaf in cell.initial_carry((7,)).carry] == [(7, 5), (7, 2)]
    assert cell.initial_stats().projection.mean.shape == (3, 2)
    assert (cell.hidden_features, cell.out_features) == (5, 2)


def test_fresh_weights(key):
    params = jn.zoo.ProjectedLSTM(HIDDEN, P, forget_bias=2.0).init(key, FEATURES)
    np.testing.assert_array_equal(params.bias, np.repeat([0.0, 2.0, 0.0, 0.0], HIDDEN))
    block = np.asarray(params.recurrent[:, 1])
    np.testing.assert_allclose(block @ block.T, np.eye(P), atol=1e-6)
    shifted = jn.zoo.ProjectedLSTM(HIDDEN, P, norm=LN, use_bias=False).init(key, FEATURES)
    assert shifted.bias is None
    np.testing.assert_array_equal(shifted.norm.recurrent.bias, np.repeat([0.0, 1.0, 0.0, 0.0], HIDDEN))


def test_layers_of_different_sizes():
    """What goes up is h."""
    cells = (jn.zoo.ProjectedLSTM(HIDDEN, P), jn.gru(2))
    params = jax.eval_shape(lambda k: [cells[0].init(k, FEATURES), cells[1].init(k, P)], jax.random.key(0))
    out = jax.eval_shape(lambda p, x: jn.stack(cells, p, x), params, jnp.zeros((5, 1, FEATURES)))
    assert out.outputs.shape == (5, 1, 2)


def test_mixed_precision_keeps_c_wide_and_projects_in_the_compute_dtype():
    cell = jn.zoo.ProjectedLSTM(HIDDEN, P, dtype=jnp.bfloat16)
    weights = jax.eval_shape(lambda k: cell.prepare(cell.init(k, FEATURES)), jax.random.key(0))
    assert weights.extra.matrix.dtype == jnp.bfloat16
    assert [leaf.dtype for leaf in cell.initial_carry((2,))] == [jnp.float32, jnp.bfloat16]


def test_errors():
    with pytest.raises(ValueError, match="ProjectedLSTM: projected_features must be a positive integer, got 0"):
        jn.zoo.ProjectedLSTM(HIDDEN, 0)
    with pytest.raises(ValueError, match="ProjectedLSTM: gate_groups must be a tuple"):
        jn.zoo.ProjectedLSTM(HIDDEN, P, gate_groups=(2, 1))
    with pytest.raises(ValueError, match="LSTM: there is no site 'projection'"):
        jn.LSTM(HIDDEN, norm=jn.CellNorms(projection=LN))
