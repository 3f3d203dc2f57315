"""Arrays of NumPy, which are in double precision by default: taken as JAX takes them, without a warning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import zoo
from tests.tools.annotations import no_annotation_checks

RUNNING = jn.Moments(np.full(6, 0.5), np.full(6, 2.0), np.float64(3.0))
CALLS = {
    "layer_norm": lambda x, s, b: jn.layer_norm(x, s, b),
    "rms_norm": lambda x, s, b: jn.rms_norm(x, s, b),
    "group_norm": lambda x, s, b: jn.group_norm(x, s, b, num_groups=2),
    "instance_norm": lambda x, s, b: jn.instance_norm(x, s, b),
    "batch_norm": lambda x, s, b: jn.batch_norm(x, s, b),
    "batch_norm, running": lambda x, s, b: jn.batch_norm(x, s, b, moments=RUNNING)[0],
    "batch_renorm": lambda x, s, b: zoo.batch_renorm(x, s, b, running=RUNNING),
    "normalize": lambda x, s, b: jn.normalize(x, RUNNING, s, b),
    "moments": lambda x, s, b: jn.moments(x, axis=(0, 1)),
    "BatchNorm": lambda x, s, b: jn.BatchNorm()(jn.Affine(s, b), x),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", [np.float64, np.int64], ids=str)
def test_double_precision_of_numpy_is_taken_as_jax_takes_it(name, kind, rng):
    x = (10 * rng.standard_normal((2, 3, 6))).astype(kind)
    weights = rng.standard_normal((2, 6))
    with no_annotation_checks():  # the suite turns warnings into errors
        got = CALLS[name](x, *weights)
        expected = CALLS[name](jnp.asarray(x), *weights)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


@pytest.mark.parametrize("size", [5, 7])
@pytest.mark.parametrize("field", ["mean", "var"])
def test_statistics_of_another_size_are_named(field, size):
    moments = jn.Moments(jnp.zeros(6), jnp.ones(6), jnp.asarray(3.0))._replace(**{field: jnp.ones(size)})
    for call in (jn.normalize, lambda x, moments: jn.batch_norm(x, moments=moments)):
        with pytest.raises(ValueError, match=rf"normalize: moments.{field} .*{size}"):
            call(jnp.ones((4, 6)), moments)
