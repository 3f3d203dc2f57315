"""Derivatives written by hand against those of JAX, and centered kernels against plain ones, in float64."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import sigmoid

import jaxnorm as jn
from jaxnorm.cells.gates import gru_derivative, lstm_derivative
from tests import cases
from tests.tools.derivatives import agree
from tests.tools.marks import mostly_heavy

SCALE = np.array([[0.0, 1.0, 0.3, 2.0]] * 3)
FORMULAS = {
    "cell_state": (lstm_derivative.cell_state, 4, lambda i, f, g, c: sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)),
    "output": (lstm_derivative.output, 2, lambda o, c: sigmoid(o) * jnp.tanh(c)),
    "new_state": (
        gru_derivative.new_state,
        5,
        lambda r, z, n_x, n_h, h: (1 - sigmoid(z)) * jnp.tanh(n_x + sigmoid(r) * n_h) + sigmoid(z) * h,
    ),
    "cell_state, scaled": (
        lambda *args: lstm_derivative.cell_state(*args, jnp.asarray(SCALE)),
        4,
        lambda i, f, g, c: sigmoid(f) * c + SCALE * (sigmoid(i) * jnp.tanh(g)),
    ),
    "new_state, scaled": (
        lambda *args: gru_derivative.new_state(*args, jnp.asarray(SCALE)),
        5,
        lambda r, z, n_x, n_h, h: (1 - sigmoid(z)) * SCALE * jnp.tanh(n_x + sigmoid(r) * n_h) + sigmoid(z) * h,
    ),
    "mixed_state, scaled": (
        lambda *args: gru_derivative.mixed_state(*args, jnp.asarray(SCALE)),
        3,
        lambda z, n, h: (1 - sigmoid(z)) * SCALE * jnp.tanh(n) + sigmoid(z) * h,
    ),
    "mixed_state": (
        gru_derivative.mixed_state,
        3,
        lambda z, n, h: (1 - sigmoid(z)) * jnp.tanh(n) + sigmoid(z) * h,
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_derivatives_of_a_step(name, rng, x64):
    ours, count, reference = FORMULAS[name]
    agree(ours, reference, [jnp.asarray(rng.standard_normal((3, 4))) for _ in range(count)], rng)


CELLS = {
    "lstm": jn.ln_lstm(3),
    "lstm, gates apart": jn.ln_lstm(3, gate_groups=(1, 1, 1, 1)),
    "gru": jn.ln_gru(3),
    "elman": jn.Elman(3, norm=jn.LayerNorm()),
}


class AsWritten(jn.LayerNorm):
    """Layer normalization that subtracts its mean itself: no kernel is centered for it."""

    subtracts_feature_mean = False


def as_written(cell):
    norms = cell.sites._asdict().items()
    return dataclasses.replace(
        cell, norm=jn.CellNorms(**{site: AsWritten(**vars(norm)) for site, norm in norms if norm != jn.Identity()})
    )


@pytest.mark.parametrize("name", mostly_heavy(CELLS, kept=2))
def test_centered_kernels_change_nothing(name, rng, x64):
    """Kernels far from centered: the outputs and all gradients are those of layer normalization as it is written."""
    cell, plain = CELLS[name], as_written(CELLS[name])
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    params = params._replace(kernel=params.kernel + 3.0, recurrent=params.recurrent - 2.0)
    xs = cases.random_inputs(rng, 4, (2,), jnp.float64)

    def results(cell):
        def loss(params, xs):
            out = jn.unroll(cell, params, xs)
            return jnp.sum(jnp.sin(out.outputs)), out.outputs

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, xs)

    means = [np.abs(each.prepare(params).recurrent.matrix.mean(axis=-1)) for each in (cell, plain)]
    assert means[0].max() < 1e-12, "not centered at all"
    assert means[1].min() > 0.5, "centered both times"
    chex.assert_trees_all_close(results(cell), results(plain), rtol=1e-9, atol=1e-11)
