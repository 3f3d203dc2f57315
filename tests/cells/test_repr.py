"""A cell prints as the line that makes it."""

import jax
import jax.numpy as jnp
import pytest

import jaxnorm as jn

LINES = {
    "LSTM(8)": jn.LSTM(8),
    "LSTM(8, norm=LayerNorm(), forget_bias=None)": jn.ln_lstm(8),
    "LSTM(8, norm=CellNorms(recurrent=RMSNorm(epsilon=0.5)))": jn.LSTM(
        8, norm=jn.CellNorms(recurrent=jn.RMSNorm(epsilon=0.5))
    ),
    "GRU(2, norm=CellNorms(input=LayerNorm(), recurrent=RMSNorm()))": jn.GRU(
        2, norm=jn.CellNorms(input=jn.LayerNorm(), recurrent=jn.RMSNorm())
    ),
    "Zoneout(Elman(3), rate=0.25)": jn.Zoneout(jn.Elman(3), rate=0.25),
    "LSTM(3, dtype='bfloat16', gate_fn=hard_sigmoid)": jn.LSTM(3, dtype=jnp.bfloat16, gate_fn=jax.nn.hard_sigmoid),
    "LSTM(3, kernel_init=(eye, Joint(orthogonal), eye, eye))": jn.LSTM(
        3,
        kernel_init=(
            jn.initializers.eye,
            jn.initializers.Joint(jn.initializers.orthogonal),
            jn.initializers.eye,
            jn.initializers.eye,
        ),
    ),
    "RGLRU(4, blocks=2)": jn.zoo.RGLRU(4, blocks=2),
}


@pytest.mark.parametrize("line", LINES)
def test_a_cell_prints_as_the_line_that_makes_it(line):
    cell = LINES[line]
    assert repr(cell) == line
    names = {**vars(jn), **vars(jn.zoo), **vars(jn.initializers), "hard_sigmoid": jax.nn.hard_sigmoid}
    assert eval(line, names) == cell


def test_a_value_that_differs_is_shown_even_if_it_has_no_equality():
    spec = jn.LayerNorm(scale_init=jax.nn.initializers.constant(2.0))
    assert repr(spec).startswith("LayerNorm(scale_init=")
