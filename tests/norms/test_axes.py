"""Axes of statistics apart from those of weights, slices of axes, and the two ways to say the groups of features."""

import pickle

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax import export

import jaxnorm as jn
import jaxnorm.linen
import jaxnorm.nnx
from tests.norms import oracles
from tests.tools.peers import import_peer, lenient

SHAPE = (2, 3, 4, 6)


@pytest.fixture
def x(rng):
    return (rng.standard_normal(SHAPE) * 2 + 1).astype(np.float32)


@pytest.fixture
def unhooked():
    """Without the run-time checks of annotations that pytest adds: users have only our own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def weights(rng, shape):
    return jn.Affine(*(jnp.asarray(rng.standard_normal(shape), jnp.float32) for _ in range(2)))


def oracle(x, params, reduced, along, *, where=None, center=True, epsilon=1e-5):
    """One set of elements along ``reduced`` after the other; then scale and bias along ``along``."""

    def row(values, _):
        moved = values - values.mean() if center else values
        return moved / np.sqrt((moved**2).mean() + epsilon)

    return oracles.affine(oracles.by_rows(x, where, reduced, row), *params, along, where)


ROWS = [
    ({"axis": (1, 2, 3), "feature_axis": -1}, (1, 2, 3), (3,)),
    ({"axis": slice(1, None), "feature_axis": (1, -1)}, (1, 2, 3), (1, 3)),
    ({"axis": -1, "feature_axis": 1}, (3,), (1,)),
    ({"axis": slice(-2, None)}, (2, 3), (2, 3)),
    ({"axis": slice(None, None, 2), "feature_axis": slice(0, 2)}, (0, 2), (0, 1)),
]


@pytest.mark.parametrize(("fields", "reduced", "along"), ROWS)
@pytest.mark.parametrize("spec", [jn.LayerNorm, jn.RMSNorm])
def test_weights_of_rows_lie_along_the_feature_axes(rng, x, spec, fields, reduced, along):
    norm = spec(**fields, use_bias=True)
    assert norm.param_shape(SHAPE) == tuple(SHAPE[a] for a in along)
    params, where = weights(rng, norm.param_shape(SHAPE)), rng.random((2, 3, 1, 6)) < 0.7
    for mask in (None, where):
        y, _ = norm(params, jnp.asarray(x), where=None if mask is None else jnp.asarray(mask))
        want = oracle(x, params, reduced, along, where=mask, center=spec is jn.LayerNorm)
        np.testing.assert_allclose(y, want, rtol=2e-5, atol=2e-5)
    if spec is jn.LayerNorm:
        assert norm.without_mean() == jn.RMSNorm(**fields, use_bias=True)


@pytest.mark.parametrize("feature_axis", [1, (1, 3), slice(2, None)])
def test_batch_norm_keeps_the_feature_axes(rng, x, feature_axis):
    norm = jn.BatchNorm(feature_axis=feature_axis, momentum=0.0)
    along = tuple(range(4)[feature_axis]) if isinstance(feature_axis, slice) else tuple(np.atleast_1d(feature_axis))
    reduced = tuple(a for a in range(4) if a not in along)
    shape = norm.param_shape(SHAPE)
    params = weights(rng, shape)
    y, measured = norm(params, jnp.asarray(x))
    np.testing.assert_allclose(y, oracle(x, params, reduced, along), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(measured.mean, x.mean(reduced), rtol=1e-5)
    running = norm.update_running(norm.initial_stats(shape), measured)
    np.testing.assert_allclose(norm(params, jnp.asarray(x), running)[0], y, rtol=1e-5, atol=1e-5)
    both = jn.BatchNorm(reduced, feature_axis=feature_axis)
    np.testing.assert_array_equal(both(params, jnp.asarray(x))[0], y)


def test_zoo_specs_that_are_batch_norm_have_its_feature_axis(rng, x):
    frozen = jn.zoo.FrozenBatchNorm(feature_axis=1, epsilon=1e-3)
    running = jn.Moments(*(jnp.asarray(rng.uniform(0.5, 2.0, 3), jnp.float32) for _ in range(2)), jnp.ones(()))
    y, _ = frozen(frozen.init((3,)), jnp.asarray(x), running)
    mean, var = (np.asarray(leaf).reshape(3, 1, 1) for leaf in running[:2])
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-3), rtol=1e-5, atol=1e-6)
    by_class = jn.zoo.ConditionalBatchNorm(5, jn.BatchNorm(feature_axis=1))
    table = weights(rng, (5, 3))
    labels = np.array([4, 2])
    y, _ = by_class(table, jnp.asarray(x), jnp.asarray(labels))
    plain = oracle(x, (None, None), (0, 2, 3), ())
    scale, bias = (np.asarray(leaf)[labels].reshape(2, 3, 1, 1) for leaf in table)
    np.testing.assert_allclose(y, plain * scale + bias, rtol=2e-5, atol=2e-5)


def test_instance_norm_has_any_feature_axes(rng, x):
    norm = jn.InstanceNorm(feature_axis=(1, -1))
    params = weights(rng, norm.param_shape(SHAPE))
    np.testing.assert_allclose(norm(params, jnp.asarray(x))[0], oracle(x, params, (2,), (1, 3)), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("fields", "groups"),
    [
        ({"num_groups": -1}, 6),
        ({"group_size": 2}, 3),
        ({"num_groups": None, "group_size": 6}, 1),
        ({"num_groups": 2}, 2),
    ],
)
def test_groups_by_number_or_size(rng, x, fields, groups):
    norm = jn.GroupNorm(**fields, axis=slice(1, None))
    params = weights(rng, (6,))
    want = oracles.group_norm(x, *params, num_groups=groups)
    np.testing.assert_allclose(norm(params, jnp.asarray(x))[0], want, rtol=2e-5, atol=2e-5)


def test_other_specs_with_groups_take_one_for_each_feature(rng, x):
    params = jn.zoo.EvoNormS0(-1).init((6,))
    got, _ = jn.zoo.EvoNormS0(-1)(params, jnp.asarray(x))
    np.testing.assert_array_equal(got, jn.zoo.EvoNormS0(6)(params, jnp.asarray(x))[0])


def test_specs_with_slices_are_values():
    specs = [
        jn.LayerNorm(slice(1, None), feature_axis=-1),
        jn.RMSNorm(slice(-1, None)),
        jn.BatchNorm(slice(0, -1)),
        jn.GroupNorm(2, axis=slice(1, None)),
        jn.InstanceNorm(slice(1, -1), feature_axis=slice(-1, None)),
        jn.zoo.ScaleNorm(slice(1, None)),
    ]
    assert len({*specs, *(pickle.loads(pickle.dumps(spec)) for spec in specs)}) == len(specs)
    for spec in specs:
        assert eval(repr(spec), vars(jn) | vars(jn.zoo)) == spec
    assert specs[0] != jn.LayerNorm(slice(2, None), feature_axis=-1)
    assert "axis=slice(1, None, None)" in repr(specs[0])


def test_slices_take_the_axes_that_the_data_have(rng):
    norm, params = jn.LayerNorm(slice(1, None), feature_axis=-1), weights(rng, (6,))
    for shape in ((2, 6), (2, 3, 6), SHAPE):
        data = rng.standard_normal(shape).astype(np.float32)
        want = oracle(data, params, tuple(range(1, len(shape))), (len(shape) - 1,))
        np.testing.assert_allclose(norm(params, jnp.asarray(data))[0], want, rtol=2e-5, atol=2e-5)


def test_axes_of_sizes_that_are_not_known(rng, unhooked):
    b, t = export.symbolic_shape("b, t")
    params = weights(rng, (6,))
    data = rng.standard_normal((2, 3, 6)).astype(np.float32)
    for norm in (
        jn.LayerNorm(slice(1, None), feature_axis=-1),
        jn.GroupNorm(-1),
        jn.GroupNorm(group_size=2),
        jn.BatchNorm(feature_axis=-1),
    ):
        program = export.export(jax.jit(lambda x, norm=norm: norm(params, x)[0]))(
            jax.ShapeDtypeStruct((b, t, 6), jnp.float32)
        )
        np.testing.assert_allclose(program.call(data), norm(params, jnp.asarray(data))[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "shape"), [(jn.LayerNorm(slice(1, None), feature_axis=1), (3,)), (jn.BatchNorm(feature_axis=1), (3,))]
)
def test_flax_modules_have_weights_along_the_feature_axes(x, spec, shape):
    data = jnp.asarray(x)
    want = spec(spec.init(shape), data)[0]
    module = jaxnorm.linen.Norm(spec, use_running_average=False)
    y, variables = module.init_with_output(jax.random.key(0), data)
    assert variables["params"]["scale"].shape == shape
    np.testing.assert_allclose(y, want, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(jaxnorm.nnx.Norm(spec, shape)(data), want, rtol=1e-6, atol=1e-6)


def test_flax_layers(rng, x):
    linen = import_peer("flax.linen")
    slow = {"use_fast_variance": False, "epsilon": 1e-5}
    pairs = [
        (jn.LayerNorm((1, 2), feature_axis=-1), linen.LayerNorm(reduction_axes=(1, 2), feature_axes=-1, **slow)),
        (jn.LayerNorm(-1, feature_axis=(1, 2)), linen.LayerNorm(reduction_axes=-1, feature_axes=(1, 2), **slow)),
        (jn.RMSNorm((1, 2, 3), feature_axis=1), linen.RMSNorm(reduction_axes=(1, 2, 3), feature_axes=1, **slow)),
        (jn.GroupNorm(group_size=3), linen.GroupNorm(num_groups=None, group_size=3, **slow)),
        (jn.InstanceNorm(feature_axis=(1, 3)), linen.InstanceNorm(feature_axes=(1, 3), **slow)),
        (jn.BatchNorm(feature_axis=1), linen.BatchNorm(axis=1, use_running_average=False, **slow)),
    ]
    for spec, module in pairs:
        params = weights(rng, spec.param_shape(SHAPE))
        named = {name: leaf for name, leaf in params._asdict().items() if getattr(spec, f"use_{name}")}
        with lenient():
            theirs, _ = module.apply({"params": named}, jnp.asarray(x), mutable=["batch_stats"])
        ours, _ = spec(jn.Affine(named.get("scale"), named.get("bias")), jnp.asarray(x))
        np.testing.assert_allclose(ours, theirs, rtol=3e-5, atol=3e-5, err_msg=repr(spec))


def test_haiku_layers(rng, x):
    haiku = import_peer("haiku", "bench")
    params = weights(rng, (6,))
    constant = haiku.initializers.Constant
    both = {"create_scale": True, "scale_init": constant(params.scale)}
    both |= {"create_offset": True, "offset_init": constant(params.bias)}
    pairs = [
        (jn.LayerNorm(slice(1, None), feature_axis=-1), lambda: haiku.LayerNorm(slice(1, None), param_axis=-1, **both)),
        (jn.GroupNorm(2, axis=slice(1, None)), lambda: haiku.GroupNorm(2, axis=slice(1, None), **both)),
        (jn.InstanceNorm(slice(1, 3)), lambda: haiku.InstanceNorm(**both)),
    ]
    for spec, make in pairs:
        with lenient():
            module = haiku.without_apply_rng(haiku.transform(lambda x, make=make: make()(x)))
            theirs = module.apply(module.init(jax.random.key(0), x), x)
        np.testing.assert_allclose(spec(params, jnp.asarray(x))[0], theirs, rtol=3e-5, atol=3e-5, err_msg=repr(spec))


def test_keras_layers(rng, x):
    keras = import_peer("keras")
    if keras.backend.backend() != "jax":
        pytest.skip("keras runs on another backend: the comparison needs KERAS_BACKEND=jax")
    pairs = [
        (jn.LayerNorm((1, 3), epsilon=1e-3), lambda: keras.layers.LayerNormalization(axis=(3, 1))),
        (jn.GroupNorm(-1, feature_axis=1, epsilon=1e-3), lambda: keras.layers.GroupNormalization(-1, axis=1)),
        (jn.BatchNorm(feature_axis=1, epsilon=1e-3), lambda: keras.layers.BatchNormalization(axis=1)),
    ]
    for spec, make in pairs:
        params = weights(rng, spec.param_shape(SHAPE))
        with lenient():
            layer = make()
            layer.build(SHAPE)
            layer.gamma.assign(params.scale)
            layer.beta.assign(params.bias)
            theirs = layer(jnp.asarray(x), training=True) if isinstance(spec, jn.BatchNorm) else layer(jnp.asarray(x))
        np.testing.assert_allclose(spec(params, jnp.asarray(x))[0], theirs, rtol=3e-5, atol=3e-5, err_msg=repr(spec))


X = jnp.ones((6, 8))
LAST = jn.BatchNorm(-1)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: jn.GroupNorm(4, group_size=2), ValueError, "GroupNorm: num_groups=4 and group_size=2 are two ways"),
        (lambda: jn.group_norm(X, num_groups=4, group_size=2), ValueError, "group_norm: num_groups=4 and group_size=2"),
        (lambda: jn.GroupNorm(-2), ValueError, "GroupNorm: num_groups must be a positive integer, got -2"),
        (lambda: jn.GroupNorm(group_size=0), ValueError, "GroupNorm: group_size must be a positive integer, got 0"),
        (lambda: jn.group_norm(X, group_size=3), ValueError, "group_norm: group_size=3 must divide .* F = 8"),
        (lambda: jn.group_norm(X, feature_axis=(0, 1)), TypeError, r"feature_axis must be an int, got \(0, 1\)"),
        (lambda: jn.layer_norm(X, axis=slice(2, None)), ValueError, r"axis=slice\(2, None, None\) has no axis of"),
        (lambda: jn.layer_norm(X, feature_axis=2), ValueError, r"layer_norm: feature_axis=2 is out of range .* 2 axes"),
        (lambda: jn.LayerNorm(slice(0.5)), TypeError, r"LayerNorm: axis must be a slice of ints, got slice\(None, 0.5"),
        (lambda: jn.LayerNorm(feature_axis="x"), TypeError, "LayerNorm: feature_axis must be an int .*, got 'x'"),
        (lambda: jn.batch_norm(X, axis=0, feature_axis=0), ValueError, "axis=0 and feature_axis=0 must name each of"),
        (lambda: jn.elman(3, norm=jn.BatchNorm(feature_axis=0)), ValueError, "cannot be used inside a cell"),
        (lambda: jn.elman(3, norm=jn.LayerNorm(feature_axis=0)), ValueError, "cannot be used inside a cell"),
        (
            lambda: LAST(LAST.init((8,)), X),
            ValueError,
            r"batch_norm: axis=-1 names the axes that are reduced, and scale has the shape of x = \(6, 8\) along them, "
            r"\(8,\), not along the others, \(6,\)\. .*reduce the others: axis=\(0,\)",
        ),
        (
            lambda: jn.BatchNorm(-1, use_scale=False, use_bias=False)(
                jn.Affine(None, None), X, LAST.initial_stats((8,))
            ),
            ValueError,
            "batch_norm: axis=-1 names the axes that are reduced, and moments.mean has the shape",
        ),
        (
            lambda: jn.zoo.LpBatchNorm(-1)(LAST.init((8,)), X),
            ValueError,
            "lp_batch_norm: axis=-1 names the axes that are reduced, and scale",
        ),
    ],
)
def test_messages_name_what_the_user_typed(make, error, message, unhooked):
    with pytest.raises(error, match=message):
        make()


def test_weights_that_broadcast_are_no_mistake():
    assert jn.batch_norm(jnp.ones((1, 8)), jnp.ones(1))[0].shape == (1, 8)
    assert jn.batch_norm(jnp.ones((8, 8)), jnp.ones(8))[0].shape == (8, 8)
