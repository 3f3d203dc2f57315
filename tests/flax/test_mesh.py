"""Weights of cells on a mesh: modules refuse names of mesh axes that would cut what belongs together."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx

SPREAD = (None, None, "model")
CUT = {
    "bias": (jn.ln_lstm(4), "bias", ("model",), r"bias, of shape \(16,\), over mesh axes \('model',\)\. A vector of a"),
    "gain": (jn.ln_lstm(4), "cell_scale", ("model",), r"norm_cell_scale, of shape \(4,\).* whole on every device"),
    "carry": (jn.gru(4, learn_carry=True), "h", ("model",), r"carry_h, of shape \(4,\)"),
    "part of the features": (
        jn.LSTM(4, norm=jn.CellNorms(cell=jn.RMSNorm(fraction=0.5))),
        "kernel",
        SPREAD,
        r"kernel, of shape \(3, 4, 4\), .*, but RMSNorm\(.*\) at the site 'cell' takes only some",
    ),
    "groups of features": (
        jn.Zoneout(jn.GRU(4, norm=jn.GroupNorm(2, axis=-1)), rate=0.1),
        "recurrent",
        SPREAD,
        r"recurrent, .*, but GroupNorm\(.*\) at the site 'input' takes only some",
    ),
}


@pytest.mark.parametrize("fault", CUT)
def test_linen_refuses_what_would_be_cut(fault, key):
    cell, name, axes, words = CUT[fault]
    with pytest.raises(ValueError, match=f"^RNN: partitioning spreads {words}"):
        jax.eval_shape(jl.RNN(cell, partitioning={name: axes}).init, key, jnp.ones((1, 2, 3)))


@pytest.mark.parametrize("fault", CUT)
@pytest.mark.parametrize("module", [jx.RNN, jx.RNNCell], ids=lambda module: module.__name__)
def test_nnx_refuses_what_would_be_cut(module, fault):
    cell, name, axes, words = CUT[fault]
    metadata = {f"{name}_metadata": {"out_sharding": axes}}
    with pytest.raises(ValueError, match=f"^{module.__name__}: out_sharding spreads {words}"):
        nnx.eval_shape(lambda: module(cell, 3, rngs=nnx.Rngs(0), **metadata))


@pytest.mark.parametrize(
    ("cell", "axes"),
    [(jn.GRU(4, norm=jn.GroupNorm(2, axis=-1)), ("model", None, None)), (jn.ln_gru(4), SPREAD)],
    ids=["inputs", "features"],
)
def test_names_that_cut_nothing(cell, axes, key):
    partitioning = {"recurrent": axes, "bias": (None,)}
    variables = jax.eval_shape(jl.RNN(cell, partitioning=partitioning).init, key, jnp.ones((1, 2, 3)))
    assert variables["params"]["recurrent"].names == axes
    assert variables["params"]["bias"].names == (None,)
    metadata = {f"{name}_metadata": {"out_sharding": named} for name, named in partitioning.items()}
    with nnx.use_eager_sharding(False):  # no mesh here to place the weights on
        rnn = nnx.eval_shape(lambda: jx.RNN(cell, 3, rngs=nnx.Rngs(0), **metadata))
    assert rnn.recurrent.get_metadata("out_sharding") == axes


def test_gains_of_a_normalizer_alone_may_be_spread(key):
    variables = jax.eval_shape(jl.Norm(jn.LayerNorm(), partitioning={"scale": ("model",)}).init, key, jnp.ones((2, 4)))
    assert variables["params"]["scale"].names == ("model",)
