"""Double precision, over every row of the table that has running statistics; see ``double_checks.py``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen
import jaxnorm.nnx
from jaxnorm.cells.wrappers.base import unwrap
from jaxnorm.norms.core.rows import lay_in_order
from tests import cases
from tests.contracts import double_checks as checks
from tests.tools.marks import mostly_heavy

norms = pytest.mark.parametrize("case", [case for case in cases.NORMS if case.batch_statistics], ids=str)
cells = pytest.mark.parametrize("case", cases.rows(c for c in cases.CELLS if c.batch_statistics), ids=str)


@norms
def test_norm(case, rng, x64):
    checks.check_norm(case, rng)


@cells
@pytest.mark.parametrize("momentum", mostly_heavy([0.9, None]))
def test_cell(case, momentum, rng, x64):
    def with_momentum(site):
        is_batch_norm = isinstance(site, jn.BatchNorm)
        return checks.dataclasses.replace(site, momentum=momentum) if is_batch_norm else site

    sites = jn.CellNorms(*map(with_momentum, unwrap(case.cell).sites))
    checks.check_cell(cases.with_fields(case.cell, norm=sites), sites, rng)


def test_statistics_by_hand(rng, x64):
    """Steps in rows, the union of two sets, and the population of a data set, with all digits of float64."""
    x = rng.standard_normal((4, 6, 3)) + 5
    steps = jax.vmap(jn.moments)(jnp.asarray(x))
    rows = [x[0], x[1:].reshape(-1, 3)]
    want = jn.Moments(*(np.stack([f(row) for row in rows]) for f in (lambda r: r.mean(0), lambda r: r.var(0), len)))
    checks.assert_double(lay_in_order(steps, 2), jax.tree.map(np.float64, want))
    first, second = (jn.moments(jnp.asarray(part)) for part in (x[0], x[1]))
    both = x[:2].reshape(-1, 3)
    checks.assert_double(jn.merge(first, second), (both.mean(0), both.var(0), 12.0))
    checks.assert_double(jn.population([first, second]), (both.mean(0), x[:2].var(1, ddof=1).mean(0), 12.0))
    limit, shift = jn.zoo.renorm_limits(15_000)
    checks.assert_double((limit, shift), (1 + 2 * 10 / 35, 2.5))


def test_conditional_batch_norm_and_highway(rng, x64):
    norm = jn.zoo.ConditionalBatchNorm(2)
    x, labels = rng.standard_normal((6, 3)), np.array([0, 1, 0, 0, 1, 1])
    running = norm.initial_stats((3,), jnp.float64)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape)), norm.init((3,), jnp.float64))
    y, measured = norm(params, jnp.asarray(x), jnp.asarray(labels))
    mean, var = x.mean(0), x.var(0)
    hat = (x - mean) / np.sqrt(var + norm.norm.epsilon)
    checks.assert_double(y, hat * np.asarray(params.scale)[labels] + np.asarray(params.bias)[labels])
    momentum = norm.norm.momentum
    want = (1 - momentum) * mean, momentum + (1 - momentum) * var, 6.0
    checks.assert_double(norm.update_running(running, measured), want)
    layer = jn.zoo.Highway(norm=jn.BatchNorm(), param_dtype=jnp.float64)
    stats = layer.initial_stats(3)
    _, measured = layer(layer.init(jax.random.key(0), 3), jnp.asarray(x))
    assert checks.dtypes((stats, measured, layer.update_running(stats, measured))) == {jnp.dtype(jnp.float64)}
    for weights, data in ((jnp.float64, jnp.float32), (jnp.float32, jnp.float64), (jnp.float64, jnp.bfloat16)):
        layer = jn.zoo.Highway(norm=jn.BatchNorm(), param_dtype=weights)
        assert layer(layer.init(jax.random.key(0), 3), jnp.asarray(x, data))[0].dtype == data
    assert checks.dtypes(layer.initial_stats(3, jnp.float32)) == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_flax_modules_keep_statistics_as_wide_as_their_weights(dtype, x64):
    wide = max(jnp.dtype(dtype), jnp.dtype(jnp.float32), key=lambda d: d.itemsize)
    x = jnp.ones((5, 3), dtype)
    module = jaxnorm.linen.Norm(jn.BatchNorm(), use_running_average=False, param_dtype=dtype)
    variables = module.init(jax.random.key(0), x)
    _, after = module.apply(variables, x, mutable="batch_stats")
    assert checks.dtypes((variables["batch_stats"], after)) == {wide}
    other = jaxnorm.nnx.Norm(jn.BatchNorm(), 3, param_dtype=dtype)
    other(x)
    assert checks.dtypes(nnx.state(other, nnx.BatchStat)) == {wide}
    cell = jn.bn_lstm(2, max_steps=2, param_dtype=dtype)
    xs = jnp.ones((4, 2, 3), dtype)
    rnn = jaxnorm.linen.RNN(cell, use_running_average=False)
    variables = rnn.init(jax.random.key(0), xs)
    _, after = rnn.apply(variables, xs, mutable="batch_stats")
    assert checks.dtypes((variables["batch_stats"], after)) == {wide}


@pytest.mark.parametrize(
    ("init", "want"),
    [
        (jn.initializers.PowerLaw(0.25), 5 - 12 * (np.arange(4) / 3) ** 0.625),
        (jn.initializers.Scaled(jn.initializers.eye, 0.1), 0.1 * np.eye(4)),
    ],
)
def test_initial_values_that_are_not_drawn(init, want, key, x64):
    checks.assert_double(init(key, want.shape, jnp.float64), want)


def test_drawn_initial_values_have_all_digits(key, x64):
    kernel = jn.initializers.orthogonal(key, (6, 4), jnp.float64)
    checks.assert_double(kernel.T @ kernel, np.eye(4))
    for init in (
        jn.initializers.lecun_normal,
        jn.initializers.glorot_uniform,
        jn.initializers.standard_normal,
        jn.initializers.truncated_fan_in,
        jn.initializers.small_normal,
        jn.initializers.uniform_or_orthogonal,
        jn.initializers.Uniform(-1.0, 2.0),
        jn.initializers.Chrono(50),
    ):
        drawn = init(key, (3, 4), jnp.float64)
        assert drawn.dtype == jnp.float64
        assert not np.array_equal(drawn, drawn.astype(jnp.float32)), init
        for dtype in (jnp.float32, jnp.bfloat16):
            assert init(key, (3, 4), dtype).dtype == dtype
