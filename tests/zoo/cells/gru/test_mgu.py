"""What is peculiar to the MGU: one gate that resets and renews, the paper's form and Flax's."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases, oracles

HIDDEN = 4


def oracle(cell, p, xs, h, norms):
    """The equations with a loop over steps; ``norms`` are functions (v, gate) of the sites input, recurrent, summed."""
    n_x, n_h, n_s = norms
    bias = np.zeros((2, HIDDEN)) if p.bias is None else oracles.by_gate(p.bias, 2)
    of_candidate = 0.0 if p.recurrent_bias is None else p.recurrent_bias
    (w_f, w_n), (u_f, u_n) = (np.moveaxis(kernel, 1, 0) for kernel in (p.kernel, p.recurrent))
    hs = []
    for x in xs:
        f = oracles.sigmoid(n_s(n_x(x @ w_f, 0) + n_h(h @ u_f, 0), 0) + bias[0])
        if cell.reset == "recurrent":
            candidate = n_x(x @ w_n, 1) + f * (n_h(h @ u_n, 1) + of_candidate)
        else:
            state = f * h if cell.reset == "state" else h
            candidate = n_s(n_x(x @ w_n, 1) + n_h(state @ u_n, 1), 1)
        n = np.tanh(candidate + bias[1])
        h = (1 - f) * n + f * h if cell.update_gate == "keep" else (1 - f) * h + f * n
        hs.append(h)
    return np.stack(hs)


def identity(v, gate):
    return v


def layer(affine):
    scale, bias = (oracles.by_gate(leaf, 2) for leaf in affine)
    return lambda v, gate: oracles.layer_norm(v, scale[gate], bias[gate])


def batch(affine):
    scale, bias = (oracles.by_gate(leaf, 2) for leaf in affine)
    return lambda v, g: oracles.batch_norm(v, oracles.measure(v, np.ones(len(v), bool)), scale[g], bias[g])


SUM = jn.CellNorms(summed=jn.LayerNorm())
CELLS = {
    **{
        f"{reset}, {update}": (jn.zoo.MGU(HIDDEN, reset=reset, update_gate=update), lambda p: [identity] * 3)
        for reset in ("recurrent", "state", "none")
        for update in ("keep", "renew")
    },
    "without bias": (jn.zoo.MGU(HIDDEN, use_bias=False), lambda p: [identity] * 3),
    "layer norm": (
        jn.zoo.MGU(HIDDEN, norm=jn.LayerNorm()),
        lambda p: [layer(p.norm.input), layer(p.norm.recurrent), identity],
    ),
    "the paper's with layer norm": (
        jn.zoo.mgu(HIDDEN, norm=jn.LayerNorm()),
        lambda p: [layer(p.norm.input), layer(p.norm.recurrent), identity],
    ),
    "sum, state": (jn.zoo.mgu(HIDDEN, norm=SUM), lambda p: [identity, identity, layer(p.norm.summed)]),
    "sum, none": (jn.zoo.MGU(HIDDEN, norm=SUM, reset="none"), lambda p: [identity, identity, layer(p.norm.summed)]),
    "batch norm": (
        jn.zoo.mgu(HIDDEN, norm=jn.BatchNorm()),
        lambda p: [batch(p.norm.input), batch(p.norm.recurrent), identity],
    ),
}


@pytest.mark.parametrize("name", CELLS)
def test_cell_is_the_equation_of_the_paper(name, x64, rng):
    cell, norms = CELLS[name]
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs, h = cases.random_inputs(rng, dtype=jnp.float64), rng.standard_normal((3, HIDDEN))
    got = jn.unroll(cell, params, xs, carry=jn.GRUCarry(jnp.asarray(h))).outputs
    p = oracles.to_numpy(params)
    np.testing.assert_allclose(got, oracle(cell, p, np.asarray(xs), h, norms(p)), rtol=1e-10, atol=1e-12)


def test_one_norm_over_both_gates(x64, rng):
    cell = jn.zoo.MGU(HIDDEN, norm=jn.RMSNorm(), gate_groups=(2,), reset="none")
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs, h = cases.random_inputs(rng, 1, dtype=jnp.float64), rng.standard_normal((3, HIDDEN))
    p = oracles.to_numpy(params)
    x_proj = oracles.rms_norm(np.asarray(xs[0]) @ oracles.flat(p.kernel), p.norm.input.scale)
    h_proj = oracles.rms_norm(h @ oracles.flat(p.recurrent), p.norm.recurrent.scale)
    f, n = np.split(x_proj + h_proj + p.bias, 2, axis=-1)
    f = oracles.sigmoid(f)
    got = jn.unroll(cell, params, xs, carry=jn.GRUCarry(jnp.asarray(h))).outputs[0]
    np.testing.assert_allclose(got, f * h + (1 - f) * np.tanh(n), rtol=1e-10, atol=1e-12)


def test_initial_bias_of_the_gate(key):
    start = [1.0] * HIDDEN + [0.0] * HIDDEN
    np.testing.assert_array_equal(jn.zoo.MGU(HIDDEN).init(key, 3).bias, start)
    norm = jn.zoo.MGU(HIDDEN, norm=jn.LayerNorm(), use_bias=False).init(key, 3).norm
    np.testing.assert_array_equal(norm.recurrent.bias, start)
    assert jn.zoo.MGU(HIDDEN).init(key, 3).recurrent_bias.shape == (HIDDEN,)
    assert jn.zoo.mgu(HIDDEN).init(key, 3).recurrent_bias is None


def test_masks_of_gates_where_one_product_serves_both():
    """The product of the candidate is made within the step, where it waits for the gate."""
    assert [jn.zoo.MGU(4, reset=r).supports_gate_masks for r in ("recurrent", "state", "none")] == [True, False, True]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"MGU: norm\.summed .* Pass reset='state' or reset='none'"):
        jn.zoo.MGU(4, norm=SUM)
    with pytest.raises(ValueError, match=r"MGU: gate_groups=\(2,\) joins the candidate"):
        jn.zoo.mgu(4, gate_groups=(2,))
