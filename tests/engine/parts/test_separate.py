"""The proof that no example looks at another: programs that have to pass, and programs that must not."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jaxnorm as jn
from jaxnorm.engine.parts.separate import separate

BATCH, FEATURES = 6, 4
X = jnp.ones((BATCH, FEATURES))
TABLE = jnp.arange(20.0).reshape(5, 4)


def is_separate(function, x=X, axis=0, shared=None, result=0):
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        program = jax.make_jaxpr(function)(x, shared)
    return separate(program.jaxpr, [axis, *(None for _ in jax.tree.leaves(shared))], [result] * len(program.out_avals))


def attention(x, memory):
    weights = jax.nn.softmax(x @ memory.T)
    return weights @ memory


def loop(x, _):
    return lax.fori_loop(0, 3, lambda k, h: jnp.tanh(h + x) * k, jnp.zeros_like(x))


def scan(x, kernel):
    def one(h, row):
        h = jnp.tanh(h @ kernel + row[:, None])
        return h, h.sum(-1)

    return lax.scan(one, jnp.zeros((BATCH, FEATURES)), x.T)[0]


def cond(x, flag):
    return lax.cond(flag, lambda x: x, lambda x: jnp.zeros_like(x), x)


@jax.custom_vjp
def clipped(h):
    return h


clipped.defvjp(lambda h: (h, None), lambda _, g: (g / jnp.sqrt((g**2).sum()),))


SEPARATE = {
    "elementwise": lambda x, _: jnp.where(x > 0, jnp.tanh(x) ** 2, -1.0),
    "bias": lambda x, _: x + jnp.arange(4.0),
    "rows are normalized": lambda x, _: (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True),
    "matrix": lambda x, _: x @ TABLE.T,
    "matrix at the left": lambda x, _: (TABLE @ x.T).T,
    "batched matrix": lambda x, _: jnp.einsum("bi,bj->bij", x, x).sum(-1),
    "heads": lambda x, _: jnp.einsum("bhi,hij->bhj", x.reshape(BATCH, 2, 2), jnp.ones((2, 2, 3))).reshape(BATCH, 6),
    "sorted features": lambda x, _: jnp.sort(x, axis=-1),
    "cumulative features": lambda x, _: jnp.cumsum(x, axis=1)[:, ::-1],
    "halves": lambda x, _: jnp.concatenate(jnp.split(x, 2, axis=-1)[::-1], axis=-1),
    "padded features": lambda x, _: jnp.pad(x, ((0, 0), (1, 2))),
    "some features": lambda x, _: x[:, jnp.array([2, 0])],
    "look up": lambda x, _: TABLE[x[:, 0].astype(int)],
    "look up in its own row": lambda x, _: jnp.take_along_axis(x, x[:, :2].astype(int), axis=1),
    "largest": lambda x, _: x.argmax(-1),
    "attention": lambda x, _: attention(x, TABLE),
    "a loop": loop,
    "checkpoint": lambda x, _: jax.checkpoint(jnp.tanh)(x),
    "mapped": lambda x, _: jax.vmap(lambda row: row @ jnp.outer(row, row))(x),
    "keys of their own": lambda x, _: jax.vmap(
        lambda row: jax.random.normal(jax.random.wrap_key_data(row[:2].astype(jnp.uint32)), (3,))
    )(x),
    "a key folded with its own number": lambda x, _: jax.vmap(
        lambda row: jax.random.uniform(jax.random.fold_in(jax.random.key(0), row[0].astype(int)), (3,))
    )(x),
    "numbers of other bits": lambda x, _: x + lax.bitcast_convert_type(jnp.zeros((4, 4), "uint8"), "uint32")[None],
    "stacked": lambda x, _: jnp.stack([x, -x], axis=-1).reshape(BATCH, -1),
    "the two largest": lambda x, _: jax.lax.top_k(x, 2)[0],
    "named": lambda x, _: checkpoint_name(jnp.log2(x), "h"),
    "a derivative inside": lambda x, _: jax.vmap(jax.grad(lambda row: jnp.tanh(row).sum()))(x),
    "tiled features": lambda x, _: jnp.tile(x, (1, 2)),
    "nothing of the example": lambda x, _: jnp.zeros((BATCH, 2)),
    "merged with steps and split again": lambda x, _: jnp.tanh(
        jnp.broadcast_to(x, (5, BATCH, FEATURES)).reshape(5 * BATCH, 2, 2)
    ).reshape(5, BATCH, FEATURES)[2],
    "all in one axis": lambda x, _: jnp.tanh(x.reshape(-1)).reshape(BATCH, 2, 2),
    "a slice": lambda x, _: lax.dynamic_slice_in_dim(x, 1, 2, axis=1),
    "an update": lambda x, _: x.at[:, 1].set(x[:, 0]),
    "an update at places of its own": lambda x, _: jax.vmap(lambda row: row.at[row[0].astype(int)].add(1.0))(x),
}

TOGETHER = {
    "batch mean": lambda x, _: x - x.mean(0),
    "largest of the batch": lambda x, _: x / jnp.abs(x).max(),
    "softmax over the batch": lambda x, _: jax.nn.softmax(x, axis=0),
    "similarities": lambda x, _: x @ x.T,
    "neighbor": lambda x, _: x + jnp.roll(x, 1, axis=0),
    "backwards": lambda x, _: x[::-1],
    "sorted examples": lambda x, _: jnp.sort(x, axis=0),
    "cumulative over the batch": lambda x, _: jnp.cumsum(x, axis=0),
    "an update of one example": lambda x, _: x.at[1].set(0.0),
    "an update by place": lambda x, _: x.at[jnp.arange(BATCH), x[:, 0].astype(int)].set(0.0),
    "the first": lambda x, _: x - x[:1],
    "permuted": lambda x, _: x[jnp.array([1, 0, 3, 2, 5, 4])],
    "place": lambda x, _: x + jnp.arange(BATCH)[:, None],
    "noise by place": lambda x, _: x + jax.random.normal(jax.random.key(0), x.shape),
    "noise of one key alone": lambda x, _: jax.random.normal(jax.random.key(0), x.shape),
    "merged with steps, split otherwise": lambda x, _: (
        jnp.broadcast_to(x, (5, BATCH, FEATURES)).reshape(5 * BATCH, FEATURES).reshape(BATCH, 5, FEATURES)[:, 0]
    ),
    "sorted with steps": lambda x, _: jnp.sort(
        jnp.broadcast_to(x, (5, BATCH, FEATURES)).reshape(5 * BATCH, FEATURES), axis=0
    ).reshape(5, BATCH, FEATURES)[0],
    "folded features and examples": lambda x, _: jnp.tanh(x.reshape(-1)).reshape(3, -1).mean(0),
    "until all are done": lambda x, _: lax.while_loop(lambda h: h.sum() < 3, lambda h: h + 1, x),
    "a branch for all": lambda x, _: lax.cond(x.sum() > 0, jnp.tanh, jnp.sin, x),
    "a mean in a loop": lambda x, _: lax.fori_loop(0, 2, lambda k, h: h - h.mean(0), x),
    "a mean in a scan": lambda x, _: lax.scan(lambda h, _: (h - h.mean(0), None), x, length=2)[0],
    "a derivative of one's own": lambda x, _: clipped(x),
    "a key of one number": lambda x, _: (
        x + jax.random.normal(jax.random.wrap_key_data(jnp.zeros(2, "uint32")), x.shape)
    ),
    "another generator": lambda x, _: jax.vmap(
        lambda row: jax.random.normal(jax.random.wrap_key_data(row.astype(jnp.uint32), impl="rbg"), (3,))
    )(x),
    "places in a sum of two": lambda x, _: lax.reduce(
        (x, jnp.broadcast_to(jnp.arange(float(BATCH))[:, None], x.shape)),
        (0.0, 0.0),
        lambda a, b: (a[0] + b[0] + a[1] + b[1], a[1] + b[1]),
        (1,),
    )[0],
    "a window over the batch": lambda x, _: lax.reduce_window(x, np.float32(0), lambda a, b: a, (2, 1), (1, 1), "SAME"),
    "by place on a mesh": lambda x, _: jax.shard_map(
        lambda x: x + lax.axis_index("d"),
        mesh=jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,)),
        in_specs=P("d"),
        out_specs=P("d"),
    )(x),
    "stacked examples": lambda x, _: jnp.stack(list(x)),
    "no rule": lambda x, _: jnp.linalg.qr(x)[0],
}


@pytest.mark.parametrize("name", SEPARATE)
def test_examples_by_themselves(name):
    assert is_separate(SEPARATE[name])


@pytest.mark.parametrize("name", TOGETHER)
def test_examples_that_look_at_others(name):
    assert not is_separate(TOGETHER[name])


def test_with_arguments_that_all_share():
    assert is_separate(scan, shared=jnp.ones((FEATURES, FEATURES)))
    assert is_separate(cond, shared=True)
    assert is_separate(attention, shared=TABLE)
    assert not is_separate(lambda x, noise: x + noise, shared=X)
    assert is_separate(lambda x, bias: x + bias, shared=jnp.ones((1, FEATURES)))


def test_a_derivative_of_ones_own_of_what_all_share():
    """It gets the gradient of a weight, which is a sum over all examples."""
    assert not is_separate(lambda x, bias: x + clipped(bias), shared=jnp.ones((1, FEATURES)))


def test_other_axes_than_the_first():
    assert is_separate(lambda x, _: jnp.cumsum(x, axis=0).T, axis=1)
    assert not is_separate(lambda x, _: jnp.cumsum(x, axis=1).T, axis=1)
    assert not is_separate(lambda x, _: x.T, axis=1, result=1)
    image = jnp.ones((BATCH, 5, 5, 2))
    kernel = jnp.ones((3, 3, 2, 3))
    convolve = partial(
        lax.conv_general_dilated, window_strides=(1, 1), padding="SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert is_separate(convolve, image, shared=kernel)
    assert not is_separate(convolve, image, axis=3, shared=kernel, result=3)


def outputs(cell, params, xs, kind=None, **options):
    """On one device, or with the batch spread over two."""
    if kind is None:
        return np.asarray(jn.unroll(cell, params, xs, **options).outputs)
    with jax.set_mesh(jax.make_mesh((2,), ("data",), axis_types=(kind,))):
        return np.asarray(jn.unroll(cell, params, jax.device_put(xs, P(None, "data")), **options).outputs)


def mean_over_the_batch(params, h, x):
    h = jnp.tanh(x @ params + h)
    h = h - h.mean(0, keepdims=True)
    return h, h


def noise_from_params(params, h, x):
    h = h + jax.random.normal(params, h.shape) + 0 * x[..., :1]
    return h, h


@pytest.mark.usefixtures("spread")
@pytest.mark.parametrize("method", ["chunked", "scan"])
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize(
    ("function", "params"), [(mean_over_the_batch, jnp.ones((2, 3)) / 2), (noise_from_params, jax.random.key(1))],
    ids=["mean", "noise"],
)  # fmt: skip
def test_a_step_of_ones_own_that_looks_across_the_batch(kind, method, function, params, rng):
    cell = jn.FunctionCell(function, jnp.zeros(3))
    xs = jnp.asarray(rng.normal(size=(3, 4, 2)), jnp.float32)
    expected = outputs(cell, params, xs, method=method)
    np.testing.assert_allclose(outputs(cell, params, xs, kind, method=method), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("spread")
def test_a_derivative_of_ones_own_sees_the_whole_batch(rng):
    """The cotangents of all examples are clipped together."""

    def step(params, h, x):
        h = clipped(jnp.tanh(x @ params + h))
        return h, h

    cell, xs = jn.FunctionCell(step, jnp.zeros(3)), jnp.asarray(rng.normal(size=(3, 4, 2)), jnp.float32)
    params = jnp.asarray(rng.normal(size=(2, 3)), jnp.float32)

    def slope(params, xs):
        return jax.grad(lambda params: jnp.sum(jn.unroll(cell, params, xs, method="scan").outputs ** 2))(params)

    expected = slope(params, xs)
    with jax.set_mesh(jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))):
        np.testing.assert_allclose(slope(params, jax.device_put(xs, P(None, "data"))), expected, rtol=1e-5, atol=1e-6)
