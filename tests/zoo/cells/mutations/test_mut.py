"""MUT1, MUT2 and MUT3: their equations in NumPy, and x itself or a product of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells.oracles import by_gate, sigmoid
from tests.zoo.cells.relative_tools import BATCH, HIDDEN, bn, check_equation, features_of, ln, part

NORMS = {"plain": (None, jn.Identity()), "ln": (ln, jn.LayerNorm()), "bn": (bn, jn.BatchNorm())}
PRODUCTS = {  # the gates with an input product (x itself, and a product of it), and those with a recurrent one
    jn.zoo.MUT1: ("rz", "rzn", "rn"),
    jn.zoo.MUT2: ("zn", "rzn", "rzn"),
    jn.zoo.MUT3: ("rzn", "rzn", "rzn"),
}


def step(spec, projected, norm, p, carry, x):
    """Jozefowicz et al., with both sides of each gate normalized alone."""
    (h,) = carry
    inputs, recurrents = PRODUCTS[spec][projected], PRODUCTS[spec][2]

    def side(v, kernel, affine, gates, gate):
        k = gates.index(gate)
        product = v @ kernel[:, k]
        return product if norm is None else norm(product, part(affine, features_of(k)))

    def w(gate):
        return side(x, p.kernel, p.norm.input, inputs, gate) if gate in inputs else x

    def u(gate, state):
        return side(state, p.recurrent, p.norm.recurrent, recurrents, gate)

    b_r, b_z, b_n = by_gate(p.bias, 3)
    if spec is jn.zoo.MUT1:
        z = sigmoid(w("z") + b_z)
        r = sigmoid(w("r") + u("r", h) + b_r)
        n = np.tanh(u("n", r * h) + np.tanh(w("n")) + b_n)
    else:
        z = sigmoid(w("z") + u("z", h if spec is jn.zoo.MUT2 else np.tanh(h)) + b_z)
        r = sigmoid(w("r") + u("r", h) + b_r)
        n = np.tanh(u("n", r * h) + w("n") + b_n)
    h = n * z + h * (1 - z)
    return (h,), h


@pytest.mark.parametrize("spec", PRODUCTS)
@pytest.mark.parametrize(("norms", "projected"), [("plain", False), ("ln", False), ("bn", True)])
def test_mutation_is_its_equation(spec, norms, projected, x64, rng):
    norm, normalizer = NORMS[norms]
    options = {"raw_input": "projected"} if projected and spec is not jn.zoo.MUT3 else {}
    cell = spec(HIDDEN, norm=normalizer, **options)
    check_equation(
        cell,
        lambda p, carry, x: step(spec, projected, norm, p, carry, x),
        rng,
        features=cases.IN_FEATURES if projected else HIDDEN,
    )


@pytest.mark.parametrize("spec", PRODUCTS)
def test_shapes_of_weights_and_moments(spec, key):
    cell = spec(HIDDEN, norm=jn.BatchNorm(), max_steps=2)
    inputs, _, recurrents = PRODUCTS[spec]
    params = jax.eval_shape(lambda k: cell.init(k, HIDDEN), key)
    assert params.kernel.shape == (HIDDEN, len(inputs), HIDDEN)
    assert params.recurrent.shape == (HIDDEN, len(recurrents), HIDDEN)
    assert params.norm.input.scale.shape == (len(inputs) * HIDDEN,)
    out = jax.eval_shape(lambda p, x: jn.unroll(cell, p, x), params, jnp.zeros((5, BATCH, HIDDEN)))
    assert out.moments.input.mean.shape == (2, len(inputs) * HIDDEN)
    assert out.moments.recurrent.var.shape == (2, len(recurrents) * HIDDEN)
    assert cell.initial_stats().recurrent.mean.shape == (2, len(recurrents) * HIDDEN)
    assert jax.eval_shape(lambda k: spec(HIDDEN, use_bias=False).init(k, HIDDEN), key).bias is None


@pytest.mark.parametrize("spec", [jn.zoo.MUT1, jn.zoo.MUT2])
def test_x_itself_needs_the_size_of_h(spec, key):
    with pytest.raises(ValueError, match=rf"{spec.__name__}.init: x itself .* H = 4, got 3.*raw_input='projected'"):
        spec(HIDDEN).init(key, 3)
    assert spec(HIDDEN, raw_input="projected").init(key, 3).kernel.shape == (3, 3, HIDDEN)


def test_initializers_for_each_gate(key):
    eye = jn.initializers.eye
    params = jn.zoo.MUT1(HIDDEN, recurrent_init=(jax.nn.initializers.zeros, eye)).init(key, HIDDEN)
    np.testing.assert_array_equal(params.recurrent[:, 0], 0.0)
    np.testing.assert_array_equal(params.recurrent[:, 1], np.eye(HIDDEN))
    with pytest.raises(ValueError, match=r"MUT1.init: recurrent_init has 3 initializers"):
        jn.zoo.MUT1(HIDDEN, recurrent_init=(eye,) * 3).init(key, HIDDEN)
