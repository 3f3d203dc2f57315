"""Measured statistics: against NumPy under any axes and masks, over named axes and devices, merged, and used."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.sharding import Mesh, PartitionSpec

import jaxnorm as jn
from tests.norms import oracles


def assert_moments(got, want, tolerance=2e-5):
    mean, var, count = want
    np.testing.assert_allclose(got.mean, mean, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(got.var, var, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(np.broadcast_to(got.count, np.shape(count)), count)


def test_any_axes_and_any_mask(rng):
    x = (2.0 + rng.standard_normal((2, 3, 4))).astype(np.float32)
    axes = [None, 0, -1, (0, 2), (2, 0), (1,), (0, 1, 2)]
    masks = [
        None,
        rng.random((2, 3, 4)) < 0.6,
        rng.random((3, 1)) < 0.6,
        np.array([True, False]).reshape(2, 1, 1),
        np.array([True, False, True, True]),
        np.zeros((1, 1, 1), bool),
        np.asarray(True),
    ]

    @jax.jit
    def run(x, masks):
        return [jn.moments(x, axis=axis, where=mask) for axis, mask in itertools.product(axes, masks)]

    for (axis, mask), got in zip(itertools.product(axes, masks), run(x, masks), strict=True):
        assert_moments(got, oracles.moments(x, axis=axis, where=mask))
        reduced = oracles.reduced_axes(axis, 3)
        full = (1,) * 3 if mask is None else (1,) * (3 - mask.ndim) + mask.shape
        varies = any(full[a] != 1 for a in range(3) if a not in reduced)
        assert got.count.shape == (got.mean.shape if varies else ()), (axis, full)


def test_double_precision_in_double_precision_out(rng, x64):
    x = rng.standard_normal((5, 3))
    got = jn.moments(jnp.asarray(x))
    assert all(leaf.dtype == jnp.float64 for leaf in got)
    assert_moments(got, oracles.moments(x), 1e-14)


def test_named_axes_of_vmap_weigh_by_count(rng):
    # Members hold 4, 1 and 0 real elements of feature 0, others of feature 1; the last axis keeps the features.
    x = rng.standard_normal((2, 3, 4, 2)).astype(np.float32)
    mask = rng.random(x.shape) < 0.7
    mask[:, 2] = False
    mask[0, 1, 1:] = False
    poisoned = np.where(mask, x, np.nan)

    @jax.jit
    def run(x, mask):
        def one(axis_name):
            return lambda x, mask: jn.moments(x, where=mask, axis_name=axis_name)

        inner = jax.vmap(jax.vmap(one("member"), axis_name="member"))(x, mask)
        both = jax.vmap(jax.vmap(one(("member", "outer")), axis_name="member"), axis_name="outer")(x, mask)
        return inner, both

    inner, both = run(poisoned, mask)
    for group in range(2):
        want = oracles.moments(x[group], axis=(0, 1), where=mask[group])
        for member in range(3):
            assert_moments(jax.tree.map(lambda leaf, i=(group, member): leaf[i], inner), want)
            got = jax.tree.map(lambda leaf, i=(group, member): leaf[i], both)
            assert_moments(got, oracles.moments(x, where=mask, axis=(0, 1, 2)))


def test_devices_with_unequal_and_empty_shards(rng):
    # Eight rows on four devices; the second device has one real row, the third none.
    x = rng.standard_normal((8, 3)).astype(np.float32)
    mask = np.array([1, 1, 0, 1, 0, 0, 1, 1], bool)[:, None]
    poisoned = np.where(mask, x, np.inf).astype(np.float32)
    devices = np.array(jax.devices()[:4])
    assert devices.size == 4
    line, square = Mesh(devices, ("d",)), Mesh(devices.reshape(2, 2), ("a", "b"))
    weights = rng.standard_normal(x.shape).astype(np.float32)

    def over(mesh, names, per_example):
        rows, whole = PartitionSpec(mesh.axis_names), PartitionSpec()

        def shard(x, mask):
            if per_example:
                return jax.vmap(
                    lambda x, mask: jn.batch_norm(x, where=mask, axis_name=(*names, "example")),
                    axis_name="example",
                    out_axes=(0, None),
                )(x, mask)
            return jn.batch_norm(x, where=mask, axis_name=names if len(names) > 1 else names[0])

        # shard_map cannot follow which values vary through a collective that names an axis of vmap too.
        return jax.shard_map(
            shard, mesh=mesh, in_specs=(rows, rows), out_specs=(rows, whole), check_vma=not per_example
        )

    def plain(x, mask):
        return jn.batch_norm(x, where=mask)

    @jax.jit
    def run(x, mask):
        def loss(x, function):
            y, measured = function(x, mask)
            return jnp.sum(y * weights), (y, measured)

        functions = [plain, over(line, ("d",), False), over(square, ("a", "b"), False), over(square, ("a", "b"), True)]
        return [jax.value_and_grad(lambda x, f=f: loss(x, f), has_aux=True)(x) for f in functions]

    results = run(poisoned, mask)
    for (_, (y, measured)), gradient in results:
        np.testing.assert_allclose(y, oracles.batch_norm(x, where=mask), atol=2e-5)
        assert_moments(measured, oracles.moments(x, where=mask))
        np.testing.assert_allclose(gradient, results[0][1], atol=2e-5)


@jax.jit
def merged_both_ways(x, part):
    a, b, c = (jn.moments(x, where=(part == i)[:, None]) for i in range(3))
    return jn.merge(jn.merge(a, b), c), jn.merge(a, jn.merge(b, c)), jn.merge(jn.merge(c, b), a)


@given(
    part=hnp.arrays(np.int32, 7, elements=st.integers(0, 3)),
    offset=st.sampled_from([0.0, 1e3, -1e4]),
    seed=st.integers(0, 2**16),
)
def test_merge_is_the_statistics_of_the_union(part, offset, seed):
    # Rows of part 3 belong to no side; any side may be empty.
    x = (offset + np.random.default_rng(seed).standard_normal((7, 2))).astype(np.float32)
    mean, var, count = oracles.moments(x, where=(part != 3)[:, None])
    for got in merged_both_ways(x, part):
        np.testing.assert_allclose(got.mean, mean, rtol=1e-6, atol=2e-6)
        np.testing.assert_allclose(got.var, var, rtol=1e-3, atol=1e-5)
        np.testing.assert_array_equal(got.count, count[0])


def test_merge_with_an_empty_side_is_exact_and_ignores_it():
    full = jn.Moments(jnp.array([0.1, 1e30]), jnp.array([0.3, 2.0]), jnp.array(3.0))
    empty = jn.Moments(jnp.array([7.0, -jnp.inf]), jnp.zeros(2), jnp.array(0.0))
    for got in (jn.merge(full, empty._replace(mean=jnp.array([7.0, 5.0]))), jn.merge(empty, full)):
        np.testing.assert_array_equal(got.mean, full.mean)
        np.testing.assert_array_equal(got.count, 3.0)
    nothing = jn.merge(empty._replace(mean=jnp.zeros(2)), empty._replace(mean=jnp.zeros(2)))
    assert not any(np.asarray(leaf).any() for leaf in nothing)


def test_merge_with_a_count_for_each_feature(rng):
    x = rng.standard_normal((6, 3)).astype(np.float32)
    mask = rng.random(x.shape) < 0.5
    mask[:3, 0], mask[3:, 1], mask[:, 2] = False, False, False
    data, real = jnp.asarray(x), jnp.asarray(mask)
    got = jn.merge(jn.moments(data[:3], where=real[:3]), jn.moments(data[3:], where=real[3:]))
    assert got.count.shape == (3,)
    assert_moments(got, oracles.moments(x, where=mask))


def test_normalize_with_statistics_from_elsewhere(rng):
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    mean, var = rng.standard_normal((2, 4)), rng.uniform(0.5, 2.0, (2, 4))
    scale, bias = rng.standard_normal((2, 4)), rng.standard_normal(4)
    adaptive = rng.standard_normal((2, 1, 4))
    external = jn.Moments(*(jnp.asarray(m, jnp.float32) for m in (mean, var, 1.0)))
    normalized = (x - mean[:, None]) / np.sqrt(var[:, None] + 1e-3)

    def run(scale, bias, axis=1, x=x, external=external):
        params = (jnp.asarray(p, jnp.float32) for p in (scale, bias))
        return jn.normalize(jnp.asarray(x), external, *params, axis=axis, epsilon=1e-3)

    want = normalized * scale[:, None] + bias
    np.testing.assert_allclose(run(scale, bias), want, atol=1e-5)
    np.testing.assert_allclose(run(adaptive, bias), normalized * adaptive + bias, atol=1e-5)
    # Without axis the statistics lie along the last axes, as NumPy broadcasts.
    last = jax.tree.map(lambda leaf: leaf[0] if leaf.ndim else leaf, external)
    np.testing.assert_allclose(run(scale[0], bias, None, x[0], last), want[0], atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: jn.moments(x, axis=2), r"moments: axis=2 is out of range for an array with 2 axes. .*\[-2, 1\]"),
        (lambda x: jn.moments(x, axis=(0, -2)), r"moments: axis=\(0, -2\) names the same axis twice"),
        (lambda x: jn.moments(x, axis_name="nowhere"), r"axis_name='nowhere' is not bound here. Call inside jax.vmap"),
        (lambda x: jn.moments(x, where=jnp.ones(5, bool)), r"moments: where must broadcast .* \(4, 3\), got \(5,\)"),
        (
            lambda x: jn.normalize(x, jn.Moments(jnp.zeros(2), jnp.ones(2), jnp.ones(()))),
            r"normalize: moments.mean must broadcast to the shape of x = \(4, 3\), got \(1, 2\)",
        ),
        (
            lambda x: jn.normalize(x, jn.Moments(jnp.zeros((4, 3)), jnp.ones((4, 3, 1)), jnp.ones(())), axis=0),
            r"scale, bias or statistics of shape \(4, 3, 1\) do not fit the 1 axes \(1,\) of x",
        ),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((4, 3)))
