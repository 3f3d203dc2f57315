"""Summaries of cells: counted from shapes and traced programs."""

import math

import jax
import jax.numpy as jnp
import pytest

import jaxnorm as jn


@pytest.mark.parametrize(("gates", "cell"), [(4, jn.LSTM(5)), (4, jn.ln_lstm(5)), (1, jn.elman(5))])
def test_weights_are_counted(gates, cell):
    found = jn.summary(cell, 3)
    params = cell.init(jax.random.key(0), 3)
    assert found.total == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert ("kernel", params.kernel.shape) in [(entry.name, entry.shape) for entry in found.params]
    assert math.prod(params.kernel.shape) == 3 * gates * 5


@pytest.mark.parametrize(("cell", "carries"), [(jn.LSTM(5), 2), (jn.ln_gru(5), 1)])
def test_the_backward_pass_finds_inputs_and_carries(cell, carries):
    assert jn.summary(cell, 3).kept_bytes == 4 * (3 + carries * 5)


def test_products_and_reductions_are_those_of_a_step():
    assert jn.summary(jn.lstm(4), 3).work == (1, 0, 0)
    assert jn.summary(jn.zoo.mgu(4), 3).work.products == 2
    assert jn.summary(jn.rms_lstm(4), 3).work == (1, 1, 2)


def test_running_statistics_and_masks_are_known():
    found = jn.summary(jn.Zoneout(jn.bn_lstm(2, max_steps=7), rate=0.5), 3)
    assert {entry.shape[0] for entry in found.stats} == {7}
    assert [entry.name for entry in found.carry] == ["c", "h"]
    assert "running statistics" in str(found)


def test_text_and_html_say_the_same():
    found = jn.summary(jn.LSTM(4, gate_fn=jax.nn.hard_sigmoid), 3)
    text, table = str(found), found._repr_html_()
    assert text.splitlines()[0] == "LSTM(4, gate_fn=hard_sigmoid)"
    for entry in found.params:
        assert entry.name in text
        assert f">{entry.name}<" in table
    assert f">{found.total}<" in table
    assert table.count("<table>") == 2
    assert "<tr><th" in table


def test_html_is_escaped():
    cell = jn.FunctionCell(lambda params, carry, x: (carry, carry), jnp.zeros(3), params_init=lambda key, size: {})
    assert "<lambda>" not in jn.summary(cell, 3)._repr_html_()


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="summary: in_features"):
        jn.summary(jn.LSTM(4), 0)
    start = {"params_init": lambda key, size: {}, "feature_axes": 3}
    images = jn.FunctionCell(lambda params, carry, x: (carry, x), jnp.zeros((2, 2, 3)), **start)
    with pytest.raises(ValueError, match="3 feature axes"):
        jn.summary(images, 3)
