"""``FunctionCell``: a step of one's own is the ``lax.scan`` over it, with all that ``unroll`` adds."""

import functools
import pickle
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax import export

import jaxnorm as jn
from tests.cells import function_steps as steps
from tests.cells.function_steps import DECODER, HIDDEN, IN, STATE_SPACE, STATE_SPACE_PARAMS, same, scan

METHODS = {
    "one chunk": {},
    "chunks of 2": {"chunk": 2},
    "chunks of 3, one carry each": {"chunk": 3, "save": "chunks"},
    "scan": {"method": "scan"},
}


@pytest.fixture
def unhooked():
    """Without the run-time checks of annotations that pytest adds: a symbol in the place of a size is no int."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def inputs(rng, time=5, batch=(2,)):
    return jnp.asarray(rng.standard_normal((time, *batch, IN)), jnp.float32)


def total(carry, ys):
    """A number that every floating-point result has a part in."""
    leaves = [leaf for leaf in jax.tree.leaves((carry, ys)) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return sum(jnp.sum(jnp.sin(leaf + k)) for k, leaf in enumerate(leaves))


@pytest.mark.parametrize("method", METHODS)
def test_a_state_space_model_is_the_scan_over_it_with_gradients_masks_and_resets(method, rng):
    """Integers, booleans, raw and typed keys in the carry: masks select them, resets restore them."""
    xs, where, reset = inputs(rng), jnp.asarray(rng.random((5, 2)) < 0.7), jnp.asarray(rng.random((5, 2)) < 0.4)
    assert 0 < where.sum() < where.size
    assert reset.any()
    start = steps.state_space_start((2,))
    first = steps.state_space_start((2,), key=jax.random.key(8)) | {"count": jnp.array([4, 7], jnp.int32)}

    def value(run):
        def of(params, xs, deter):
            carry, ys = run(params, {**first, "deter": deter}, xs)
            return total(carry, ys), (carry, ys)

        return jax.jit(jax.value_and_grad(of, argnums=(0, 1, 2), has_aux=True))(
            STATE_SPACE_PARAMS, xs, jnp.asarray(rng.standard_normal((2, HIDDEN)), jnp.float32)
        )

    def ours(params, carry, xs):
        padded = jnp.where(where[..., None], xs, jnp.nan)
        out = jn.unroll(STATE_SPACE, params, padded, carry=carry, where=where, reset=reset, **METHODS[method])
        return out.carry, out.outputs

    def oracle(params, carry, xs):
        xs = jnp.where(where[..., None], xs, 0.0)
        return scan(steps.state_space, params, carry, xs, where, reset, start)

    state = rng.bit_generator.state
    got = value(ours)
    rng.bit_generator.state = state
    same(got, value(oracle))


def test_a_learned_start_gets_the_gradients_of_all_resets(rng):
    params, xs = DECODER.init(jax.random.key(0), IN), inputs(rng)
    reset = jnp.asarray(rng.random((5, 2)) < 0.5)

    def ours(params):
        out = jn.unroll(DECODER, params, xs, reset=reset, chunk=2)
        return total(out.carry, out.outputs)

    def oracle(params):
        start = steps.decoder_start((2,), params)
        return total(*scan(steps.decoder, params, start, xs, reset=reset, start=start))

    same(jax.jit(jax.value_and_grad(ours))(params), jax.jit(jax.value_and_grad(oracle))(params))


def test_lengths_in_reverse_and_layout_of_trees_of_outputs(rng):
    xs, lengths = inputs(rng, batch=(3,)), jnp.array([5, 2, 0])
    params = DECODER.init(jax.random.key(1), IN)
    out = jn.unroll(DECODER, params, xs.swapaxes(0, 1), lengths=lengths, reverse=True, time_axis=1)
    for example, length in enumerate(lengths):
        start = steps.decoder_start((), params)
        carry, ys = scan(steps.decoder, params, start, xs[:length, example][::-1])
        same(jax.tree.map(lambda a, e=example: a[e], out.carry), carry)
        same(jax.tree.map(lambda a, e=example, n=length: a[e, :n][::-1], out.outputs), ys)
        assert not any(np.any(y[example, length:]) for y in out.outputs)


def test_pieces_equal_the_whole_and_truncation_cuts_gradients(rng):
    xs, params = inputs(rng, 6), STATE_SPACE_PARAMS
    whole = jn.unroll(STATE_SPACE, params, xs)
    first = jn.unroll(STATE_SPACE, params, xs[:4])
    rest = jn.unroll(STATE_SPACE, params, xs[4:], carry=first.carry)
    same(rest.carry, whole.carry)
    same(jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first.outputs, rest.outputs), whole.outputs)

    def last(xs, **options):
        return jnp.sum(jn.unroll(STATE_SPACE, params, xs, **options).outputs["feature"][-1])

    slope = jax.grad(functools.partial(last, truncate=2))(xs)
    assert not np.any(slope[:4])
    assert np.any(slope[4:])


class Room(NamedTuple):
    position: Any
    episodes: Any


ENVIRONMENT = jn.FunctionCell(steps.environment, Room(0, 0), params_init=lambda key, in_features: ())


def test_an_environment_takes_integers_and_no_weights():
    actions = jnp.asarray(np.random.default_rng(0).integers(0, 3, (30, 2, 1)))
    start = Room(jnp.zeros(2, jnp.int32), jnp.zeros(2, jnp.int32))
    expected = scan(steps.environment, (), start, actions)
    for options in ({}, {"chunk": 4, "time_axis": 1}, {"method": "scan"}):
        axis = options.get("time_axis", 0)
        out = jn.unroll(ENVIRONMENT, (), jnp.moveaxis(actions, 0, axis), **options)
        same((out.carry, jax.tree.map(lambda y, a=axis: jnp.moveaxis(y, a, 0), out.outputs)), expected)
    assert expected[0].episodes.sum() > 0
    assert ENVIRONMENT.init(jax.random.key(0), 1) == ()


def test_no_outputs_and_no_carry(rng):
    xs = inputs(rng)
    silent = jn.FunctionCell(lambda params, carry, x: (carry + x[..., 0], None), jnp.zeros(()))
    out = jn.unroll(silent, (), xs)
    assert out.outputs is None
    np.testing.assert_allclose(out.carry, xs[..., 0].sum(0), rtol=1e-5)
    stateless = jn.FunctionCell(lambda params, carry, x: (carry, params * x), ())
    slope = jax.grad(lambda p: jn.unroll(stateless, p, xs, chunk=2).outputs.sum())(jnp.float32(2.0))
    np.testing.assert_allclose(slope, xs.sum(), rtol=1e-4)


def test_a_complex_state_and_its_gradient(rng):
    """A diagonal linear network: complex numbers in the carry and in the weights."""

    def step(params, carry, x):
        h = params["decay"][None] * carry + x.astype("complex64") @ params["kernel"]
        return h, (h @ params["head"]).real

    draw = lambda *shape: jnp.asarray(0.5 * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)), "complex64")  # noqa: E731
    params = {"decay": draw(HIDDEN), "kernel": draw(IN, HIDDEN), "head": draw(HIDDEN, 2)}
    xs, start = inputs(rng), jnp.zeros((2, HIDDEN), "complex64")
    cell = jn.FunctionCell(step, jnp.zeros(HIDDEN, "complex64"))

    def loss(run):
        return jax.jit(jax.value_and_grad(lambda p: jnp.sum(jnp.sin(run(p)))))(params)

    same(loss(lambda p: jn.unroll(cell, p, xs, chunk=2).outputs), loss(lambda p: scan(step, p, start, xs)[1]))


def test_the_same_function_is_traced_no_more_than_once():
    def step(params, carry, x):
        return carry + params * x[..., 0], carry

    @chex.assert_max_traces(n=6)  # a few for one program: its shapes, the loop, the remainder
    def counted(params, carry, x):
        return step(params, carry, x)

    chex.clear_trace_counter()
    cell = jn.FunctionCell(counted, 0.0)
    for k in range(4):
        jn.unroll(cell, jnp.float32(k), jnp.full((5, 2, 1), k, jnp.float32))
        jn.unroll(jn.FunctionCell(counted, 0.0, params_init=lambda key, n: 1.0), jnp.float32(k), jnp.ones((5, 2, 1)))


def test_specs_are_values():
    cell = jn.FunctionCell(steps.state_space, {"h": np.arange(3.0), "key": jax.random.key(1), "n": 2})
    again = jn.FunctionCell(steps.state_space, {"h": np.arange(3.0), "key": jax.random.key(1), "n": 2})
    assert cell == again
    assert hash(cell) == hash(again)
    assert cell != jn.FunctionCell(steps.state_space, {"h": np.arange(3.0), "key": jax.random.key(2), "n": 2})
    assert pickle.loads(pickle.dumps(DECODER)) == DECODER
    assert isinstance(cell, jn.Cell)


def test_the_carry_of_one_example_is_that_of_each(rng):
    value = rng.standard_normal(3).astype(np.float32)
    tree = {"h": value, "zeros": jax.ShapeDtypeStruct((2,), jnp.bfloat16), "key": jax.random.key(5, impl="rbg"), "n": 2}
    cell = jn.FunctionCell(lambda params, carry, x: (carry, x), tree)
    carry = cell.initial_carry((2, 3))
    np.testing.assert_array_equal(carry["h"], np.broadcast_to(value, (2, 3, 3)))
    assert (carry["zeros"].shape, carry["zeros"].dtype) == ((2, 3, 2), jnp.bfloat16)
    assert (carry["n"].tolist(), carry["n"].dtype) == ([[2] * 3] * 2, jnp.int32)
    assert carry["key"].dtype == jax.random.key(5, impl="rbg").dtype
    np.testing.assert_array_equal(
        jax.random.key_data(carry["key"])[1, 2], jax.random.key_data(jax.random.key(5, impl="rbg"))
    )


def test_a_start_gets_what_it_has_a_name_for(rng):
    given = {}

    def start(batch_shape, *, key, dtype):
        given.update(key=key, dtype=dtype)
        return jax.random.normal(key, (*batch_shape, 2), dtype)

    cell = jn.FunctionCell(lambda params, carry, x: (carry, carry), start)
    key = jax.random.key(4)
    out = jn.unroll(cell, (), jnp.ones((3, 2, 1), jnp.bfloat16), key=key)
    assert given["dtype"] == out.outputs.dtype == jnp.bfloat16
    np.testing.assert_array_equal(out.outputs[0], jax.random.normal(jax.random.split(key, 3)[0], (2, 2), jnp.bfloat16))
    with pytest.raises(ValueError, match=r"carry_init takes key, but key is None\. Pass key=jax\.random\.key"):
        jn.unroll(cell, (), jnp.ones((3, 2, 1)))


# ---- transformations


def test_forward_mode_vmap_and_gradients_of_maps(rng):
    xs, params = inputs(rng), DECODER.init(jax.random.key(2), IN)

    def loss(params, xs, **options):
        return total(*jn.unroll(DECODER, params, xs, **options)[1::-1])

    def oracle(params, xs):
        return total(*scan(steps.decoder, params, steps.decoder_start(xs.shape[1:-1], params), xs))

    tangent = jax.tree.map(lambda leaf: jnp.cos(leaf), params)
    forward = jax.jvp(lambda p: loss(p, xs, method="scan"), (params,), (tangent,))
    same(forward, jax.jvp(lambda p: oracle(p, xs), (params,), (tangent,)))
    with pytest.raises(TypeError, match="method='scan'"):
        jax.jvp(lambda p: loss(p, xs), (params,), (tangent,))
    each = jax.grad(lambda p: jax.vmap(loss, (None, 1))(p, xs).sum())
    same(jax.jit(each)(params), jax.grad(lambda p: jax.vmap(oracle, (None, 1))(p, xs).sum())(params))
    many = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a]), params)
    got = jax.jit(jax.vmap(jax.grad(functools.partial(loss, chunk=2)), (0, None)))(many, xs)
    same(got, jax.vmap(jax.grad(oracle), (0, None))(many, xs))


def test_second_derivatives(rng):
    xs, params = inputs(rng, 3), DECODER.init(jax.random.key(2), IN)

    def squared(loss):
        slope = lambda head: jax.grad(lambda p: loss({**params, "start": p}))(head)  # noqa: E731
        return jax.jit(jax.grad(lambda p: jnp.sum(slope(p) ** 2)))(params["start"])

    ours = squared(lambda p: total(*jn.unroll(DECODER, p, xs)[1::-1]))
    same(ours, squared(lambda p: total(*scan(steps.decoder, p, steps.decoder_start((2,), p), xs))))


def test_export_with_a_free_batch(rng, unhooked):
    (b,) = export.symbolic_shape("b")
    params = DECODER.init(jax.random.key(0), IN)

    def loss(params, xs):
        out = jn.unroll(DECODER, params, xs)
        return total(out.carry, out.outputs)

    program = jax.jit(jax.value_and_grad(loss))
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), params)
    exported = export.export(program)(shapes, jax.ShapeDtypeStruct((5, b, IN), jnp.float32))
    again = export.deserialize(exported.serialize(vjp_order=0))
    for batch in (1, 3):
        xs = inputs(rng, batch=(batch,))
        same(again.call(params, xs), program(params, xs))


# ---- with other cells


def test_stacks_directions_and_wrappers(rng):
    """A decoder on top of an LSTM, an own step in both directions, and reparametrized weights of an own step."""
    xs, lstm, params = inputs(rng), jn.lstm(IN), DECODER.init(jax.random.key(2), IN)
    weights = lstm.init(jax.random.key(0), IN)
    out = jn.stack((lstm, DECODER), (weights, params), xs)
    below = jn.unroll(lstm, weights, xs)
    same(out.outputs, jn.unroll(DECODER, params, below.outputs).outputs)
    merge = functools.partial(jax.tree.map, lambda a, b: a + b)
    both = jn.bidirectional((DECODER, DECODER), (params, params), xs, merge=merge)
    there, back = jn.unroll(DECODER, params, xs), jn.unroll(DECODER, params, xs, reverse=True)
    same(both.outputs, merge(there.outputs, back.outputs))
    assert jn.deterministic(DECODER) is DECODER


@pytest.mark.parametrize("method", ["chunked", "scan"])
def test_carries_of_all_steps_beside_integers(method):
    """The gradient goes through the floats; the integers count the real steps."""

    def step(params, carry, x):
        h = jnp.tanh(x @ params["kernel"] + params["decay"] * carry["h"])
        return {"h": h, "steps": carry["steps"] + 1}, h

    cell = jn.FunctionCell(step, {"h": jnp.zeros(4), "steps": 0})
    params = {"kernel": jnp.full((3, 4), 0.1), "decay": jnp.full((1, 4), 0.5)}
    xs = jnp.linspace(-1.0, 1.0, 30).reshape(5, 2, 3)

    def run(params):
        return jn.unroll(cell, params, xs, return_carries=True, method=method, lengths=jnp.array([5, 3]))

    def loop(params):
        h, total = jnp.zeros((2, 4)), 0.0
        for t in range(5):
            real = jnp.array([t < 5, t < 3])[:, None]
            h = jnp.where(real, jnp.tanh(xs[t] @ params["kernel"] + params["decay"] * h), h)
            total = total + jnp.sum(h**2)
        return total

    out = run(params)
    assert out.carries["steps"].T.tolist() == [[1, 2, 3, 4, 5], [1, 2, 3, 3, 3]]
    got = jax.grad(lambda params: jnp.sum(run(params).carries["h"] ** 2))(params)
    chex.assert_trees_all_close(got, jax.grad(loop)(params), rtol=1e-5)


def test_a_learned_start_in_single_steps():
    def begin(batch_shape, params):
        return {"h": jnp.broadcast_to(params["start"], (*batch_shape, 2))}

    cell = jn.FunctionCell(lambda params, carry, x: ({"h": carry["h"] + x}, carry["h"]), begin)
    params = {"start": jnp.array([1.0, 2.0])}
    carry, y = jn.step(cell, params, None, jnp.ones((3, 2)))
    assert y.tolist() == [[1.0, 2.0]] * 3
    carry, y = jn.step(cell, params, carry, jnp.ones((3, 2)))
    assert y.tolist() == [[2.0, 3.0]] * 3
