"""What programs written for Flax hand to a spec or a module: their initializers, their cells, their carries."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from tests.first_hour.habits import answered

ONES = jax.nn.initializers.ones
KERNEL = jax.nn.initializers.lecun_normal()
BOXED = {
    "linen": nn.with_partitioning(KERNEL, (None, "model")),
    "linen, logical": nn.with_logical_partitioning(KERNEL, (None, "hidden")),
    "nnx": nnx.with_partitioning(KERNEL, (None, "model")),
}
PLACES = {
    "LSTM.init: kernel_init": lambda init: jn.lstm(4, kernel_init=init),
    "GRU.init: recurrent_init": lambda init: jn.gru(4, recurrent_init=(KERNEL, init, KERNEL)),
    "LSTM.init: recurrent_init": lambda init: jn.lstm(4, recurrent_init=jn.initializers.Joint(init)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", BOXED)
def test_names_of_mesh_axes_belong_to_the_module(place, kind):
    with pytest.raises(TypeError, match=f"^{place} must return an array, got .*jaxnorm.linen.RNN.cell, partitioning="):
        PLACES[place](BOXED[kind]).init(jax.random.key(0), 3)


def test_names_of_mesh_axes_of_a_scale_belong_to_the_module():
    norm = jn.LayerNorm(scale_init=nn.with_partitioning(ONES, ("model",)))
    with pytest.raises(TypeError, match=r"^LayerNorm.init: scale_init must return an array, got .*Partitioned"):
        norm.init((4,))
    with pytest.raises(TypeError, match=r"^LSTM.init: bias_init must return an array"):
        jn.lstm(4, bias_init=nn.with_partitioning(ONES, ("model",))).init(jax.random.key(0), 3)


def test_an_initializer_returns_the_shape_that_it_gets():
    with pytest.raises(ValueError, match=r"kernel_init must return an array of the shape .* \(3, 4\), got \(4, 3\)"):
        jn.lstm(4, kernel_init=lambda key, shape, dtype: KERNEL(key, shape[::-1], dtype)).init(jax.random.key(0), 3)
    with pytest.raises(TypeError, match=r"bias_init must return an array, got the number 0.5. Return jnp.asarray"):
        jn.lstm(4, bias_init=lambda key, shape, dtype: 0.5).init(jax.random.key(0), 3)


class Decay(nnx.RNNCellBase):
    """A cell of a user, with a step of its own."""

    def __init__(self, features, rngs):
        self.hidden_features = features
        self.dense = nnx.Linear(features, features, rngs=rngs)

    def __call__(self, carry, inputs):
        carry = jnp.tanh(0.5 * carry + self.dense(inputs))
        return carry, carry


def test_a_cell_of_a_user_is_no_lstm():
    own = Decay(3, nnx.Rngs(0))
    answered(
        lambda: jx.RNN(own, 3, rngs=nnx.Rngs(0)), "Write its step as a function: FunctionCell(function, carry_init)"
    )
    answered(lambda: jl.RNN(nn.MGUCell(4)), "Write zoo.MGU(4)")
    assert jn.zoo.MGU(4).out_features == 4  # the line is one that runs


CARRIES = {
    "initialize_carry of a spec": (lambda: jn.lstm(4).initialize_carry((2, 3)), r"cell.initial_carry\(batch_shape\)"),
    "carry_init of a spec": (lambda: jn.lstm(4, carry_init=ONES), "belongs to the run: see jaxnorm.unroll"),
    "carry_init, linen": (lambda: jl.RNN(jn.lstm(4), carry_init=ONES), "Pass initial_carry in the call"),
    "carry_init, nnx": (
        lambda: jx.RNN(jn.lstm(4), 3, carry_init=ONES, rngs=nnx.Rngs(0)),
        "RNNCell has carry_init, for the RNN of Flax",
    ),
}


@pytest.mark.parametrize("name", CARRIES)
def test_a_start_of_the_carry_is_answered(name):
    call, line = CARRIES[name]
    with pytest.raises(TypeError, match=line):
        call()


CONVOLUTIONS = {
    "filters": (8, "Pass hidden_features"),
    "output_channels": (8, "Pass hidden_features"),
    "kernel_shape": (3, "Pass kernel_size"),
    "dilation_rate": (2, "Pass dilation"),
    "input_shape": ((8, 8), "Pass image_shape"),
    "data_format": ("NCHW", "Channels come last"),
    "recurrent_activation": (jax.nn.hard_sigmoid, "Pass gate_fn"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_keywords_of_convolutional_lstms_are_answered(name):
    value, line = CONVOLUTIONS[name]
    answered(lambda: jn.zoo.ConvLSTM(4, image_shape=(8, 8), **{name: value}), f"there is no argument {name!r}. {line}")


def test_the_shape_of_sequences_is_no_matter_of_a_cell():
    answered(lambda: jn.lstm(4, input_shape=(5, 3)), "A cell takes its number of inputs in cell.init(key, in_features)")
