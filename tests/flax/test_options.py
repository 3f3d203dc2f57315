"""The RNN modules of Flax hand the options of the engine on to ``unroll``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm as jn
from jaxnorm import linen
from jaxnorm import nnx as jn_nnx

CELL = jn.lstm(2)


def linen_loss(engine, xs):
    module = linen.RNN(CELL, engine=engine)
    variables = module.init(jax.random.key(0), xs)
    return lambda xs: jnp.sum(module.apply(variables, xs)[:, -1])


def nnx_loss(engine, xs):
    module = jn_nnx.RNN(CELL, 3, engine=engine, rngs=nnx.Rngs(0))
    return lambda xs: jnp.sum(module(xs)[:, -1])


@pytest.mark.parametrize("loss", [linen_loss, nnx_loss])
def test_truncation_reaches_the_engine(loss, rng):
    xs = jnp.asarray(rng.standard_normal((2, 4, 3)), jnp.float32)
    whole, cut = (np.asarray(jax.grad(loss(engine, xs))(xs)) for engine in ({}, {"truncate": 1}))
    assert np.abs(whole[:, :3]).max() > 0
    assert not cut[:, :3].any()
    np.testing.assert_allclose(cut[:, 3], whole[:, 3], rtol=1e-5)
