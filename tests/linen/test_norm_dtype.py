"""``dtype`` of ``Norm`` is the dtype of the result: Flax's modules are the peers, NumPy is the oracle."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from tests import cases

PAIRS = [
    (jnp.float32, jnp.bfloat16),
    (jnp.bfloat16, jnp.float32),
    (jnp.float16, jnp.bfloat16),
    (jnp.int32, jnp.float16),
]
PEERS = {
    "LayerNorm": (jn.LayerNorm(epsilon=1e-6), lambda dtype: nn.LayerNorm(dtype=dtype)),
    "RMSNorm": (jn.RMSNorm(epsilon=1e-6), lambda dtype: nn.RMSNorm(dtype=dtype)),
    "GroupNorm": (jn.GroupNorm(2, epsilon=1e-6), lambda dtype: nn.GroupNorm(2, dtype=dtype)),
    "BatchNorm": (jn.BatchNorm(epsilon=1e-5), lambda dtype: nn.BatchNorm(False, dtype=dtype)),
}


def data(rng, dtype, shape=(6, 4)):
    return jnp.asarray(rng.integers(-9, 9, shape) if dtype == jnp.int32 else rng.standard_normal(shape), dtype)


def both(spec, shape, dtype):
    """Linen's and NNX's module, called with data in training."""
    linen = jl.Norm(spec, use_running_average=False, dtype=dtype)

    def with_linen(x):
        variables = linen.init(jax.random.key(0), x)
        return linen.apply(variables, x, mutable=["batch_stats"])[0], variables

    def with_nnx(x):
        module = jx.Norm(spec, spec.param_shape(shape), dtype=dtype)
        return module(x), nnx.to_pure_dict(nnx.state(module))

    return with_linen, with_nnx


@pytest.mark.parametrize(("given", "wanted"), PAIRS, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("name", PEERS)
def test_result_dtype_is_as_in_flax(name, given, wanted, rng):
    spec, theirs = PEERS[name]
    x = data(rng, given)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected = theirs(wanted).init_with_output(jax.random.key(0), x)[0]
    wide = np.asarray(x.astype(jnp.float32), np.float64)
    axis = 0 if name == "BatchNorm" else -1
    groups = wide.reshape(6, 2, 2) if name == "GroupNorm" else wide
    mean = 0.0 if name == "RMSNorm" else groups.mean(axis, keepdims=True)
    oracle = (groups - mean) / np.sqrt(((groups - mean) ** 2).mean(axis, keepdims=True) + spec.epsilon)
    for run in both(spec, x.shape, wanted):
        y, variables = run(x)
        assert y.dtype == expected.dtype == wanted
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}
        ulp = float(jnp.finfo(wanted).eps)
        np.testing.assert_allclose(np.asarray(y, np.float64), oracle.reshape(x.shape), rtol=ulp, atol=4e-6)
        np.testing.assert_allclose(np.asarray(y, np.float64), np.asarray(expected, np.float64), rtol=2 * ulp, atol=4e-6)


@pytest.mark.long
@pytest.mark.parametrize("case", cases.NORMS, ids=str)
def test_every_normalizer_has_a_result_dtype(case):
    x = jax.ShapeDtypeStruct(case.shape, jnp.float32)
    for run in both(case.spec, case.shape, jnp.bfloat16):
        assert jax.eval_shape(lambda x, run=run: run(x)[0], x).dtype == jnp.bfloat16


def test_running_statistics_stay_wide(rng):
    """The mean of data at 1000.5 is no number of bfloat16; data in float32 are not rounded before they are measured."""
    x = jnp.asarray(1000.5 + rng.standard_normal((8, 1)), jnp.float32)
    norm = jx.Norm(jn.BatchNorm(momentum=0.0), 1, dtype=jnp.bfloat16)
    assert norm(x).dtype == jnp.bfloat16
    assert norm.mean.dtype == jnp.float32
    np.testing.assert_allclose(norm.mean[...], np.asarray(x, np.float64).mean(0), rtol=1e-6)
    assert norm(x, use_running_average=True).dtype == jnp.bfloat16


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64, bool])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match="Norm: dtype must be a real floating-point dtype such as"):
        jl.Norm(jn.LayerNorm(), dtype=dtype)
    with pytest.raises(TypeError, match="Norm: dtype must be a real floating-point dtype such as"):
        jx.Norm(jn.LayerNorm(), 3, dtype=dtype)
