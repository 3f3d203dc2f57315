"""What is peculiar to the LiGRU: one gate, ReLU, and a norm that stands on the input branch only."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells import oracles

HIDDEN = 4


def oracle(p, xs, h, norm, act=lambda v: np.maximum(v, 0.0)):
    """The equations of the paper; ``norm(v, gate)`` stands on the input branch."""
    bias = np.zeros((2, h.shape[1])) if p.bias is None else oracles.by_gate(p.bias, 2)
    hs = []
    for x in xs:
        z = oracles.sigmoid(norm(x @ p.kernel[:, 0], 0) + h @ p.recurrent[:, 0] + bias[0])
        new = act(norm(x @ p.kernel[:, 1], 1) + h @ p.recurrent[:, 1] + bias[1])
        h = z * h + (1 - z) * new
        hs.append(h)
    return np.stack(hs)


def of_gate(affine, gate):
    return [oracles.by_gate(leaf, 2)[gate] for leaf in affine]


def batch_norm(p):
    """Each pre-activation over the rows of the batch."""

    def norm(v, gate):
        statistics = oracles.measure(v, np.ones(len(v), bool))
        return oracles.batch_norm(v, statistics, *of_gate(p.norm.input, gate))

    return norm


CELLS = {
    "plain": (jn.zoo.LiGRU(HIDDEN), lambda p: lambda v, gate: v),
    "preset": (jn.zoo.ligru(HIDDEN), batch_norm),
    "layer_norm": (
        jn.zoo.ligru(HIDDEN, norm=jn.LayerNorm(), use_bias=True),
        lambda p: lambda v, g: oracles.layer_norm(v, *of_gate(p.norm.input, g)),
    ),
}


@pytest.mark.parametrize("name", CELLS)
def test_cell_is_the_equation_of_the_paper(name, x64, rng):
    cell, norm = CELLS[name]
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs, h = cases.random_inputs(rng, dtype=jnp.float64), rng.standard_normal((3, HIDDEN))
    got = jn.unroll(cell, params, xs, carry=jn.zoo.LiGRUCarry(jnp.asarray(h)))
    p = oracles.to_numpy(params)
    np.testing.assert_allclose(got.outputs, oracle(p, np.asarray(xs), h, norm(p)), rtol=1e-10, atol=1e-12)


def test_another_nonlinearity(x64, rng):
    cell = jn.zoo.LiGRU(HIDDEN, activation_fn=jnp.tanh)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, dtype=jnp.float64)
    expected = oracle(oracles.to_numpy(params), np.asarray(xs), np.zeros((3, HIDDEN)), lambda v, gate: v, act=np.tanh)
    np.testing.assert_allclose(jn.unroll(cell, params, xs).outputs, expected, rtol=1e-10, atol=1e-12)


def test_norms_at_the_other_sites(x64, rng):
    """A norm of the recurrent product, and one of the sum, over both gates together."""
    cell = jn.zoo.LiGRU(HIDDEN, norm=jn.CellNorms(recurrent=jn.RMSNorm(), summed=jn.LayerNorm()), gate_groups=(2,))
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs, h = cases.random_inputs(rng, 1, dtype=jnp.float64), rng.standard_normal((3, HIDDEN))
    p = oracles.to_numpy(params)
    recurrent = oracles.rms_norm(h @ oracles.flat(p.recurrent), p.norm.recurrent.scale)
    summed = np.asarray(xs[0]) @ oracles.flat(p.kernel) + recurrent
    z, new = np.split(oracles.layer_norm(summed, *p.norm.summed) + p.bias, 2, axis=-1)
    z = oracles.sigmoid(z)
    got = jn.unroll(cell, params, xs, carry=jn.zoo.LiGRUCarry(jnp.asarray(h)))
    np.testing.assert_allclose(got.outputs[0], z * h + (1 - z) * np.maximum(new, 0.0), rtol=1e-10, atol=1e-12)


def test_shapes_and_values_of_fresh_weights(key):
    params = jn.zoo.LiGRU(HIDDEN, update_bias=2.0).init(key, 3)
    assert params.kernel.shape == (3, 2, HIDDEN)
    assert params.recurrent.shape == (HIDDEN, 2, HIDDEN)
    np.testing.assert_array_equal(params.bias, np.repeat([2.0, 0.0], HIDDEN))
    preset = jn.zoo.ligru(HIDDEN, update_bias=jn.initializers.Uniform(1.0, 2.0)).init(key, 3)
    assert preset.bias is None
    z, candidate = oracles.by_gate(preset.norm.input.bias, 2)
    assert np.all((z >= 1.0) & (z <= 2.0))
    assert len(set(z.tolist())) == HIDDEN
    np.testing.assert_array_equal(candidate, np.zeros(HIDDEN))


def test_errors():
    with pytest.raises(ValueError, match="LiGRU: there is no site 'cell', only 'input', 'recurrent', 'summed'"):
        jn.zoo.LiGRU(HIDDEN, norm=jn.CellNorms(cell=jn.LayerNorm()))
    with pytest.raises(ValueError, match="LiGRU: gate_groups must be a tuple of positive sizes that add up to 2"):
        jn.zoo.LiGRU(HIDDEN, gate_groups=(3,))
