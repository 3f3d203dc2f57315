"""Trees in the place of the one array of inputs: a FunctionCell takes one array, too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from tests.tools.annotations import no_annotation_checks

OWN = jn.FunctionCell(
    lambda w, h, x: (h + x @ w["kernel"], h), jnp.zeros(4), params_init=lambda key, n: {"kernel": jnp.ones((n, 4))}
)
PARAMS = {"kernel": jnp.ones((5, 4))}
XS, X, H = {"a": jnp.ones((3, 2, 5)), "b": jnp.ones((3, 2))}, {"a": jnp.ones((2, 5))}, jnp.zeros((2, 4))
KEY = jax.random.key(0)
SEQUENCES = {
    "unroll": lambda: jn.unroll(OWN, PARAMS, XS),
    "unroll, LSTM": lambda: jn.unroll(jn.lstm(4), jn.lstm(4).init(KEY, 5), tuple(XS.values())),
    "linen": lambda: jl.RNN(OWN).init(KEY, XS),
    "nnx": lambda: jx.RNN(OWN, 5, rngs=nnx.Rngs(0))(XS),
    "norm": lambda: jn.layer_norm((H, H)),
}
STEPS = {
    "step": lambda: jn.step(OWN, PARAMS, None, X),
    "linen": lambda: jl.RNNCell(OWN).init(KEY, H, X),
    "nnx": lambda: jx.RNNCell(OWN, 5, rngs=nnx.Rngs(0))(H, X),
    "linen, swapped": lambda: jl.RNNCell(jn.lstm(4)).init(KEY, X["a"], (H, H)),
    "nnx, swapped": lambda: jx.RNNCell(jn.lstm(4), 5, rngs=nnx.Rngs(0))(X["a"], (H, H)),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences(name):
    with (
        no_annotation_checks(),
        pytest.raises(TypeError, match=r"must be an array, got a (dict|tuple) .* It takes one array, no tree: put"),
    ):
        SEQUENCES[name]()


@pytest.mark.parametrize("name", STEPS)
def test_single_steps(name):
    line = r"(x|inputs) must be an array, got a (dict|tuple) .* The carry comes before the input: write .* no tree"
    with no_annotation_checks(), pytest.raises(TypeError, match=line):
        STEPS[name]()


def test_too_few_axes_of_a_single_step():
    cell = jx.RNNCell(jn.lstm(4), 5, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="RNNCell: inputs must have at least 1 axes, its features, got shape"):
        cell((jnp.zeros(4), jnp.zeros(4)), jnp.zeros(()))


def test_weights_of_a_module_need_names():
    nameless = jn.FunctionCell(lambda w, h, x: (h + x @ w, h), jnp.zeros(4), params_init=lambda k, n: jnp.ones((n, 4)))
    for call in (lambda: jx.RNN(nameless, 5, rngs=nnx.Rngs(0)), lambda: jl.RNN(nameless).init(KEY, XS["a"])):
        with pytest.raises(TypeError, match=r"need names, got a single array\. Let params_init return a dict"):
            call()


@pytest.mark.parametrize("form", [list, tuple])
def test_lists_are_taken_for_the_tuple_of_a_step_of_ones_own(form):
    """Keras has a list of states; the shape of the tree is that of the user's carry, and it comes back as it came."""
    two = jn.FunctionCell(lambda w, s, x: ((s[0] + x, (s[1][0] * 2,)), s[0]), (jnp.zeros(2), (jnp.ones(2),)))
    xs = jnp.ones((3, 2, 2))
    start = form([jnp.ones((2, 2)), form([jnp.ones((2, 2))])])
    out = jn.unroll(two, {}, xs, carry=start)
    np.testing.assert_array_equal(out.carry[0], np.full((2, 2), 4.0))
    carry, _ = jn.step(two, {}, start, xs[0])
    assert jax.tree.structure(carry) == jax.tree.structure(start)
    np.testing.assert_array_equal(jax.tree.leaves(carry)[1], np.full((2, 2), 2.0))
    with pytest.raises(TypeError, match="carry must have the structure"):
        jn.unroll(two, {}, xs, carry=[start[0]])
