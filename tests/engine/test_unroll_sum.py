"""Sums over time inside the loop: values and gradients of ``unroll``, then the function at each step, then a sum."""

import itertools
import re
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm.engine.arguments.program_keys import program_key
from jaxnorm.engine.loops.blocks import block_length
from jaxnorm.engine.unroll_sum import read_length
from tests import cases
from tests.cells import oracles
from tests.tools.marks import mostly_heavy

STEPS, BATCH, CLASSES = 7, 3, 5
count = itertools.count()
close = partial(chex.assert_trees_all_close, rtol=1e-9, atol=1e-9)


def losses(head, y, target):
    """Several sums in one tree: a cross entropy, a vector for each example, a count."""
    logits = jax.nn.log_softmax(y @ head["kernel"] + jnp.broadcast_to(head["bias"], (*y.shape[:-1], CLASSES)))
    loss = -jnp.take_along_axis(logits, target["word"][..., None], axis=-1)[..., 0]
    error = jnp.square(logits - target["wish"])
    return {"loss": loss, "error": error, "right": jnp.argmax(logits, -1) == target["word"]}


def drawn(cell, rng, dtype=jnp.float64):
    """Random weights, inputs, head and targets, time first."""
    params = cases.random_cell_params(cell, rng, dtype=dtype)
    xs = cases.random_inputs(rng, STEPS, (BATCH,), dtype)
    head = {
        "kernel": jnp.asarray(rng.standard_normal((cell.out_features, CLASSES)), dtype),
        "bias": jnp.asarray(rng.standard_normal(CLASSES), dtype),
    }
    targets = {
        "word": jnp.asarray(rng.integers(0, CLASSES, (STEPS, BATCH))),
        "wish": jnp.asarray(rng.standard_normal((STEPS, BATCH, CLASSES)), dtype),
    }
    return params, xs, head, targets


def plain(cell, params, xs, function, head, targets, *, where=None, lengths=None, time_axis=0, **options):
    """``unroll``, then the function at each step, then a sum over the real steps."""
    out = jn.unroll(cell, params, xs, where=where, lengths=lengths, time_axis=time_axis, **options)
    first = partial(jax.tree.map, lambda leaf: jnp.moveaxis(leaf, time_axis, 0))
    values = jax.vmap(partial(function, head))(first(out.outputs), first(targets))
    real = jnp.ones((STEPS, BATCH), bool) if where is None else first(where)
    real = real if lengths is None else real & (jnp.arange(STEPS)[:, None] < lengths[None])
    sums = jax.tree.map(lambda v: jnp.sum(v * real.reshape(real.shape + (1,) * (v.ndim - 2)), 0), values)
    return jn.Summed(sums, out.carry, out.moments)


def gradients(run, cell, **options):
    """What a run gives, and the gradients of a number that depends on every part of it."""

    def total(params, xs, head, wish, carry, words):
        given = options if carry is None else {**options, "carry": carry}
        out = run(cell, params, xs, losses, head, {"word": words, "wish": wish}, **given)
        seen = [leaf for leaf in jax.tree.leaves(out) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return sum(jnp.sum(jnp.sin(leaf + 0.1 * jnp.arange(leaf.size).reshape(leaf.shape))) for leaf in seen), out

    # The weights of the sum are float64 beside the leaves of statistics, which may be float32.
    with jax.numpy_dtype_promotion("standard"):
        run_all = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2, 3, 4), has_aux=True))
    return run_all


def check_same(cell, rng, carry=None, plain_options=None, **options):
    params, xs, head, targets = drawn(cell, rng)
    if options.get("time_axis"):
        xs, targets = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), (xs, targets))
    given = (params, xs, head, targets["wish"], carry, targets["word"])
    loop = {key: value for key, value in options.items() if key != "block"} | (plain_options or {})
    with jax.numpy_dtype_promotion("standard"):
        got = gradients(jn.unroll_sum, cell, **options)(*given)
        expected = gradients(plain, cell, **loop)(*given)
    close(got, expected)


def where_and_reset(axis=0):
    rng = np.random.default_rng(7)
    where, reset = rng.random((STEPS, BATCH)) < 0.7, rng.random((STEPS, BATCH)) < 0.3
    return {"where": jnp.asarray(np.moveaxis(where, 0, axis)), "reset": jnp.asarray(np.moveaxis(reset, 0, axis))}


LSTM, BN = jn.ln_lstm(3, learn_carry=True), jn.bn_lstm(3, max_steps=3)
RUNS = {
    "blocks and chunks with remainders": (LSTM, {"chunk": 2, "block": 3}),
    "batch first, masks and resets": (LSTM, {"chunk": 2, "block": 4, "time_axis": 1, **where_and_reset(1)}),
    "batch statistics in reverse": (BN, {"block": 2, "lengths": jnp.array([7, 4, 0]), "reverse": True}),
    "batch statistics with masks in reverse": (BN, {"block": 3, "reverse": True, **where_and_reset()}),
    "truncated, a carry a chunk": (LSTM, {"truncate": 3, "chunk": 2, "block": 4, "save": "chunks"}),
    "plain loop": (BN, {"method": "scan", "block": 3, **where_and_reset()}),
    "associative": (jn.zoo.MinGRU(3), {"method": "associative", "block": 3, **where_and_reset()}),
    "masks of dropout": (
        jn.VariationalDropout(jn.RecurrentDropout(jn.ln_gru(3), rate=0.3), rate=0.4),
        {"key": jax.random.key(3), "block": 2},
    ),
    "a single block": (LSTM, {"block": STEPS, "chunk": 2}),
    "given statistics": (BN, {"block": 3, "stats": cases.random_stats(BN.initial_stats(), np.random.default_rng(3))}),
}  # fmt: skip


@pytest.mark.parametrize("name", mostly_heavy(RUNS, kept=2))
def test_it_is_unroll_then_the_function_then_a_sum(name, x64, rng):
    """Sums, carry and moments; gradients of weights, inputs, head and targets."""
    cell, options = RUNS[name]
    if "stats" in options:
        options = {**options, "stats": jax.tree.map(lambda leaf: leaf.astype(jnp.float64), options["stats"])}
    check_same(cell, rng, **options)


def test_a_carry_handed_in_gets_its_gradient(x64, rng):
    carry = jn.GRUCarry(jnp.asarray(rng.standard_normal((BATCH, 3))))
    check_same(jn.ln_gru(3), rng, carry=carry, block=3, chunk=2)


QUICK = ("bn_lstm", "function_cell", "min_gru")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.heavy] * (c.name not in QUICK)) for c in cases.CELLS], ids=str
)
def test_every_cell(case, x64, rng):
    check_same(case.cell, rng, block=3, **where_and_reset())


@pytest.mark.parametrize("reverse", [False, True])
def test_sums_are_those_of_numpy(reverse, x64, rng):
    """A loop over single examples and real steps, without jaxnorm or JAX."""
    cell = jn.ln_gru(3)
    params, xs, head, targets = drawn(cell, rng)
    lengths = (STEPS, 3, 0)
    real = jnp.array(lengths)
    out = jn.unroll_sum(cell, params, xs, losses, head, targets, lengths=real, reverse=reverse, chunk=2, block=3)
    data, kernel, bias, wish = (np.asarray(a) for a in (xs, head["kernel"], head["bias"], targets["wish"]))
    p = oracles.to_numpy(params)
    loss, error, right = np.zeros(BATCH), np.zeros((BATCH, CLASSES)), np.zeros(BATCH, int)
    for b, length in enumerate(lengths):
        h = np.zeros((1, 3))
        for t in reversed(range(length)) if reverse else range(length):
            (h,), y = oracles.ln_gru_step(p, (h,), data[t, b][None])
            z = y[0] @ kernel + bias
            logits = z - z.max() - np.log(np.exp(z - z.max()).sum())
            word = int(targets["word"][t, b])
            loss[b] -= logits[word]
            error[b] += (logits - wish[t, b]) ** 2
            right[b] += int(logits.argmax() == word)
        np.testing.assert_allclose(out.carry.h[b], h[0], rtol=1e-9)
    for got, expected in zip(jax.tree.leaves(out.sums), (error, loss, right), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9)


def cosine(head, y, target):
    """Not differentiable at zero."""
    y = y @ head
    norm = jnp.sqrt(jnp.sum(y * y, -1)) * jnp.sqrt(jnp.sum(target["wish"] ** 2, -1))
    return jnp.log(2.0 + jnp.sum(y * target["wish"], -1) / norm) + jnp.take(jnp.arange(3.0), target["word"])


def test_masked_steps_are_as_if_they_were_not_there(rng):
    """NaN in their inputs and targets, and functions whose derivative at zero is NaN."""
    cell = jn.ln_gru(3)
    params, xs, head, targets = drawn(cell, rng, jnp.float32)
    where = jnp.arange(STEPS)[:, None] < jnp.array([[4, STEPS, 4]])
    xs = jnp.where(where[..., None], xs, jnp.nan)
    targets = {"wish": jnp.where(where[..., None], targets["wish"], jnp.nan), "word": targets["word"] % 3}
    targets["word"] = jnp.where(where, targets["word"], -100)

    def total(params, xs, kernel, wish, **options):
        out = jn.unroll_sum(cell, params, xs, cosine, kernel, {**targets, "wish": wish}, block=3, **options)
        return out.sums.sum(), out

    by_all = jax.jit(jax.value_and_grad(partial(total, where=where), (0, 1, 2, 3), has_aux=True))
    (_, out), (by_params, by_xs, by_kernel, by_wish) = by_all(params, xs, head["kernel"], targets["wish"])
    chex.assert_tree_all_finite((by_params, by_xs, by_kernel, by_wish))
    assert not np.any(by_xs[~where])
    assert not np.any(by_wish[~where])
    targets = jax.tree.map(lambda leaf: leaf[:4], targets)
    (_, short), alone = jax.value_and_grad(total, (0, 1, 2, 3), has_aux=True)(
        params, xs[:4], head["kernel"], targets["wish"]
    )
    np.testing.assert_allclose(out.sums[::2], short.sums[::2], rtol=1e-5)
    np.testing.assert_allclose(by_wish[:4, ::2], alone[3][:, ::2], rtol=1e-4, atol=1e-6)


def test_narrow_numbers_add_up_in_wide_ones(rng):
    """In bfloat16 a sum of ones stops at 256."""
    cell = jn.elman(2, dtype=jnp.bfloat16)
    params = cell.init(jax.random.key(0), 1)

    def count(head, y, target):
        return head.astype(jnp.bfloat16) + jnp.zeros(y.shape[:-1], jnp.bfloat16), y[..., 0] > -2

    def total(head):
        out = jn.unroll_sum(cell, params, jnp.ones((700, 1, 1)), count, head, chunk=1)
        return out.sums[0].sum(), out.sums

    head = jnp.ones((), jnp.bfloat16)
    (_, (ones, steps)), gradient = jax.value_and_grad(total, has_aux=True)(head)
    assert (ones.dtype, steps.dtype, gradient.dtype) == (jnp.float32, jnp.int32, jnp.bfloat16)
    np.testing.assert_array_equal(ones, [700.0])
    np.testing.assert_array_equal(steps, [700])
    np.testing.assert_allclose(gradient, 700.0, rtol=0.005)


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("method", ["chunked", "scan"])
def test_no_step_and_one_without_batch(steps, method, rng):
    cell = jn.ln_gru(3)
    params, xs, head, targets = drawn(cell, rng, jnp.float32)
    xs, targets = jax.tree.map(lambda leaf: leaf[:steps, 0], (xs, targets))
    out = jn.unroll_sum(cell, params, xs, losses, head, targets, method=method)
    assert jax.tree.map(jnp.shape, out.sums) == {"loss": (), "error": (CLASSES,), "right": ()}
    assert bool(np.any(out.sums["loss"])) == (steps == 1)


@pytest.mark.parametrize(("steps", "chunk"), [(1, 8), (8, 8), (512, 8), (100, 10), (2**20, 64), (997, 16)])
def test_blocks_are_whole_chunks_near_the_root(steps, chunk):
    length = block_length(steps, chunk)
    assert length % chunk == 0
    root = max(steps**0.5, chunk)
    assert root / 3 < length < 3 * root


def test_what_a_function_makes_is_bounded():
    assert read_length(64, None, 512) == 64
    assert read_length(64, 512 * 2**10, 512) == 64
    assert read_length(64, 512 * 2**22, 512) == 4
    assert read_length(64, 512 * 2**30, 512) == 1


MESSAGES = {
    "order": (lambda run, p, x, h, t: run(p, x, h, losses, t), r"unroll_sum: function must be a function .* after xs"),
    "arguments": (
        lambda run, p, x, h, t: run(p, x, lambda h, y: y, h, t), r"function must be .* got one of \(h, y\)\. .* None",
    ),
    "layout": (
        lambda run, p, x, h, t: run(p, x, losses, h, {**t, "word": t["word"].T}),
        r"unroll_sum: targets\['word'\] must have shape .* = \(7, 3\), got \(3, 7\)",
    ),
    "mean": (
        lambda run, p, x, h, t: run(p, x, lambda *a: losses(*a)["loss"].mean(), h, t),
        r"unroll_sum: function\(\.\.\.\) must begin with the axes of the batch, \(3,\), got shape \(\)\. Return one",
    ),
    "nothing": (lambda run, p, x, h, t: run(p, x, lambda h, y, t: None, h, t), r"must return an array .* None"),
    "carry": (lambda run, p, x, h, t: run(p, x, losses, h, t, carry=jnp.ones((2, 3))), r"unroll_sum: carry"),
    "save": (lambda run, p, x, h, t: run(p, x, losses, h, t, save="all"), r"unroll_sum: save"),
    "block": (lambda run, p, x, h, t: run(p, x, losses, h, t, block=0), r"unroll_sum: block"),
    "hold": (lambda run, p, x, h, t: run(p, x, losses, h, t, masked_outputs="hold"), r"adds nothing to the sums"),
    "labels": (lambda run, p, x, h, t: run(p, x, losses, h, labels=t), r"Pass targets="),
    "carries": (lambda run, p, x, h, t: run(p, x, losses, h, t, return_carries=True), r"Call jaxnorm\.unroll"),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(name, unhooked, rng):
    cell = jn.ln_gru(3)
    params, xs, head, targets = drawn(cell, rng, jnp.float32)
    call, message = MESSAGES[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        call(partial(jn.unroll_sum, cell), params, xs, head, targets)
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)


class Reader:
    """What a Flax module is, in short: an object whose weights change."""

    def __init__(self, weights):
        self.weights = weights

    def loss(self, head, y, target):
        return y @ self.weights


def test_a_method_of_an_object_that_changes():
    cell = jn.gru(3)
    params, xs = cell.init(jax.random.key(0), 2), jnp.ones((4, 2, 2))
    reader, held = Reader(jnp.ones(3)), []

    def closure(head, y, target):
        return y @ held[0]

    def sums(weights, function):
        reader.weights = weights
        held[:] = [weights]
        return jn.unroll_sum(cell, params, xs, function, None).sums

    for function in (reader.loss, closure):
        once, twice = sums(jnp.ones(3), function), sums(jnp.full(3, 2.0), function)
        np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)
        slopes = [jax.grad(lambda w, f=function: sums(w, f).sum())(jnp.full(3, value)) for value in (1.0, 2.0)]
        np.testing.assert_allclose(*slopes, rtol=1e-6)


def test_a_function_that_holds_constants_is_compiled_once():
    cell, weights = jn.gru(3), jnp.ones(3)
    params, xs = cell.init(jax.random.key(0), 2), jnp.ones((4, 2, 2))

    def function(head, y, target, factor=weights):
        next(count)
        return y @ factor

    key = program_key(function)
    assert key is not None
    assert key == program_key(function)
    assert hash(key) == hash(program_key(function))
    assert key != program_key(lambda head, y, target: y)
    assert program_key(Reader(weights).loss) is None
    jn.unroll_sum(cell, params, xs, function, None)
    before = next(count)
    jn.unroll_sum(cell, params, xs, function, None)
    assert next(count) == before + 1, "traced again"
