"""Initializers in place of a number that is not drawn, and what is no initializer, are named."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.tools.annotations import no_annotation_checks

XS = jnp.ones((5, 2, 3))
KEY = jax.random.key(0)


def start_values():
    """Every weight normalizer with each of its fields of initial values, where the field is used."""
    for case in cases.WEIGHTS:
        for field in dataclasses.fields(case.spec):
            if field.name.endswith("_init") and isinstance(getattr(case.spec, field.name), float | None):
                used = getattr(case.spec, f"use_{field.name.removesuffix('_init')}", True)
                if used and getattr(case.spec, "learn_scale", True):
                    yield pytest.param(case, field.name, id=f"{case.name} {field.name}")


@pytest.mark.parametrize(("case", "name"), list(start_values()))
def test_an_initializer_in_place_of_a_number_is_named(case, name):
    with no_annotation_checks():
        spec = dataclasses.replace(case.spec, **{name: jax.nn.initializers.normal()})
    made = re.escape(type(spec).__name__)
    message = rf"^{made}: {name} must be a number, got the function init\. .*params\._replace\({name[:-5]}=initializer"
    with no_annotation_checks(), pytest.raises(TypeError, match=message):
        spec.init(jnp.ones(case.shape))


def test_the_line_of_the_message_draws_a_scale():
    params = jn.LayerNorm().init((3,))
    drawn = params._replace(scale=jax.nn.initializers.normal()(KEY, (3,)))
    np.testing.assert_array_equal(jn.LayerNorm()(drawn, XS)[0], jn.layer_norm(XS, drawn.scale, drawn.bias))


INITIALIZERS = {
    "not called": (
        jax.nn.initializers.orthogonal,
        r"got the function orthogonal, which makes one\. Write .*orthogonal\(\)",
    ),
    "not called, normal": (
        jax.nn.initializers.normal,
        r"got the function normal, which makes one\. Write .*normal\(\)",
    ),
    "a name": ("he_normal", r"got the string 'he_normal'\. Write jax\.nn\.initializers\.he_normal\(\)"),
    "a number": (0.1, r"got the number 0\.1\. Write jax\.nn\.initializers\."),
    "one of several": ((jn.initializers.eye,) * 3 + (None,), r"got None\. Write"),
}


@pytest.mark.parametrize("field", ["kernel_init", "recurrent_init"])
@pytest.mark.parametrize("name", INITIALIZERS)
def test_what_is_no_initializer_of_a_cell_is_named(name, field):
    value, message = INITIALIZERS[name]
    with (
        no_annotation_checks(),
        pytest.raises(TypeError, match=rf"^LSTM\.init: {field} must be an initializer.*{message}"),
    ):
        jn.LSTM(4, **{field: value}).init(KEY, 4)
    assert jn.LSTM(4, kernel_init=jax.nn.initializers.ones).init(KEY, 3).kernel.min() == 1
