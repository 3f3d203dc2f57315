"""What every weight normalizer promises, one plain function a promise, over a row of ``tests/cases.py``.

``test_weight.py`` runs them over the whole table, and proves that they fail when a fault is planted.
"""

import dataclasses
import functools
import pickle
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

import jaxnorm as jn
from tests import cases
from tests.cases import WeightCase
from tests.contracts.norm_checks import TOLERANCE, assert_close, check_value, numpy_tree
from tests.weight_norms import oracles

INVARIANCES = ("kernel_scale", "unit_scale", "unit_shift")


def unit_shape(case: WeightCase) -> tuple[int, ...]:
    """A shape with one number for each output unit, which broadcasts against the kernel."""
    inputs = oracles.input_axes(case.spec.axis, len(case.shape))
    return tuple(1 if a in inputs else size for a, size in enumerate(case.shape))


def check_values_in_every_dtype(case: WeightCase, rng: np.random.Generator) -> None:
    """The paper's equation; the kernel comes out in the dtype that it has, whatever that of scale and state."""
    params, state = cases.random_weights(case, rng)

    @jax.jit
    def run(params: Any, state: Any) -> list[Any]:
        return [case.spec(params._replace(kernel=params.kernel.astype(dtype)), state) for dtype in TOLERANCE]

    for (dtype, tolerance), kernel in zip(TOLERANCE.items(), run(params, state), strict=True):
        assert kernel.dtype == dtype
        assert kernel.shape == case.shape
        given = params._replace(kernel=params.kernel.astype(dtype))
        assert_close(kernel, oracles.of_spec(case.spec, numpy_tree(given), state), tolerance)


def check_eager_execution(case: WeightCase, rng: np.random.Generator) -> None:
    """The equation again, operation by operation."""
    params, state = cases.random_weights(case, rng)
    assert_close(case.spec(params, state), oracles.of_spec(case.spec, numpy_tree(params), state))


def check_vmap_equals_loop(case: WeightCase, rng: np.random.Generator) -> None:
    """Several kernels at once, as in an ensemble or in a stack of layers, each with its own scale and state."""
    both = [cases.random_weights(case, rng) for _ in range(2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *both)

    @jax.jit
    @jax.vmap
    def run(params: Any, state: Any) -> Any:
        state = case.spec.advance(params, state)
        return case.spec(params, state), state

    kernels, states = run(*stacked)
    for i, (params, state) in enumerate(both):
        advanced = jax.tree.map(lambda leaf, i=i: leaf[i], states)
        assert_close(advanced, case.spec.advance(params, state), 1e-5)
        assert_close(kernels[i], oracles.of_spec(case.spec, numpy_tree(params), advanced))


def check_degenerate_kernels(case: WeightCase, rng: np.random.Generator) -> None:
    """Zero kernels, a unit without weights, equal weights: finite values and gradients, and zero units stay zero."""
    params, state = cases.random_weights(case, rng)
    silent = np.broadcast_to(np.arange(np.prod(unit_shape(case))).reshape(unit_shape(case)) == 0, case.shape)
    kernels = [np.zeros(case.shape), np.where(silent, 0.0, params.kernel), np.full(case.shape, 0.1)]
    weights = rng.standard_normal(case.shape).astype(np.float32)

    def loss(kernel: Any, scale: Any) -> Any:
        given = jn.KernelParams(kernel, scale)
        made = case.spec(given, case.spec.advance(given, state))
        return jnp.sum(jnp.sin(made + 0.3) * weights), made

    gradients = jax.jit(jax.vmap(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), in_axes=(0, None)))
    results = gradients(jnp.asarray(np.stack(kernels), jnp.float32), params.scale)
    chex.assert_tree_all_finite(results)
    (_, made), (kernel_gradient, _) = results
    assert not np.asarray(made[0]).any()
    assert not np.asarray(made[1])[silent].any()
    if "unit_shift" in case.invariant_to:
        assert not np.asarray(made[2]).any(), "weights that are all equal have no deviation at all"
    if "kernel_scale" in case.invariant_to:
        assert not np.asarray(kernel_gradient[0]).any()
    if "unit_scale" in case.invariant_to:
        assert not np.asarray(kernel_gradient[1])[silent].any()


def check_range(case: WeightCase, rng: np.random.Generator) -> None:
    """Where the scale of a kernel does not matter, neither do weights near the ends of float32."""
    params, state = cases.random_weights(case, rng)
    want = case.spec(params, state)
    for factor in (1e30, 1e-30) if "kernel_scale" in case.invariant_to else ():
        got = case.spec(params._replace(kernel=params.kernel * factor), state)
        assert_close(got, want, 1e-5)


def check_derivatives(case: WeightCase, rng: np.random.Generator) -> None:
    """Forward and reverse derivatives against central differences, in float64 (call with x64 enabled)."""
    params, state = cases.random_weights(case, rng, jnp.float64)
    at = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    along = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), at)
    step = 1e-5

    @jax.jit
    def run(at: Any, along: Any) -> Any:
        def f(at: Any) -> Any:
            return case.spec(at, state)

        ahead, behind = (f(jax.tree.map(lambda a, v, s=s: a + s * v, at, along)) for s in (step, -step))
        forward = jax.jvp(f, (at,), (along,))[1]
        cotangent = jnp.cos(forward)
        (reverse,) = jax.vjp(f, at)[1](cotangent)
        # The second derivative, by differences of the first.
        gradient = jax.grad(lambda at: jnp.sum(jnp.sin(f(at))))
        twice = jax.jvp(gradient, (at,), (along,))[1]
        after, before = (gradient(jax.tree.map(lambda a, v, s=s: a + s * v, at, along)) for s in (step, -step))
        second = jax.tree.map(lambda a, b: (a - b) / (2 * step), after, before)
        return (ahead - behind) / (2 * step), forward, cotangent, reverse, twice, second

    differences, forward, cotangent, reverse, twice, second = run(at, along)
    assert forward.dtype == jnp.float64
    assert_close(forward, differences, 1e-7)
    assert_close(twice, second, 1e-6)
    right = sum(float(np.vdot(p, q)) for p, q in zip(*map(jax.tree.leaves, (reverse, along)), strict=True))
    assert_close(np.vdot(cotangent, forward), right, 1e-9)


def check_invariances(case: WeightCase, rng: np.random.Generator) -> None:
    """Invariant to exactly what the table says, and the gradient has no part along what does not matter."""
    params, state = cases.random_weights(case, rng)
    kernel, per_unit = np.asarray(params.kernel, np.float64), unit_shape(case)
    changed = {
        "": kernel,
        "kernel_scale": kernel * 3.0,
        "unit_scale": kernel * rng.uniform(2.0, 4.0, per_unit),
        "unit_shift": kernel + rng.uniform(1.0, 3.0, per_unit),
    }
    assert set(changed) == {"", *INVARIANCES}
    stacked = jnp.asarray(np.stack(list(changed.values())), jnp.float32)

    @jax.jit
    @jax.vmap
    def run(kernel: Any) -> Any:
        made, pull_back = jax.vjp(lambda kernel: case.spec(params._replace(kernel=kernel), state), kernel)
        return made, pull_back(jnp.cos(made))[0]

    made, gradients = (np.asarray(leaf, np.float64) for leaf in run(stacked))
    difference = {name: np.abs(w - made[0]).max() for name, w in zip(changed, made, strict=True)}
    holds = {name for name in INVARIANCES if difference[name] < 1e-5}
    assert holds == set(case.invariant_to), difference
    units = tuple(a for a, size in enumerate(per_unit) if size == 1)
    gradient = gradients[0]
    along = {
        "kernel_scale": (gradient * kernel).sum(),
        "unit_scale": np.abs((gradient * kernel).sum(axis=units)).max(),
        "unit_shift": np.abs(gradient.sum(axis=units)).max(),
    }
    assert all(abs(along[name]) < 1e-5 for name in case.invariant_to), along


def check_fresh_weights(case: WeightCase, rng: np.random.Generator) -> None:
    """``init`` keeps the kernel as the trained weights, in its dtype, and makes it again where the table says so."""
    for dtype, tolerance in ((jnp.float32, 1e-6), (jnp.bfloat16, 1e-2)):
        kernel = jnp.asarray(rng.standard_normal(case.shape), dtype)
        params, state = case.spec.init(kernel, jax.random.key(0))
        assert isinstance(params, jn.KernelParams)
        np.testing.assert_array_equal(np.asarray(params.kernel, np.float32), np.asarray(kernel, np.float32))
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state))
        same = np.allclose(*(np.asarray(w, np.float64) for w in (case.spec(params, state), kernel)), atol=tolerance)
        assert same == case.keeps_kernel
        advanced = case.spec.advance(params, state)
        chex.assert_trees_all_equal_dtypes(advanced, state)


def check_spec_is_a_value(case: WeightCase) -> None:
    """A spec hashes, compares, pickles and prints like the value it is, and fits the protocol of its kind only."""
    assert isinstance(case.spec, jn.WeightNormalizer)
    assert not isinstance(case.spec, jn.Normalizer)
    check_value(case.spec, [other.spec for other in cases.WEIGHTS])


def check_equal_specs_trace_once(case: WeightCase, rng: np.random.Generator) -> None:
    """As a static argument of jit, a second spec that is equal uses the trace of the first, another one does not."""
    weights = cases.random_weights(case, rng)
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def apply(spec: Any, params: Any, state: Any) -> Any:
        traces.append(spec)
        return spec(params, state)

    inputs = oracles.input_axes(case.spec.axis, len(case.shape))
    other = dataclasses.replace(case.spec, axis=tuple(a - len(case.shape) for a in inputs))
    for spec in (case.spec, pickle.loads(pickle.dumps(case.spec)), other):
        jax.eval_shape(lambda *args, spec=spec: apply(spec, *args), *weights)
    assert len(traces) == len({case.spec, other})
