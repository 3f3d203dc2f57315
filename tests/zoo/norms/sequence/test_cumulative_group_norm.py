"""Cumulative group normalization: the equation, streams, masks, resets, and digits far from zero."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax import export

import jaxnorm as jn


def oracle(spec, params, x, where=None, reset=None):
    """Statistics of everything real up to each step, taken anew at each step, for one example and group at a time."""
    axes = sorted(a % x.ndim for a in ((spec.axis,) if isinstance(spec.axis, int) else spec.axis))
    keep = np.broadcast_to(True if where is None else where, x.shape)
    groups = x.shape[-1] if spec.num_groups == -1 else spec.num_groups
    inner = [a for a in axes if a != x.ndim - 1]
    outer = [a for a in range(1, x.ndim - 1) if a not in axes]
    y = np.zeros(x.shape)
    size = x.shape[-1] // groups
    for place in np.ndindex(*(x.shape[a] for a in outer)):
        for g in range(groups):
            index = [slice(None)] * x.ndim
            for a, i in zip(outer, place, strict=True):
                index[a] = i
            index[-1] = slice(g * size, (g + 1) * size)
            data, real = x[tuple(index)], keep[tuple(index)]
            out = y[tuple(index)]
            begin = 0
            for t in range(x.shape[0]):
                if reset is not None and reset[(t, *place[: reset.ndim - 1])]:
                    begin = t
                seen = data[begin : t + 1][real[begin : t + 1]]
                if seen.size:
                    out[t] = (data[t] - seen.mean()) / np.sqrt(seen.var() + spec.epsilon)
    assert len(inner) + len(outer) == x.ndim - 2
    scale, bias = (None if param is None else np.asarray(param) for param in params)
    y = y if scale is None else y * scale
    y = y if bias is None else y + bias
    return np.where(keep, y, 0.0)


CASES = [
    (jn.zoo.CumulativeGroupNorm(), (7, 3, 4)),
    (jn.zoo.CumulativeGroupNorm(2, epsilon=0.3), (5, 6)),
    (jn.zoo.CumulativeGroupNorm(-1), (6, 2, 3)),
    (jn.zoo.CumulativeGroupNorm(2, axis=slice(2, None)), (4, 2, 3, 2, 4)),
    (jn.zoo.CumulativeGroupNorm(3, axis=(-1, 2)), (4, 2, 3, 2, 6)),
]


def draw(rng, spec, shape, offset=0.5):
    x = (rng.standard_normal(shape) * 2 + offset).astype(np.float32)
    params = jn.Affine(*(jnp.asarray(rng.standard_normal(shape[-1]), jnp.float32) for _ in range(2)))
    return x, params, rng.random(shape) < 0.6, rng.random(shape[: min(2, len(shape) - 1)]) < 0.3


def plain(spec):
    """The spec with axes as numbers, for the oracle."""
    if not isinstance(spec.axis, int | tuple):
        return jn.zoo.CumulativeGroupNorm(spec.num_groups, axis=spec.axis.axes(5), epsilon=spec.epsilon)
    return spec


@pytest.mark.parametrize(("spec", "shape"), CASES)
def test_the_equation_with_masks_and_resets(rng, spec, shape):
    x, params, where, reset = draw(rng, spec, shape)
    where[:2] = rng.random(where[:2].shape) < 0.2  # few real elements at the start
    for mask, begins in ((None, None), (where, None), (None, reset), (where, reset)):
        hidden = x if mask is None else np.where(mask, x, np.nan)
        given = [None if array is None else jnp.asarray(array) for array in (mask, begins)]
        y, _ = spec.stream(params, jnp.asarray(hidden), None, *given)
        np.testing.assert_allclose(y, oracle(plain(spec), params, x, mask, begins), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("spec", "shape"), CASES)
def test_pieces_give_what_the_whole_sequence_gives(rng, spec, shape):
    x, params, where, reset = draw(rng, spec, shape, offset=300.0)
    for mask, begins in ((None, None), (where, reset)):
        stream = jax.jit(lambda x, memory, *rest: spec.stream(params, x, memory, *rest))
        whole, last = stream(x, None, mask, begins)
        for cuts in ([2, 3], range(1, shape[0])):
            memory, pieces = None, []
            parts = [None if a is None else np.split(a, cuts) for a in (x, mask, begins)]
            for i, piece in enumerate(parts[0]):
                y, memory = stream(piece, memory, *(None if part is None else part[i] for part in parts[1:]))
                pieces.append(y)
            np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=3e-5, atol=3e-5)
            np.testing.assert_allclose(memory.origin + memory.shift, last.origin + last.shift, rtol=1e-6)
            np.testing.assert_allclose(memory.var, last.var, rtol=3e-5, atol=1e-6)
            np.testing.assert_array_equal(memory.count, last.count)


def test_memory_holds_the_statistics_of_everything_so_far(rng):
    x = rng.standard_normal((9, 2, 6)).astype(np.float32) + 3
    _, memory = jn.zoo.cumulative_group_norm(jnp.asarray(x), num_groups=2)
    data = x.reshape(9, 2, 2, 3)
    np.testing.assert_allclose(memory.origin + memory.shift, data.mean((0, 3)), rtol=1e-6)
    np.testing.assert_allclose(memory.var, data.var((0, 3)), rtol=1e-5)
    np.testing.assert_array_equal(memory.count, np.full((2, 2), 27.0))


@pytest.mark.parametrize("padding", [0, 5])
def test_digits_far_from_zero(rng, padding):
    """At an offset of 1e4 deviations, in one piece and step by step; with padding, the first mean is no guide."""
    steps = 300
    x = (1e4 + rng.standard_normal((steps, 2, 4))).astype(np.float32)
    where = np.arange(steps)[:, None, None] >= padding
    spec = jn.zoo.CumulativeGroupNorm(use_scale=False, use_bias=False)
    params = jn.Affine(None, None)
    want = oracle(spec, params, x.astype(np.float64), where)
    whole, _ = spec.stream(params, jnp.asarray(x), None, jnp.asarray(where))
    assert np.abs(np.asarray(whole, np.float64) - want).max() < 1e-5
    stream = jax.jit(lambda x, memory, where: spec.stream(params, x, memory, where))
    memory, ys = None, []
    for t in range(steps):
        y, memory = stream(x[t : t + 1], memory, where[t : t + 1])
        ys.append(y[0])
    assert np.abs(np.asarray(ys, np.float64) - want).max() < 1e-5


def test_an_outlier_at_first_costs_no_digits(rng):
    """A single element far from all later data is the origin; the variance must be no difference of large numbers."""
    x = rng.standard_normal((100, 1, 64)).astype(np.float32)
    x[0] = 1e4
    where = np.ones(x.shape, bool)
    where[0, 0, 1:] = False
    y, memory = jn.zoo.cumulative_group_norm(jnp.asarray(x), where=jnp.asarray(where))
    want = oracle(jn.zoo.CumulativeGroupNorm(), (None, None), x.astype(np.float64), where)
    np.testing.assert_allclose(y, want, atol=3e-5)
    np.testing.assert_allclose(memory.var[0, 0], x.astype(np.float64)[where].var(), rtol=2e-6)


def test_a_sequence_does_not_see_those_before_its_reset(rng):
    """Not even their rounding errors: huge data, or data that are no numbers, lie before the reset."""
    x = rng.standard_normal((6, 1, 4)).astype(np.float32)
    reset = np.zeros((6, 1), bool)
    reset[3] = True
    alone, _ = jn.zoo.cumulative_group_norm(jnp.asarray(x[3:]))
    for before in (1e15, np.inf, np.nan):
        x[:3] = before
        y, _ = jn.zoo.cumulative_group_norm(jnp.asarray(x), reset=jnp.asarray(reset))
        np.testing.assert_allclose(y[3:], alone, rtol=1e-6, atol=1e-6)


def test_one_step_is_layer_norm_and_the_last_step_of_one_feature_sees_all(rng):
    x = jnp.asarray(rng.standard_normal((5, 2, 6)), jnp.float32)
    y, _ = jn.zoo.cumulative_group_norm(x)
    np.testing.assert_allclose(y[0], jn.layer_norm(x[0]), rtol=1e-5, atol=1e-6)
    y, _ = jn.zoo.cumulative_group_norm(x, num_groups=3)
    np.testing.assert_allclose(y[-1], jn.group_norm(jnp.moveaxis(x, 0, 1), num_groups=3)[:, -1], rtol=1e-5, atol=1e-6)


def test_gradients_against_finite_differences(rng, x64):
    x = rng.standard_normal((4, 2, 6)) + 2
    weights, along = rng.standard_normal((2, 4, 2, 6))
    where, reset = jnp.asarray(rng.random((4, 2, 6)) < 0.7), jnp.asarray(rng.random((4, 2)) < 0.4)

    @jax.jit
    def loss(x):
        y, memory = jn.zoo.cumulative_group_norm(x, num_groups=2, where=where, reset=reset)
        return jnp.sum(y * weights) + jnp.sum(jnp.sin(memory.origin + memory.shift) + memory.var)

    slope = (loss(x + 1e-6 * along) - loss(x - 1e-6 * along)) / 2e-6
    np.testing.assert_allclose(jnp.sum(jax.grad(loss)(x) * along), slope, rtol=1e-6)


@pytest.fixture
def unhooked():
    """Without the run-time checks of annotations that pytest adds: users have only our own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_any_number_of_steps_in_an_exported_program(rng, unhooked):
    (t,) = export.symbolic_shape("t")
    free = jax.ShapeDtypeStruct((t, 2, 6), jnp.float32), jax.ShapeDtypeStruct((t, 2), bool)
    run = jax.jit(lambda x, reset: jn.zoo.cumulative_group_norm(x, num_groups=-1, reset=reset)[0])
    program = export.export(run)(*free)
    x, reset = rng.standard_normal((5, 2, 6)).astype(np.float32), rng.random((5, 2)) < 0.4
    np.testing.assert_allclose(program.call(x, reset), run(x, reset), rtol=1e-5, atol=1e-5)


X = jnp.ones((5, 2, 6))
MEMORY = jn.zoo.CumulativeStats(*(jnp.ones((3, 1)) for _ in range(4)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_groups": 4}, ValueError, r"num_groups=4 must divide the number of features F = 6"),
        ({"axis": (0, -1)}, ValueError, r"axis=\(0, -1\) must not name the time axis"),
        ({"axis": 1}, ValueError, r"axis=1 must contain feature_axis=-1"),
        ({"memory": MEMORY}, ValueError, r"memory.origin must have shape \(\*B, G\) = \(2, 1\), got \(3, 1\)"),
        ({"reset": jnp.ones((5, 3), bool)}, ValueError, r"reset must have shape \(T, \*B\) = \(5, 2\), got \(5, 3\)"),
        ({"reset": jnp.ones((5, 2, 6), bool)}, ValueError, r"reset must have the shape \(T, \*B\) = \(5, 2\), got"),
        ({"reset": jnp.ones((5, 2))}, TypeError, r"reset must be a boolean array"),
    ],
)
def test_what_does_not_fit_is_named(unhooked, options, error, message):
    with pytest.raises(error, match=r"cumulative_group_norm: " + message):
        jn.zoo.cumulative_group_norm(X, **options)


def test_no_site_of_a_cell_takes_it():
    with pytest.raises(ValueError, match=r"CumulativeGroupNorm.* cannot be used inside a cell"):
        jn.elman(3, norm=jn.zoo.CumulativeGroupNorm())
