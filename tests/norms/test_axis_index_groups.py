"""Groups of members of a named axis, each with statistics of its own: under vmap, pmap and shard_map."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jaxnorm as jn
from jaxnorm.norms.core.named_axes import named_axes
from tests import cases
from tests.contracts import norm_checks as checks

GROUPS = ((0, 2), (1, 3))
UNEQUAL = ((3,), (0, 1, 2))


def by_group(groups, x, normalize):
    """Applies a function of whole arrays, members first, to the members of each group together."""
    out = np.zeros(x.shape)
    for group in groups:
        rows = x[list(group)]
        out[list(group)] = normalize(rows.reshape(-1, *x.shape[2:])).reshape(rows.shape)
    return out


def standardized(rows, axes=0):
    rows = np.asarray(rows, np.float64)
    return (rows - rows.mean(axes, keepdims=True)) / np.sqrt(rows.var(axes, keepdims=True) + 1e-5)


@pytest.fixture
def x(rng):
    return (rng.standard_normal((4, 3, 5)) * rng.uniform(1, 4, (4, 1, 5)) + rng.uniform(-3, 3, (4, 1, 5))).astype("f")


def over_devices(function, **options):
    mesh = jax.make_mesh((4,), ("members",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("members")
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec, **options))


def keep_axis(function):
    """A function of one member, for a map that leaves an axis of size one."""
    return lambda x: jax.tree.map(lambda leaf: leaf[None], function(x[0]))


MAPS = {
    "vmap": lambda f: jax.jit(jax.vmap(f, axis_name="members")),
    "pmap": lambda f: jax.pmap(f, axis_name="members"),
    "shard_map": lambda f: over_devices(keep_axis(f)),
    "shard_map unchecked": lambda f: over_devices(keep_axis(f), check_vma=False),
}


@pytest.mark.parametrize("groups", [GROUPS, UNEQUAL], ids=str)
@pytest.mark.parametrize("mapped", MAPS)
def test_batch_norm_of_each_group(x, mapped, groups):
    def one(x):
        y, measured = jn.batch_norm(x, axis_name="members", axis_index_groups=groups)
        return y, measured.mean, measured.count

    y, mean, count = MAPS[mapped](one)(x)
    np.testing.assert_allclose(y, by_group(groups, x, standardized), rtol=2e-5, atol=2e-5)
    for group in groups:
        np.testing.assert_allclose(mean[np.array(group)], [x[list(group)].mean((0, 1))] * len(group), rtol=1e-5)
        assert {float(count[member]) for member in group} == {3.0 * len(group)}


@pytest.mark.parametrize("mapped", ["vmap", "shard_map"])
def test_gradients_stay_in_the_group(x, rng, mapped):
    """The derivative of the maps against that of whole groups. (A jitted vmap has no axis any more when it is
    differentiated from outside, with groups or without.)"""
    weights = rng.standard_normal(x.shape).astype(np.float32)
    norm = jn.BatchNorm(axis_name="members", axis_index_groups=GROUPS)
    plain = jn.BatchNorm()
    none = jn.Affine(None, None)

    def grouped(x):
        function = lambda x: norm(none, x)[0]  # noqa: E731
        y = jax.vmap(function, axis_name="members")(x) if mapped == "vmap" else MAPS[mapped](function)(x)
        return jnp.sum(y * weights)

    def whole(x):
        parts = [plain(none, x[jnp.asarray(group)].reshape(-1, 5))[0].reshape(2, 3, 5) for group in GROUPS]
        return sum(jnp.sum(y * weights[np.asarray(group)]) for y, group in zip(parts, GROUPS, strict=True))

    got, want = jax.jit(lambda x: (jax.grad(grouped)(x), jax.grad(whole)(x)))(x)
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)


def test_groups_over_two_names(x):
    """Members are numbered as jax.lax.axis_index numbers them over several names."""
    inner = jax.vmap(lambda x: jn.batch_norm(x, axis_name=("a", "b"), axis_index_groups=UNEQUAL)[0], axis_name="b")
    y = jax.jit(jax.vmap(inner, axis_name="a"))(x.reshape(2, 2, 3, 5)).reshape(x.shape)
    np.testing.assert_allclose(y, by_group(UNEQUAL, x, standardized), rtol=2e-5, atol=2e-5)


def test_rows_spread_over_members(x):
    """Layer, RMS, instance and group normalization: the features, or the positions, of a group lie on its members."""
    named = {"axis_name": "members", "axis_index_groups": GROUPS}
    functions = {
        "layer": (partial(jn.layer_norm, **named), lambda r: standardized(r, (0, 2))),
        "rms": (partial(jn.rms_norm, **named), lambda r: r / np.sqrt((r**2).mean((0, 2), keepdims=True) + 1e-5)),
        "instance": (lambda x: jn.instance_norm(x[None], **named)[0], lambda r: standardized(r, (0, 1))),
        "group": (lambda x: jn.group_norm(x[None], num_groups=1, **named)[0], lambda r: standardized(r, (0, 1, 2))),
    }
    for name, (function, whole) in functions.items():
        y = jax.jit(jax.vmap(function, axis_name="members"))(x)
        want = np.zeros(x.shape)
        for group in GROUPS:
            want[list(group)] = whole(x[list(group)].astype(np.float64))
        np.testing.assert_allclose(y, want, rtol=2e-5, atol=2e-5, err_msg=name)


SPANNING = [case for case in cases.NORMS if case.batch_statistics and hasattr(case.spec, "axis_index_groups")]
SPANNING = [case for case in SPANNING if case.spans_devices and getattr(case.spec, "axis", None) is None]


@pytest.mark.parametrize("case", SPANNING, ids=str)
def test_each_group_is_a_batch_of_its_own(case, rng):
    """Two groups of two examples, mapped by vmap: each must give what its two examples give as a batch."""
    params, data = checks.draw(case, rng)
    data = np.concatenate([data, data[::-1] * 1.3 + 0.2])[:4]
    mask = rng.random(data.shape) < 0.8
    spec = dataclasses.replace(case.spec, axis_name="members", axis_index_groups=GROUPS)

    def run(x, mask):
        every = jax.vmap(lambda x, m: checks.train(case, params, x, m, spec), axis_name="members")(x, mask)
        places = [np.asarray(group) for group in GROUPS]
        return every, [checks.train(case, params, x[place], mask[place]) for place in places]

    (y, measured), alone = jax.jit(run)(data, mask)
    for group, (want, moments) in zip(GROUPS, alone, strict=True):
        checks.assert_close(y[np.asarray(group)], want)
        for leaf, expected in zip(jax.tree.leaves(measured), jax.tree.leaves(moments), strict=True):
            for member in group:
                checks.assert_close(leaf[member], expected)


@pytest.mark.parametrize("deviation", ["l_infinity", "top_k"])
def test_largest_elements_of_each_group(x, deviation):
    function = partial(jn.zoo.lp_batch_norm, deviation=deviation, k=20)  # more than a group of one has
    one = lambda x: function(x, axis_name="members", axis_index_groups=UNEQUAL)[0]  # noqa: E731
    y = jax.jit(jax.vmap(one, axis_name="members"))(x)
    for group in UNEQUAL:
        rows = jnp.asarray(x[list(group)])
        want = function(rows.reshape(-1, 5))[0].reshape(rows.shape)
        np.testing.assert_allclose(y[np.asarray(group)], want, rtol=2e-5, atol=2e-5)


def test_rows_of_a_cell_weigh_the_examples_of_the_group(rng):
    """Running statistics of windows with resets: each group has those of its own examples, by age."""
    xs = rng.standard_normal((4, 5, 2, 3)).astype(np.float32)
    reset = rng.random((4, 5, 2)) < 0.4
    grouped = jn.bn_lstm(3, max_steps=3, axis_name="members")
    norms = [
        dataclasses.replace(norm, axis_index_groups=GROUPS) if isinstance(norm, jn.BatchNorm) else norm
        for norm in grouped.norm
    ]
    grouped, plain = dataclasses.replace(grouped, norm=jn.CellNorms(*norms)), jn.bn_lstm(3, max_steps=3)
    params = cases.randomize(plain.init(jax.random.key(0), 3), rng)

    def one(xs, reset):
        return jn.unroll(grouped, params, xs, reset=reset).moments

    found = jax.jit(jax.vmap(one, axis_name="members"))(xs, reset)
    for group in GROUPS:
        place = list(group)
        batch = np.moveaxis(xs[place], 0, 1).reshape(5, 4, 3), np.moveaxis(reset[place], 0, 1).reshape(5, 4)
        want = jn.unroll(plain, params, jnp.asarray(batch[0]), reset=jnp.asarray(batch[1])).moments
        for leaf, expected in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(leaf[group[0]], expected, rtol=2e-4, atol=2e-5)


def test_lists_hash():
    assert jn.BatchNorm(axis_name="i", axis_index_groups=[[0, 1], [2, 3]]).axis_index_groups == ((0, 1), (2, 3))
    assert hash(jn.LayerNorm(axis_name="i", axis_index_groups=[[0], [1]])) is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: jn.BatchNorm(axis_name="i", axis_index_groups=((0, 1), (1, 2))),
            "Norm: axis_index_groups must",
        ),
        (
            lambda: jn.BatchNorm(axis_name="i", axis_index_groups=((1, 2),)),
            "axis_index_groups must name each",
        ),
        (lambda: named_axes("f", "i", [[1]]), r"f: axis_index_groups must name .*, got \[\[1\]\]"),
        (
            lambda: jn.batch_norm(jnp.ones((2, 3)), axis_index_groups=((0, 1),)),
            "batch_norm: .* groups the members",
        ),
        (
            lambda: jn.batch_norm(jnp.ones((2, 3)), axis_name="i", axis_index_groups=((0, 1),)),
            "axis_name='i' is not",
        ),
        (
            lambda: jax.vmap(lambda x: jn.layer_norm(x, axis_name="i", axis_index_groups=((0, 1),)), axis_name="i")(
                jnp.ones((3, 2))
            ),
            r"axis_index_groups=\(\(0, 1\),\) must name each of the 3 members of axis_name='i' once",
        ),
    ],
)
def test_groups_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_normalizer_whose_function_has_no_groups_says_so():
    spec = type(next(case.spec for case in cases.NORMS if case.name == "skeleton"))
    with pytest.raises(ValueError, match="AbsNorm: abs_norm has no axis_index_groups"):
        spec(axis_name="i", axis_index_groups=((0, 1),))
