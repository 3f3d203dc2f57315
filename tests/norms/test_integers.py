"""Integers and booleans count as floating-point numbers, with the dtypes of ``jnp.mean``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.flax.flax_tools import close
from tests.tools.annotations import no_annotation_checks

KINDS = (jnp.int32, jnp.uint8, bool)


@pytest.mark.parametrize("case", cases.NORMS, ids=str)
def test_every_normalizer_takes_them(case):
    shape = case.spec.param_shape(case.shape)
    params, running = case.spec.init(shape), cases.running_of(case)

    def both(x):
        return case.spec.train(params, x, running), case.spec(params, x, running)

    want = jax.eval_shape(both, jax.ShapeDtypeStruct(case.shape, jnp.float32))
    for kind in KINDS:
        assert jax.eval_shape(both, jax.ShapeDtypeStruct(case.shape, kind)) == want


FUNCTIONS = {
    "layer_norm": jn.layer_norm,
    "rms_norm": jn.rms_norm,
    "batch_norm": jn.batch_norm,
    "group_norm": lambda x: jn.group_norm(x, num_groups=2),
    "instance_norm": jn.instance_norm,
    "moments": jn.moments,
    "normalize": lambda x: jn.normalize(x, jn.Moments(jnp.ones(4), jnp.ones(4), jnp.ones(()))),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_are_those_of_the_numbers(name, rng):
    numbers = rng.integers(0, 2, (3, 5, 4))
    want = FUNCTIONS[name](jnp.asarray(numbers, jnp.float32))
    for kind in KINDS:
        close(FUNCTIONS[name](jnp.asarray(numbers, kind)), want)


def test_double_precision(x64):
    """The dtypes of ``jnp.mean``."""
    numbers = np.asarray([1.0, 2.0, 4.0])
    want = (numbers - numbers.mean()) / np.sqrt(numbers.var() + 1e-5)
    for kind, digits in ((jnp.int32, 1e-6), (bool, 1e-6), (jnp.int64, 1e-12), (jnp.uint64, 1e-12)):
        x = jnp.asarray([[1, 2, 4]]).astype(kind)
        y = jn.layer_norm(x)
        assert y.dtype == jnp.mean(x).dtype
        if kind is not bool:
            np.testing.assert_allclose(y[0], want, rtol=digits)


def test_scale_and_complex_data_are_refused():
    x = jnp.ones((2, 4))
    with (
        no_annotation_checks(),
        pytest.raises(TypeError, match="layer_norm: scale must have a real floating"),
    ):
        jn.layer_norm(x, jnp.ones(4, jnp.int32))
    with no_annotation_checks(), pytest.raises(TypeError, match="layer_norm: x must be real, got complex64"):
        jn.layer_norm(x.astype(jnp.complex64))
