"""Initialization leaves ``axis_name`` out, as Flax does, so that it works outside of the axis."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
import jaxnorm.linen as jl
from tests import cases
from tests.flax.flax_tools import close

SPREAD = [case for case in cases.NORMS if hasattr(case.spec, "axis_name") and case.spans_devices]
BN = jn.BatchNorm(axis_name="batch", momentum=0.5)
CELLS = {
    "bn_lstm": jn.LSTM(4, norm=BN, max_steps=3),
    "one site": jn.GRU(4, norm=jn.CellNorms(input=BN)),
    "wrapped": jn.Zoneout(jn.LSTM(4, norm=BN), rate=0.1),
    "layers": (jn.LSTM(4, norm=BN), jn.Directions(jn.GRU(4, norm=BN), jn.lstm(4))),
}


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


@pytest.mark.parametrize("case", SPREAD, ids=str)
def test_norm_is_initialized_outside_of_the_axis(case, key):
    spec, x = dataclasses.replace(case.spec, axis_name="batch"), jnp.ones(case.shape)
    for use in (False, True):
        variables = jax.eval_shape(lambda use=use: jl.Norm(spec, use_running_average=use).init(key, x))
        plain = jax.eval_shape(lambda use=use: jl.Norm(case.spec, use_running_average=use).init(key, x))
        assert shapes(variables) == shapes(plain)
    shape = spec.param_shape(case.shape)
    with pytest.raises((NameError, ValueError), match="axis"):  # not so in the core
        jax.eval_shape(lambda: spec.train(spec.init(shape), x, spec.initial_stats(shape)))


@pytest.mark.long
@pytest.mark.parametrize("cells", CELLS.values(), ids=CELLS)
def test_rnn_is_initialized_outside_of_the_axis(cells, key):
    keys = {"params": key, "dropout": key}
    module = jl.RNN(cells, use_running_average=False)
    variables = jax.eval_shape(lambda: module.init(keys, jnp.ones((2, 5, 3))))
    assert "batch_stats" in variables
    if not isinstance(cells, tuple):
        driven = nn.RNN(jl.RNNCell(cells, use_running_average=False), variable_carry="batch_stats")
        assert "batch_stats" in jax.eval_shape(lambda: driven.init(keys, jnp.ones((2, 5, 3))))


def test_statistics_span_the_axis_after_initialization(rng, key):
    """Flax's own module is the peer; NumPy knows the mean."""
    x = jnp.asarray(rng.standard_normal((4, 2, 3)), jnp.float32)
    ours, theirs = jl.Norm(BN, use_running_average=False), nn.BatchNorm(axis_name="batch", use_running_average=False)
    for module in (ours, theirs):
        variables = module.init(key, x[0])

        def run(x, module=module, variables=variables):
            return module.apply(variables, x, mutable=["batch_stats"])

        y, updates = jax.vmap(run, axis_name="batch")(x)
        flat = np.asarray(x, np.float64).reshape(8, 3)
        want = (np.asarray(x, np.float64) - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
        np.testing.assert_allclose(y, want, atol=1e-5)
        if module is ours:
            close(updates["batch_stats"]["mean"][0], flat.mean(0) / 2)
