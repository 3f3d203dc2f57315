"""Weights from and to jax.experimental.rnn, against its reference implementation (the fast one needs a GPU)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn

import jaxnorm as jn
from jaxnorm import convert
from tests.convert import tools
from tests.convert.tools import BATCH, FEATURES, HIDDEN, STEPS
from tests.tools.peers import lenient

pytestmark = pytest.mark.long


@pytest.mark.parametrize(("layers", "both"), [(1, False), (1, True), (3, False), (2, True)])
def test_there_and_back(rng, layers, both):
    sizes = {"input_size": FEATURES, "hidden_size": HIDDEN, "num_layers": layers, "bidirectional": both}
    weights = rng.standard_normal(rnn.get_num_params_in_lstm(**sizes)).astype(np.float32)
    xs = np.moveaxis(tools.random_inputs(rng), 0, 1)
    zeros = jnp.zeros((layers * (1 + both), BATCH, HIDDEN))
    found = convert.cudnn.load(weights, **sizes)

    def theirs(weights):
        with lenient():
            parts = rnn.unpack_lstm_weights(jnp.asarray(weights), **sizes)
            lengths = jnp.full(BATCH, STEPS, jnp.int32)
            return rnn.lstm_ref(
                xs, zeros, zeros, *parts, lengths, sizes["input_size"], HIDDEN, layers, 0.0, both
            )[0]  # fmt: skip

    expected = theirs(weights)
    tools.agree(convert.run(found.spec, found.params, jnp.asarray(xs), time_axis=1).outputs, expected)
    exported = convert.cudnn.export(found.spec, found.params)
    tools.agree(theirs(exported), expected)
    tools.same(convert.cudnn.load(exported, **sizes).params, found.params)


def test_what_does_not_fit_is_refused(key):
    with pytest.raises(
        ValueError, match=r"weights must have shape .* = \(200,\), got \(7,\). Are the four sizes right"
    ):
        convert.cudnn.load(np.ones(7, np.float32), input_size=3, hidden_size=5)
    with pytest.raises(ValueError, match="num_layers must be a positive integer"):
        convert.cudnn.load(np.ones(7, np.float32), input_size=3, hidden_size=5, num_layers=0)
    for spec in (jn.gru(2), (jn.lstm(2), jn.lstm(3))):
        params = jax.tree.map(lambda cell: cell.init(key, 2), spec, is_leaf=lambda leaf: type(leaf) is not tuple)
        with pytest.raises(ValueError, match="plain LSTMs of one size"):
            convert.cudnn.export(spec, params)
    with pytest.raises(ValueError, match=r"norm=CellNorms.* cannot be represented"):
        convert.cudnn.export(jn.ln_lstm(2), jn.ln_lstm(2).init(key, 2))
