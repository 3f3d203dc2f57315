"""The chunked method: values and gradients of the plain one, whatever the chunk, with only carries kept."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm.engine.loops.chunks import chunk_length
from tests import cases
from tests.contracts import cell_checks

pytestmark = pytest.mark.long

STEPS, BATCH, HIDDEN = 6, 3, 2
LN_LSTM = jn.ln_lstm(HIDDEN, learn_carry=True)
BN_LSTM = jn.bn_lstm(HIDDEN, max_steps=3)


def gradients(cell, where=None, reset=None, stats=None, **options):
    """All that ``unroll`` gives, and the gradients of a loss that sees every part of it."""

    def loss(params, carry, xs, stats):
        out = jn.unroll(cell, params, xs, carry=carry, where=where, reset=reset, stats=stats, **options)
        seen = [leaf for leaf in jax.tree.leaves(out) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return sum(
            jnp.sum(jnp.sin(leaf + jnp.arange(leaf.size, dtype=leaf.dtype).reshape(leaf.shape))) for leaf in seen
        ), out

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True, allow_int=True))


def arguments(cell, rng):
    """Random weights, carry, inputs and masks in float64."""
    cell = dataclasses.replace(cell, param_dtype=jnp.float64)
    draw = lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), jnp.float64)  # noqa: E731
    params = jax.tree.map(draw, cell.init(jax.random.key(0), 2))
    carry = jax.tree.map(
        lambda leaf: draw(leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf,
        cell.initial_carry((BATCH,), dtype=jnp.float64),
    )
    masks = {
        "where": jnp.asarray(rng.random((STEPS, BATCH)) < 0.8),
        "reset": jnp.asarray(rng.random((STEPS, BATCH)) < 0.3),
    }
    return cell, (params, carry, jnp.asarray(rng.standard_normal((STEPS, BATCH, 2)))), masks


def assert_same(got, expected):
    def compare(a, b):
        if a.dtype != jax.dtypes.float0:
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)

    jax.tree.map(compare, got, expected)


@pytest.mark.parametrize("cell", [LN_LSTM, BN_LSTM], ids=["ln_lstm", "bn_lstm"])
def test_it_is_the_scan(cell, rng, x64):
    """Masks, resets, a carry handed in; a last chunk that is shorter; fewer carries kept."""
    cell, given, masks = arguments(cell, rng)
    expected = gradients(cell, **masks, method="scan")(*given, None)
    assert_same(gradients(cell, **masks, chunk=4)(*given, None), expected)
    assert_same(gradients(cell, **masks, chunk=3, save="chunks")(*given, None), expected)


def test_in_reverse_with_statistics_and_truncation(rng, x64):
    """The gradient of running statistics, too."""
    cell, given, masks = arguments(BN_LSTM, rng)
    stats = jax.tree.map(lambda leaf: jnp.asarray(0.5 + rng.random(leaf.shape)), cell.initial_stats())
    options = {**masks, "reverse": True, "truncate": 2}
    expected = gradients(cell, **options, method="scan")(*given, stats)
    _, (_, of_carry, _, of_stats) = expected
    assert all(not leaf.any() for leaf in jax.tree.leaves(of_carry) if leaf.dtype != jax.dtypes.float0)
    assert any(leaf.any() for leaf in jax.tree.leaves(of_stats))
    assert_same(gradients(cell, **options, chunk=4)(*given, stats), expected)


def test_truncation_is_that_of_separate_calls(rng):
    """Stopping the gradient every three steps is calling with the carry of the last call, taken as a constant."""
    cell = jn.lstm(HIDDEN)
    params = cases.random_cell_params(cell, rng)
    xs = cases.random_inputs(rng, 6, (2,))

    def together(params):
        return jnp.sum(jn.unroll(cell, params, xs, truncate=3).outputs ** 2)

    def apart(params):
        first = jn.unroll(cell, params, xs[:3])
        rest = jn.unroll(cell, params, xs[3:], carry=jax.lax.stop_gradient(first.carry))
        return jnp.sum(first.outputs**2) + jnp.sum(rest.outputs**2)

    got, expected = jax.jit(jax.grad(together))(params), jax.jit(jax.grad(apart))(params)
    chex.assert_trees_all_close(got, expected, rtol=1e-5, atol=1e-6)


def test_mapped_examples_with_a_named_axis(rng):
    """Batch statistics over ``vmap``: the backward pass has collectives of its own."""
    xs = cases.random_inputs(rng, 4, (3,))
    params = cases.random_cell_params(jn.bn_lstm(HIDDEN, max_steps=2), rng)

    def loss(params, axis):
        cell = jn.bn_lstm(HIDDEN, max_steps=2, axis_name=axis)
        run = lambda xs: jn.unroll(cell, params, xs, chunk=2).outputs  # noqa: E731
        return jnp.sum((run(xs) if axis is None else jax.vmap(run, 1, 1, axis_name=axis)(xs)) ** 2)

    batched, mapped = (jax.jit(jax.grad(loss), static_argnums=1)(params, axis) for axis in (None, "examples"))
    chex.assert_trees_all_close(mapped, batched, rtol=1e-4, atol=1e-5)


def test_second_derivatives(rng, x64):
    cell, (params, carry, xs), _ = arguments(jn.ln_gru(HIDDEN), rng)

    def curvature(**options):
        def loss(xs):
            return jnp.sum(jn.unroll(cell, params, xs, carry=carry, **options).outputs ** 3)

        return jax.jit(jax.grad(lambda xs: jnp.sum(jax.grad(loss)(xs) ** 2)))(xs)

    np.testing.assert_allclose(curvature(chunk=4), curvature(method="scan"), rtol=1e-9, atol=1e-11)


def test_only_carries_are_kept():
    """The residuals of the chunked method hold a carry a step, or a chunk, and nothing else of length T."""
    cell = jn.ln_lstm(HIDDEN)
    params = jax.eval_shape(lambda key: cell.init(key, 2), jax.random.key(0))
    xs = jax.ShapeDtypeStruct((64, BATCH, 2), jnp.float32)

    def kept(**options):
        saved = jax.eval_shape(
            lambda params, xs: jax.vjp(lambda p, x: jn.unroll(cell, p, x, **options).outputs, params, xs)[1], params, xs
        )
        return sum(leaf.size for leaf in jax.tree.leaves(saved)) / BATCH

    small = 2 * 64 + 2 * HIDDEN * 64 + sum(leaf.size for leaf in jax.tree.leaves(params))
    assert kept(save="carries") <= small
    assert small < kept(save="products") <= small + 8 * HIDDEN * 64
    assert kept(chunk=8, save="chunks") <= small - 2 * HIDDEN * 56
    assert kept(chunk=16, save="chunks") < kept(chunk=8, save="chunks")
    assert kept(method="scan") > 2 * small


@pytest.mark.parametrize(("save", "backward"), [("products", 4), ("carries", 6)])
@pytest.mark.parametrize(
    "cell", [jn.ln_lstm(4), jn.ln_gru(4), jn.bn_lstm(4, max_steps=2)], ids=["ln_lstm", "ln_gru", "bn_lstm"]
)
def test_each_loop_body_has_one_matrix_product(cell, save, backward, rng):
    """One in the forward and one in the backward loop over steps; gradients of weights are made once a chunk."""
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng, 10, (2,))  # five steps a chunk, 3 inputs
    loss = lambda p, x: jnp.sum(jn.unroll(cell, p, x, chunk=5, save=save).outputs)  # noqa: E731
    program = jax.make_jaxpr(jax.grad(loss, (0, 1)))(params, xs)
    loops = [e for e in cell_checks.equations(program.jaxpr) if e.primitive.name == "scan"]
    bodies = [list(cell_checks.equations(loop.params["jaxpr"].jaxpr)) for loop in loops]
    products = [[e for e in body if e.primitive.name == "dot_general"] for body in bodies]
    over_steps = [k for k, body in enumerate(bodies) if all(e.primitive.name != "scan" for e in body)]
    assert [len(products[k]) for k in over_steps] == [1, 1]
    # Of a chunk: x_proj forward; backward the gradients of both kernels and of the inputs; x_proj and h_proj again if
    # they are not saved.
    assert sorted(len(found) for k, found in enumerate(products) if k not in over_steps) == [2, backward]
    weights = {(leaf.shape[0], leaf[0].size) for leaf in (params.recurrent, params.kernel)}
    state = {v.aval.shape for k in over_steps for v in loops[k].outvars}
    assert not weights & state, "a gradient of a weight goes from step to step"


def test_only_the_gradients_that_are_asked_for_are_made(rng, x64):
    """Of the inputs, of weights, of running statistics; with a loss that does not see the carry, or only the carry."""
    cell, (params, carry, xs), masks = arguments(BN_LSTM, rng)
    stats = jax.tree.map(lambda leaf: jnp.asarray(0.5 + rng.random(leaf.shape)), cell.initial_stats())

    def loss(kernel, recurrent, xs, stats, carry_only, **options):
        weights = params._replace(kernel=kernel, recurrent=recurrent)
        out = jn.unroll(cell, weights, xs, carry=carry, stats=stats, **masks, **options)
        return jnp.sum(out.carry.h**3) if carry_only else jnp.sum(jnp.sin(out.outputs))

    given = (params.kernel, params.recurrent, xs, stats)
    for asked, products in (((0, 1, 2, 3), 8), ((0, 1), 7), ((2,), 6), ((1,), 6), ((3,), 5)):
        for carry_only in (False, True):
            gradient = jax.grad(partial(loss, carry_only=carry_only, chunk=3), asked)
            expected = jax.grad(partial(loss, carry_only=carry_only, method="scan"), asked)
            assert_same(jax.jit(gradient)(*given), jax.jit(expected)(*given))
        for save, expected in (("carries", products), ("products", products - 2)):
            program = jax.make_jaxpr(jax.grad(partial(loss, carry_only=False, chunk=3, save=save), asked))(*given)
            made = sum(e.primitive.name == "dot_general" for e in cell_checks.equations(program.jaxpr))
            assert made == expected, f"{made} products for the gradients of the arguments {asked}"


def test_forward_mode_is_answered_with_the_keyword(rng):
    cell = jn.ln_gru(HIDDEN)
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng, 3, (2,))

    def along(**options):
        return jax.jvp(lambda xs: jn.unroll(cell, params, xs, **options).outputs, (xs,), (jnp.ones_like(xs),))[1]

    with pytest.raises(TypeError, match="method='scan'"):
        along()
    change = 1e-3 * jnp.ones_like(xs)
    outputs = [jn.unroll(cell, params, xs + sign * change).outputs for sign in (1, -1)]
    np.testing.assert_allclose(along(method="scan"), (outputs[0] - outputs[1]) / 2e-3, atol=2e-3)


@pytest.mark.parametrize(("steps", "rows"), [(784, 4), (128, 32), (100, 64), (35, 128), (101, 32), (4096, 1), (7, 1)])
def test_the_length_of_a_chunk_suits_the_shape(steps, rows):
    length = chunk_length(steps, rows, 512, "cpu")
    assert 8 <= length <= 127 or steps % length == 0
    assert steps % length == 0 or steps in (101, 7)
    assert chunk_length(steps, rows, 512, "gpu") >= min(length, 32)


def test_options_that_do_not_fit_are_refused():
    cell = jn.lstm(HIDDEN)
    params, xs = cell.init(jax.random.key(0), 2), jnp.ones((3, 1, 2))
    for options, says in (
        ({"method": "fast"}, "method"),
        ({"chunk": 0}, "chunk"),
        ({"save": "all"}, "save"),
        ({"truncate": -1}, "truncate"),
        ({"chunk": 4, "method": "scan"}, "method='chunked'"),
    ):
        with pytest.raises(ValueError, match=says):
            jn.unroll(cell, params, xs, **options)


def test_a_kernel_that_steps_multiply_by_is_not_repeated_for_each_of_them(key):
    """The candidate's product of a reset-before GRU is made in the step; its derivative needs the kernel."""
    chunk, hidden = 5, 7
    cell = jn.zoo.ResetBeforeGRU(hidden)
    params = cell.init(key, 3)
    gradient = jax.grad(lambda p, xs: jnp.sum(jn.unroll(cell, p, xs, chunk=chunk).outputs))
    program = jax.make_jaxpr(gradient)(params, jnp.ones((3 * chunk, 2, 3)))
    shapes = {v.aval.shape for e in cell_checks.equations(program.jaxpr) for v in e.outvars}
    assert (hidden, hidden) in shapes, "no kernel of the candidate at all"
    assert (chunk, hidden, hidden) not in shapes
