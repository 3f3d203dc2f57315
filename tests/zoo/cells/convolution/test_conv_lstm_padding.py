"""The word for the padding, in the letters of JAX and of Keras."""

import jax
import numpy as np
import pytest

import jaxnorm as jn


@pytest.mark.parametrize("word", ["same", "valid"])
def test_small_letters_are_the_same_spec(word):
    small, large = (jn.zoo.ConvLSTM(2, image_shape=(5,), kernel_size=3, padding=p) for p in (word, word.upper()))
    assert small == large
    assert hash(small) == hash(large)
    assert small.state_shape == ((5,) if word == "same" else (3,))
    params, xs = small.init(jax.random.key(0), 1), jax.random.normal(jax.random.key(1), (2, 5, 1))
    np.testing.assert_array_equal(*(jn.unroll(cell, params, xs).outputs for cell in (small, large)))


def test_another_word_is_named_as_it_was_typed():
    cell = object.__new__(jn.zoo.ConvLSTM)  # around the type checker of the tests
    for name, value in {"image_shape": (5,), "kernel_size": 3, "strides": 1, "dilation": 1, "padding": "Same"}.items():
        object.__setattr__(cell, name, value)
    with pytest.raises(ValueError, match="padding must be one of 'SAME', 'VALID', 'same', 'valid'; got 'Same'"):
        cell.__post_init__()
