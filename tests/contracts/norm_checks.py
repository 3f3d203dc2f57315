"""What every normalizer promises, one plain function a promise, over a row of ``tests/cases.py``.

The functions raise AssertionError where the promise is broken. ``test_norm.py`` runs them over the whole table,
``test_meta_norms.py`` proves that they fail when a fault is planted.
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
from tests.cases import NormCase
from tests.norms import oracles

INVARIANCES = ("scale", "shift", "example_scale", "example_shift", "feature_scale", "feature_shift")
TOLERANCE = {jnp.float32: 2e-5, jnp.bfloat16: 4e-2, jnp.float16: 6e-3}


def numpy_tree(tree: Any) -> Any:
    """The same tree with NumPy arrays in float64, for the oracles."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def assert_close(got: Any, want: Any, tolerance: float = 2e-5) -> None:
    """Equal trees up to a tolerance, relative and absolute."""
    got, want = jax.tree.leaves(got), jax.tree.leaves(want)
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=tolerance, atol=tolerance, equal_nan=False
        )


def draw(case: NormCase, rng: np.random.Generator) -> tuple[Any, np.ndarray]:
    """Random weights and float32 data."""
    return cases.random_norm_params(case, rng), rng.standard_normal(case.shape).astype(np.float32) * 1.5 + 0.5


def train(case: NormCase, params: Any, x: Any, where: Any = None, spec: Any = None) -> tuple[Any, Any]:
    """The training call of a row (or of another spec for it), with the row's running statistics at hand."""
    running = cases.running_of(case)
    if getattr(x, "dtype", None) == jnp.float64:
        running = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), running)
    return (spec or case.spec).train(params, x, running, where)


def oracle(case: NormCase, params: Any, x: Any, where: Any = None) -> np.ndarray:
    """What that call must give."""
    if case.oracle is not None:
        return case.oracle(case.spec, numpy_tree(params), np.asarray(x, np.float64), where)
    return oracles.of_spec(case.spec, numpy_tree(params), x, where, numpy_tree(cases.running_of(case)))


def assert_measured(case: NormCase, measured: Any, x: Any, where: Any = None) -> None:
    """The statistics are those that it must measure, the last of them (the count, whose axes lead) exactly."""
    *want, count = oracles.measured(case.spec, x, where, numpy_tree(cases.running_of(case)))
    assert_close(tuple(measured)[:-1], tuple(want))
    got = np.asarray(measured[-1])
    got = got.reshape(got.shape + (1,) * (count.ndim - got.ndim))
    np.testing.assert_array_equal(np.broadcast_to(got, count.shape), count)


def masks_of(case: NormCase, rng: np.random.Generator) -> tuple[jax.Array, ...]:
    """A mask of single elements, one of whole examples (with axes of size 1), and one that is False everywhere."""
    examples = np.arange(case.shape[0]).reshape(-1, *(1,) * (len(case.shape) - 1)) != 1
    masks = (rng.random(case.shape) < 0.7, examples, np.zeros((1,) * len(case.shape), bool))
    return tuple(map(jnp.asarray, masks))


def feature_axes(case: NormCase) -> tuple[int, ...]:
    """The axes along which scale and bias lie, found by asking; the last one where there are none."""
    sizes = tuple(range(11, 11 + len(case.shape)))
    return tuple(sizes.index(size) for size in case.spec.param_shape(sizes)) or (len(sizes) - 1,)


def check_values_in_every_dtype(case: NormCase, rng: np.random.Generator) -> None:
    """The paper's equation; the output has the dtype of x, whatever that of the weights."""
    params, x = draw(case, rng)

    @jax.jit
    def run(params: Any, x: jax.Array) -> list[Any]:
        return [train(case, params, x.astype(dtype)) for dtype in TOLERANCE]

    for (dtype, tolerance), (y, measured) in zip(TOLERANCE.items(), run(params, x), strict=True):
        assert y.dtype == dtype
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(measured))
        data = np.asarray(jnp.asarray(x, dtype), np.float64)
        assert_close(y, oracle(case, params, data), tolerance)
        if case.batch_statistics:
            assert_measured(case, measured, data, None)
        else:
            assert measured == ()


def check_masks(case: NormCase, rng: np.random.Generator) -> None:
    """The equation under masks; all True is no mask; returned moments give the output again."""
    params, x = draw(case, rng)
    single, examples, _ = masks_of(case, rng)
    every = jnp.ones(case.shape, bool)

    @jax.jit
    def run(params: Any, x: jax.Array) -> Any:
        several = jax.vmap(lambda mask: train(case, params, x, mask))(jnp.stack([single, every]))
        y, measured = train(case, params, x, examples)
        again = case.spec(params, x, measured, examples) if case.replays else ()
        unpacked = [jax.tree.map(lambda leaf, i=i: leaf[i], several) for i in range(2)]
        return [*unpacked, (y, measured), again]

    of_single, of_every, of_examples, again = run(params, x)
    for mask, (y, measured) in ((single, of_single), (None, of_every), (examples, of_examples)):
        assert_close(y, oracle(case, params, x, mask))
        assert mask is None or not np.asarray(y)[~np.broadcast_to(mask, y.shape)].any()
        if case.batch_statistics:
            assert_measured(case, measured, x, mask)
    if case.replays:
        assert_close(again, of_examples, 1e-6)


def check_eager_execution(case: NormCase, rng: np.random.Generator) -> None:
    """The equation, operation by operation, with NaN behind the mask.

    NaN would pass through ``x * mask``, and only here: a compiled program may select where it should multiply.
    """
    params, x = draw(case, rng)
    mask, _, _ = masks_of(case, rng)
    y, _ = train(case, params, jnp.asarray(np.where(mask, x, np.nan)), mask)
    assert_close(y, oracle(case, params, x, mask))


def check_vmap_equals_loop(case: NormCase, rng: np.random.Generator) -> None:
    """An axis added by vmap behaves like a loop over its members (in NumPy), each with its own weights and mask."""
    params, _ = draw(case, rng)
    many = jax.tree.map(lambda leaf: np.stack([leaf, -2.0 * np.asarray(leaf)]), params)
    xs = rng.standard_normal((2, *case.shape)).astype(np.float32)
    masks = rng.random(xs.shape) < 0.7
    ys, measured = jax.jit(jax.vmap(lambda p, x, mask: train(case, p, x, mask)))(many, xs, masks)
    for i in range(2):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], many)
        assert_close(ys[i], oracle(case, one, xs[i], masks[i]))
        if case.batch_statistics:
            assert_measured(case, jax.tree.map(lambda leaf, i=i: leaf[i], measured), xs[i], masks[i])


def check_named_axis_equals_batch(case: NormCase, rng: np.random.Generator) -> None:
    """Batch statistics over examples mapped by vmap(axis_name) are those of the batch, gradients and masks included."""
    params, x = draw(case, rng)
    one = dataclasses.replace(case.spec, axis_name="examples")
    if getattr(case.spec, "axis", None) is not None:
        batch_axes = oracles.reduced_axes(case.spec.axis, len(case.shape))
        assert 0 in batch_axes
        one = dataclasses.replace(one, axis=tuple(a - 1 for a in batch_axes if a))
    single, examples, _ = masks_of(case, rng)
    mask = jnp.logical_and(*jnp.broadcast_arrays(single, examples))
    weights = rng.standard_normal(case.shape).astype(np.float32)

    def whole(params: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        y, measured = train(case, params, x, mask)
        return jnp.sum(y * weights), (y, measured)

    def mapped(params: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        y, measured = jax.vmap(
            lambda x, mask: train(case, params, x, mask, one), axis_name="examples", out_axes=(0, None)
        )(x, mask)
        return jnp.sum(y * weights), (y, measured)

    def both(params: Any, x: jax.Array) -> list[Any]:
        return [jax.value_and_grad(f, argnums=(0, 1), has_aux=True)(params, x) for f in (whole, mapped)]

    want, got = jax.jit(both)(params, x)
    assert_close(got, want)


def check_gradients_of_hostile_data(case: NormCase, rng: np.random.Generator) -> None:
    """NaN and infinities outside ``where`` change nothing and get gradient zero; constant data have finite gradients.

    Masks of single elements, of examples, and False everywhere; each with four fillings.
    """
    params, x = draw(case, rng)
    weights = rng.standard_normal(case.shape).astype(np.float32)
    fillings = (0.0, np.nan, np.inf, -np.inf)
    masks = [np.broadcast_to(mask, case.shape) for mask in masks_of(case, rng)]
    data = [np.where(mask, x, value) for mask in masks for value in fillings]
    full = np.ones(case.shape, bool)
    data += [np.full(case.shape, 3.0), np.zeros(case.shape), np.broadcast_to(x[:1], case.shape)]
    stacked_masks = np.stack([mask for mask in masks for _ in fillings] + [full] * 3)

    def loss(params: Any, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, Any]:
        y, measured = train(case, params, x, mask)
        # Masked outputs are zero, so a loss that reads them all is safe.
        return jnp.sum(jnp.sin(y) * weights), (y, measured)

    gradients = jax.jit(jax.vmap(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), in_axes=(None, 0, 0)))
    results = gradients(params, np.stack(data).astype(np.float32), stacked_masks)
    chex.assert_tree_all_finite(results)
    for i, mask in enumerate(masks):
        several = jax.tree.map(lambda leaf, i=i: np.asarray(leaf[4 * i : 4 * i + 4]), results)
        for leaf in jax.tree.leaves(several):
            np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
        (_, (y, _)), (_, x_gradient) = several
        assert not y[:, ~mask].any()
        assert not x_gradient[:, ~mask].any()


def check_nothing_to_measure(case: NormCase, rng: np.random.Generator) -> None:
    """Finite values and gradients for a batch of one, and, by the rows' own statistics, for constant rows at epsilon 0.

    Without epsilon a row of zeros gives what it gives with one, with gradient zero; a batch has no such rule.
    """
    params, x = draw(case, rng)
    spec = case.spec
    if case.batch_statistics:
        data = x[None, : case.smallest_batch]
    else:
        if hasattr(spec, "epsilon") and case.epsilon_may_be_zero:
            spec = dataclasses.replace(spec, epsilon=0.0)
        data = np.stack([np.zeros(case.shape), np.full(case.shape, 3.0)]).astype(np.float32)

    def loss(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, _ = train(case, params, x, spec=spec)
        return jnp.sum(jnp.sin(y)), y

    gradients = jax.jit(jax.vmap(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), in_axes=(None, 0)))
    (_, y), (_, x_gradient) = results = gradients(params, data)
    advice = "where the equation has no value there, say epsilon_may_be_zero=False in the row of tests/cases.py"
    chex.assert_tree_all_finite(results, custom_message=advice if spec is not case.spec else None)
    if spec is not case.spec:
        assert_close(y[0], case.spec(params, jnp.zeros(case.shape))[0], 1e-6)
        assert not np.asarray(x_gradient[0]).any()


def check_derivatives(case: NormCase, rng: np.random.Generator) -> None:
    """Forward and reverse derivatives against central differences, in float64 (call with x64 enabled)."""
    params, x = draw(case, rng)
    mask = masks_of(case, rng)[0]
    at = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params, x))
    along = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), at)
    step = 1e-5

    def f(at: Any) -> Any:
        return train(case, *at, mask)

    @jax.jit
    def run(at: Any, along: Any) -> Any:
        ahead, behind = (f(jax.tree.map(lambda a, v, s=s: a + s * v, at, along)) for s in (step, -step))
        differences = jax.tree.map(lambda a, b: (a - b) / (2 * step), ahead, behind)
        forward = jax.jvp(f, (at,), (along,))[1]
        cotangents = jax.tree.map(jnp.cos, forward)
        (reverse,) = jax.vjp(f, at)[1](cotangents)
        return differences, forward, cotangents, reverse

    differences, forward, cotangents, reverse = run(at, along)
    assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves((forward, reverse)))
    if not case.own_derivative:
        assert_close(forward, differences, 1e-7)
    # The transpose: <cotangent, J v> = <J^T cotangent, v>.
    left, right = (
        sum(float(np.vdot(p, q)) for p, q in zip(*map(jax.tree.leaves, pair), strict=True))
        for pair in ((cotangents, forward), (reverse, along))
    )
    assert_close(left, right, 1e-9)


def check_invariances(case: NormCase, rng: np.random.Generator) -> None:
    """Invariant to exactly what the table says: the declared ones hold, the others do not."""
    params, _ = draw(case, rng)
    x = rng.standard_normal(case.shape)
    features = feature_axes(case)
    per_example = (case.shape[0], *(1,) * (len(case.shape) - 1))
    per_feature = tuple(size if a in features else 1 for a, size in enumerate(case.shape))
    changed = {"": x}
    for prefix, shape in (("", ()), ("example_", per_example), ("feature_", per_feature)):
        changed[prefix + "scale"] = x * rng.uniform(2.0, 4.0, shape)
        changed[prefix + "shift"] = x + rng.uniform(1.0, 3.0, shape)
    assert set(changed) == {"", *INVARIANCES}
    spec = dataclasses.replace(case.spec, epsilon=1e-12) if hasattr(case.spec, "epsilon") else case.spec
    stacked = np.stack(list(changed.values())).astype(np.float32)
    ys = np.asarray(jax.jit(jax.vmap(lambda x: train(case, params, x, spec=spec)[0]))(stacked), np.float64)
    difference = {name: np.abs(y - ys[0]).max() for name, y in zip(changed, ys, strict=True)}
    holds = {name for name in INVARIANCES if difference[name] < 2e-4}
    assert holds == set(case.invariant_to), difference
    assert all(difference[name] > 2e-2 for name in set(INVARIANCES) - holds), difference


def check_spec_is_a_value(case: NormCase) -> None:
    """A spec hashes, compares, pickles and prints like the value it is, and fits the protocol."""
    assert isinstance(case.spec, jn.Normalizer)
    check_value(case.spec, [other.spec for other in cases.NORMS])


def check_value(spec: Any, others: list[Any]) -> None:
    """A copy of any kind is the spec again, it cannot be changed, and it is none of the others."""
    for copy in (
        pickle.loads(pickle.dumps(spec)),
        eval(repr(spec), cases.PUBLIC | {type(spec).__name__: type(spec)}),
        dataclasses.replace(spec),
    ):
        assert copy == spec
        assert hash(copy) == hash(spec)
        assert type(copy) is type(spec)
    for field in dataclasses.fields(spec):
        try:
            setattr(spec, field.name, None)
        except dataclasses.FrozenInstanceError:
            continue
        raise AssertionError(f"{spec!r} can be changed after it was made")
    assert spec not in [other for other in others if repr(other) != repr(spec)]


def check_fresh_weights(case: NormCase, rng: np.random.Generator) -> None:
    """Fresh weights are scale one and bias zero, or what the table says, in the dtype asked for; statistics 0, 1, 0."""
    shape = case.spec.param_shape(case.shape)
    usual = {"scale": (shape, 1.0), "bias": (shape, 0.0), **case.fresh}
    for dtype in (jnp.float32, jnp.bfloat16):
        params = case.spec.init(shape, dtype)
        for name, leaf in ({} if params == () else params._asdict()).items():
            assert (leaf is not None) == getattr(case.spec, f"use_{name}", name != "scale")
            if leaf is not None:
                size, value = usual[name]
                assert leaf.dtype == dtype
                assert leaf.shape == size
                np.testing.assert_array_equal(leaf, jnp.full(size, value, dtype))
    stats = case.spec.initial_stats(shape)
    if case.batch_statistics:
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(stats))
        rows = (*case.rows, *shape)
        usual = jn.Moments(np.zeros(rows), np.ones(rows), np.zeros(case.rows))
        want = usual if case.initial is None else case.initial
        for leaf, value in zip(jax.tree.leaves(stats), jax.tree.leaves(want), strict=True):
            np.testing.assert_array_equal(leaf, value, strict=False)
            assert leaf.shape == np.shape(value)
    else:
        assert stats == ()
        assert case.spec.update_running((), ()) == ()


def check_equal_specs_trace_once(case: NormCase, rng: np.random.Generator) -> None:
    """As a static argument of jit, a second spec that is equal uses the trace of the first, another one does not."""
    params, x = draw(case, rng)
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def apply(spec: Any, params: Any, x: jax.Array) -> Any:
        traces.append(spec)
        return train(case, params, x, spec=spec)

    specs = [case.spec, pickle.loads(pickle.dumps(case.spec))]
    if hasattr(case.spec, "epsilon"):
        specs.append(dataclasses.replace(case.spec, epsilon=0.125))
    for spec in specs:
        # Tracing is all that is counted, so nothing is compiled.
        jax.eval_shape(lambda p, x, spec=spec: apply(spec, p, x), params, x)
    assert len(traces) == len(set(specs))
