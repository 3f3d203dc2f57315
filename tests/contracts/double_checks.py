"""What double precision means, one plain function a promise; call under x64 and strict promotion of dtypes.

Everything that was given in float64 comes out in float64 and has its digits: outputs, what is measured, running
statistics, inference. Running statistics keep their own dtype, whatever that of the data.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxnorm as jn
from tests import cases
from tests.cases import NormCase
from tests.contracts.norm_checks import numpy_tree
from tests.norms import fold_oracles, oracles

TOLERANCE = 1e-12


def assert_double(got: Any, want: Any, tolerance: float = TOLERANCE) -> None:
    """Equal trees of float64, up to its rounding."""
    got, want = jax.tree.leaves(got), jax.tree.leaves(want)
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == jnp.float64, a.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def dtypes(tree: Any) -> set[Any]:
    """The dtypes of a tree."""
    return {leaf.dtype for leaf in jax.tree.leaves(tree)}


def same_rule_exactly(spec: Any) -> Any | None:
    """The spec that averages exactly (momentum None), if it can."""
    try:
        return dataclasses.replace(spec, momentum=None)
    except (TypeError, ValueError):
        return None


def check_norm(case: NormCase, rng: np.random.Generator) -> None:
    """Training, several folds, and inference, each against NumPy or against its own derivative."""
    params = cases.random_norm_params(case, rng, jnp.float64)
    shape = case.spec.param_shape(case.shape)
    for spec in filter(None, (case.spec, same_rule_exactly(case.spec))):
        running = spec.initial_stats(shape, jnp.float64)
        if not isinstance(running, jn.zoo.WhiteningStats):  # random numbers are no covariance
            running = cases.random_stats(running, rng)
        assert dtypes(running) == {jnp.dtype(jnp.float64)}
        train, update_running = jax.jit(spec.train), jax.jit(spec.update_running)
        for _ in range(3):
            x = jnp.asarray(rng.standard_normal(case.shape) * 1.5 + 0.5)
            y, measured = train(params, x, running)
            assert_double(y, oracles.of_spec(spec, numpy_tree(params), np.asarray(x), None, numpy_tree(running)))
            assert dtypes(measured) == {jnp.dtype(jnp.float64)}
            *want, _ = oracles.measured(spec, np.asarray(x), None, numpy_tree(running))
            assert_double(tuple(measured)[:-1], tuple(want))
            want = fold_oracles.folded(spec, numpy_tree(running), numpy_tree(measured))
            running = update_running(running, measured)
            assert_double(running, want)
        check_digits(lambda running, x, spec=spec: spec(params, x, running)[0], running, x)
        single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), running)
        assert dtypes(spec.initial_stats(shape)) == {jnp.dtype(jnp.float32)}
        y, measured = train(params, x, single)
        assert dtypes(y) == {jnp.dtype(jnp.float64)}
        assert dtypes(update_running(single, measured)) == {jnp.dtype(jnp.float32)}
        assert dtypes(spec(params, x, single)[0]) == {jnp.dtype(jnp.float64)}


def check_digits(function: Any, *at: Any) -> None:
    """A step too small for float32 changes the outputs by what the derivative says: nothing on the way is narrower."""
    rng = np.random.default_rng(0)
    step = 1e-9
    along = jax.tree.map(lambda leaf: rng.uniform(0.5, 1.5) * leaf, at)
    weights = rng.standard_normal(jax.eval_shape(function, *at).shape)

    @jax.jit
    def run(at: Any, along: Any) -> tuple[Any, Any, Any]:
        outputs = [function(*jax.tree.map(lambda a, v, s=s: a + s * v, at, along)) for s in (step, -step)]
        gradient = jax.grad(lambda at: jnp.sum(weights * function(*at)))(at)
        pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(along), strict=True)
        return *outputs, sum(jnp.vdot(g, v) for g, v in pairs)

    ahead, behind, want = run(at, along)
    assert ahead.dtype == jnp.float64
    np.testing.assert_allclose(np.sum(weights * (ahead - behind)) / (2 * step), want, rtol=1e-4, atol=1e-4)


def check_cell(cell: Any, sites: Any, rng: np.random.Generator) -> None:
    """The running statistics of a cell in float64: as many steps as it has rows, several folds, and inference."""
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    assert dtypes(cell.initial_stats()) == {jnp.dtype(jnp.float32)}
    assert dtypes(cases.with_fields(cell, param_dtype=jnp.float64).initial_stats()) == {jnp.dtype(jnp.float64)}
    assert dtypes(cases.with_fields(cell, param_dtype=jnp.bfloat16).initial_stats()) == {jnp.dtype(jnp.float32)}
    running = cases.random_stats(cell.initial_stats(jnp.float64), rng)
    assert dtypes(running) == {jnp.dtype(jnp.float64)}
    unroll = jax.jit(lambda *args, **options: jn.unroll(cell, *args, **options))
    for _ in range(2):
        xs = jnp.asarray(rng.standard_normal((cell.max_steps, 5, cases.IN_FEATURES)))
        out = unroll(params, xs)
        assert dtypes((out.outputs, out.moments)) == {jnp.dtype(jnp.float64)}
        moved = cell.update_running(running, out.moments)
        for spec, old, new, got in zip(sites, running, out.moments, moved, strict=True):
            if got != ():
                rule = spec.momentum, spec.ddof, spec.debias
                assert_double(got, fold_oracles.moments(numpy_tree(old), numpy_tree(new), *rule))
        running = moved
    check_digits(lambda running, xs: unroll(params, xs, stats=running).outputs, running, xs)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), running)
    assert dtypes(cell.update_running(single, out.moments)) == {jnp.dtype(jnp.float32)}
    assert dtypes(unroll(params, xs, stats=single).outputs) == {jnp.dtype(jnp.float64)}
