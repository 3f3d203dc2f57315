"""Sequences are read and written where they lie: no layout is brought into another."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.tools.marks import mostly_heavy

BATCH, HIDDEN = (2, 5), 6


def program(steps, axis, lengths=False, gradient=True):
    """The compiled outputs, or gradient, of a cell on inputs with time on an axis."""
    cell = jn.ln_lstm(HIDDEN)
    params = cell.init(jax.random.key(0), in_features=cases.IN_FEATURES)
    shape = list(BATCH)
    shape.insert(axis, steps)

    def outputs(params, xs, lengths):
        return jn.unroll(cell, params, xs, time_axis=axis, lengths=lengths, chunk=8).outputs

    def loss(params, xs, weights, lengths):
        return jnp.vdot(outputs(params, xs, lengths), weights)

    def array(*shape, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype)

    xs, weights = array(*shape, cases.IN_FEATURES), array(*shape, HIDDEN)
    real = array(*BATCH, dtype=jnp.int32) if lengths else None
    if gradient:
        return jax.jit(jax.grad(loss, (0, 1))).lower(params, xs, weights, real).compile()
    return jax.jit(outputs).lower(params, xs, real).compile()


@pytest.mark.parametrize("gradient", [False, True], ids=["outputs", "gradient"])
@pytest.mark.parametrize("lengths", mostly_heavy([False, True]), ids=["", "lengths"])
@pytest.mark.parametrize("steps", mostly_heavy([35, 32]))
def test_no_sequence_is_transposed(steps, lengths, gradient):
    """What is transposed belongs to one chunk; a transposed copy of inputs or outputs would show in the memory."""
    time_first = program(steps, 0, lengths, gradient)
    for axis in (1, 2):
        compiled = program(steps, axis, lengths, gradient)
        shapes = re.findall(r"f32\[([\d,]+)\]\S* (?:transpose|copy)\(", compiled.as_text())
        assert all(f",{steps}," not in f",{shape}," for shape in shapes), shapes
        least = steps * np.prod(BATCH) * 4  # bytes of one feature
        assert compiled.memory_analysis().temp_size_in_bytes < time_first.memory_analysis().temp_size_in_bytes + least


@pytest.mark.parametrize("axis", mostly_heavy([2, 0, 1]))
@pytest.mark.parametrize("reverse", mostly_heavy([True, False]))
def test_second_derivatives_where_time_is_not_first(axis, reverse, rng, x64):
    cell = jn.ln_gru(3)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    shape = list(BATCH)
    shape.insert(axis, 7)
    xs = jnp.asarray(rng.standard_normal((*shape, cases.IN_FEATURES)))
    weights = jnp.asarray(rng.standard_normal((*shape, 3)))

    def of_gradient(**method):
        def loss(params, xs):
            return jnp.vdot(jn.unroll(cell, params, xs, time_axis=axis, reverse=reverse, **method).outputs, weights)

        def steepness(params, xs):
            return sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(jax.grad(loss, (0, 1))(params, xs)))

        return jax.jit(jax.grad(steepness, (0, 1)))(params, xs)

    got, want = of_gradient(chunk=3), of_gradient(method="scan")
    chex.assert_trees_all_close(got, want, rtol=1e-9, atol=1e-9)


def test_second_derivatives_add_no_whole_sequence_for_each_chunk():
    """The transpose of reading out of a sequence would be such a sum, and time would grow with the square of T."""
    cell = jn.ln_gru(3)
    params = cell.init(jax.random.key(0), 5)
    xs = jnp.zeros((2, 24, 5))

    def loss(params, xs):
        return jnp.sum(jn.unroll(cell, params, xs, time_axis=1, chunk=4).outputs)

    def steepness(xs):
        return jnp.sum(jax.grad(loss, 1)(params, xs) ** 2)

    inside = [
        equation
        for body in _loop_bodies(jax.make_jaxpr(jax.grad(steepness))(xs).jaxpr)
        for equation in body.eqns
        if equation.primitive.name in ("add", "add_any") and equation.outvars[0].aval.shape == xs.shape
    ]
    assert not inside


def _loop_bodies(jaxpr, within=False):
    """The program itself where it lies within a loop, and all programs in it that do."""
    if within:
        yield jaxpr
    for equation in jaxpr.eqns:
        for parameter in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")
        ):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from _loop_bodies(inner, within or equation.primitive.name in ("scan", "while"))
