"""What must hold for every cell, as plain functions: the contract tests call them, the meta-tests plant faults in them.

Each takes a cell and the ``unroll`` under test, draws its own data and raises AssertionError. Data are float64, so
that a difference is an error and not rounding; call under x64. What is computed with JAX is computed in a few compiled
programs of few shapes, the rest with NumPy: compiling is what these checks cost.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval

import jaxnorm as jn
from jaxnorm.cells.base import StepInput
from jaxnorm.cells.wrappers.base import unwrap
from tests import cases

STEPS, BATCH = 4, 4
TOLERANCE = 1e-9


def assert_close(got: Any, expected: Any, tolerance: float = TOLERANCE, note: str = "") -> None:
    """Equal structures, shapes and dtypes, and values up to rounding."""
    chex.assert_trees_all_close(got, expected, rtol=tolerance, atol=tolerance, strict=True, custom_message=note)


class Example(NamedTuple):
    """Random inputs of a run, as NumPy arrays; the masks are all True and all False unless asked for."""

    params: Any
    xs: np.ndarray
    carry: Any
    where: np.ndarray
    reset: np.ndarray


def example(cell: Any, *, seed: int = 0, masks: bool = False, batch: tuple[int, ...] = (BATCH,)) -> Example:
    rng = np.random.default_rng(seed)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, STEPS, (*batch, *image_of(cell)), jnp.float64)
    shape = (STEPS, *batch)
    where = rng.random(shape) < 0.7 if masks else np.ones(shape, bool)
    reset = rng.random(shape) < 0.3 if masks else np.zeros(shape, bool)
    return jax.tree.map(np.array, Example(params, xs, random_carry(cell, rng, batch), where, reset))


def random_carry(cell: Any, rng: np.random.Generator, batch: tuple[int, ...]) -> Any:
    """Random numbers in every entry of a carry; the count of steps is 0 or 1."""

    def draw(like: Any) -> jax.Array:
        if jnp.issubdtype(like.dtype, jnp.integer):
            return jnp.asarray(rng.integers(0, 2, like.shape), like.dtype)
        return jnp.asarray(rng.standard_normal(like.shape), like.dtype)

    return jax.tree.map(draw, jax.eval_shape(lambda: cell.initial_carry(batch, dtype=jnp.float64)))


def peel(carry: Any) -> tuple[Any, Any]:
    """The state itself, and the count of steps of a CountedCarry carry (else None)."""
    return (carry.carry, carry.step) if isinstance(carry, jn.CountedCarry) else (carry, None)


def select(condition: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(
        lambda a, b: jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b), yes, no
    )


def image_of(cell: Any) -> tuple[int, ...]:
    """The sizes of the axes of an input between those of the batch and the features; most cells have none."""
    return getattr(unwrap(cell), "image_shape", ())


def over(mask: Any, like: Any) -> Any:
    """A mask of steps and examples, over all features."""
    return mask.reshape(mask.shape + (1,) * (like.ndim - mask.ndim))


def single_step(
    cell: Any, params: Any, state: Any, age: jax.Array, x: jax.Array, real: jax.Array, reset: jax.Array, stats: Any
) -> tuple[Any, jax.Array, jax.Array, Any]:
    """One step by the cell's own methods, with mask, reset and rows of statistics done in the plainest way."""
    weights = cell.prepare(params, dtype=x.dtype, batch_shape=real.shape)
    fresh, _ = peel(cell.initial_carry(real.shape, params=params, dtype=x.dtype))
    state, age = select(reset, fresh, state), jnp.where(reset, 0, age)
    used = jax.tree.map(lambda table: table[jnp.minimum(age, table.shape[0] - 1)], stats)
    rows = jax.tree.map(lambda leaf: leaf[None], used)
    xs = jnp.where(over(real, x), x, 0.0)[None]
    products = cell.project_inputs(weights, xs)
    x_proj, input_moments = cell.normalize_inputs(weights, xs, products, rows, real[None])
    x_proj, input_moments = jax.tree.map(lambda leaf: leaf[0], (x_proj, input_moments))
    t = StepInput(x_proj, cell.project_state(weights, state), used, real, age=age)
    new, y, moments = cell.step(weights, state, t)
    new, y = select(real, new, state), jnp.where(over(real, y), y, 0.0)
    return new, age + real.astype(jnp.int32), y, moments._replace(input=input_moments.input)


def laid_by_age(moments: Any, ages: jax.Array, where: jax.Array, rows: int, positions: int = 1) -> Any:
    """Row r: the average over all examples of age r (the last row: or older), each with the moments of its step."""
    row = jnp.minimum(ages, rows - 1)
    here = ((jax.nn.one_hot(row, rows) > 0) & where[..., None]).astype(jnp.float64)
    number = here.sum(tuple(range(1, ages.ndim)))  # of examples at a step in a row, T, R

    def average(values: jax.Array) -> jax.Array:
        """Of an entry for each step and row."""
        shares = number / jnp.maximum(number.sum(0), 1)[None]
        return jnp.sum(shares.reshape(*shares.shape, *(1,) * (values.ndim - 2)) * values, axis=0)

    def lay(m: jn.Moments) -> jn.Moments:
        mean = average(jnp.broadcast_to(m.mean[:, None], (len(m.mean), rows, *m.mean.shape[1:])))
        var = average(m.var[:, None] + (m.mean[:, None] - mean[None]) ** 2)
        return jn.Moments(mean, var, positions * number.sum(0))

    return jax.tree.map(lay, moments, is_leaf=lambda node: isinstance(node, jn.Moments))


def merged(first: Any, second: Any) -> Any:
    """The moments of two calls together."""
    first, second = jax.tree.map(jnp.asarray, (first, second))
    both = jax.tree.map(jn.merge, first, second, is_leaf=lambda node: isinstance(node, jn.Moments))
    return jax.tree.map(np.asarray, both)


def step_by_step(
    cell: Any, params: Any, xs: jax.Array, carry: Any, where: Any = None, reset: Any = None, stats: Any = None
) -> jn.Unrolled:
    """A plain loop over single steps, each with everything in it."""
    layout = xs.shape[: xs.ndim - 1 - len(image_of(cell))]
    batch = layout[1:]
    where = jnp.ones(layout, bool) if where is None else where
    reset = jnp.zeros(layout, bool) if reset is None else reset
    state, count = peel(carry)
    age = jnp.zeros(batch, jnp.int32) if count is None else count

    def one(before: Any, given: Any) -> Any:
        *after, y, measured = single_step(cell, params, *before, *given, stats)
        started = jnp.where(given[2], 0, before[1])
        return tuple(after), (y, measured, started)

    (state, age), (outputs, moments, ages) = jax.lax.scan(one, (state, age), (xs, where, reset))
    positions = math.prod(outputs.shape[where.ndim : -1])
    moments = laid_by_age(moments, ages, where, cell.max_steps, positions) if stats is None else jn.CellNorms()
    return jn.Unrolled(outputs, state if count is None else jn.CountedCarry(state, age), moments)


def values_and_gradients(run: Callable, cell: Any, data: Example) -> tuple[jn.Unrolled, Any]:
    """What a run returns, and the gradient of a weighted sum of it by the weights, the inputs and the carry."""
    state, count = peel(data.carry)

    def loss(params: Any, xs: jax.Array, state: Any) -> tuple[jax.Array, jn.Unrolled]:
        carry = state if count is None else jn.CountedCarry(state, count)
        out = run(cell, params, xs, carry=carry, where=data.where, reset=data.reset)
        parts = [out.outputs, *jax.tree.leaves(peel(out.carry)[0])]
        return sum(jnp.sum(p * jnp.cos(jnp.arange(p.size, dtype=p.dtype)).reshape(p.shape)) for p in parts), out

    (_, out), gradients = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(data.params, data.xs, state)
    return out, gradients


def compiled(function: Callable, **options: Any) -> Callable:
    """The function under jit, its results as NumPy arrays."""
    program = jax.jit(function, **options)
    return lambda *args, **named: jax.tree.map(np.asarray, program(*args, **named))


def call(unroll: Callable, cell: Any, params: Any, xs: Any, **options: Any) -> jn.Unrolled:
    return unroll(cell, params, xs, **options)


forward = compiled(call, static_argnums=(0, 1), static_argnames=("reverse", "time_axis"))
engine = compiled(values_and_gradients, static_argnums=(0, 1))
loop = compiled(step_by_step, static_argnums=0)
reference = compiled(partial(values_and_gradients, step_by_step), static_argnums=0)


def joined(first: Any, second: Any) -> Any:
    """Two trees one after the other, along the leading axis."""
    return jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)


def check_loop(cell: Any, unroll: Callable = jn.unroll) -> None:
    """The engine is the loop over single steps: values and gradients, with masks and resets."""
    data = example(cell, masks=True)
    assert_close(engine(unroll, cell, data), reference(cell, data), 1e-8)


def check_padding(cell: Any, unroll: Callable = jn.unroll) -> None:
    """A masked row and a masked last step are as if they were not there, whatever they hold."""
    data = example(cell, seed=1)
    data.where[-1], data.where[:, -1] = False, False
    real = data.where
    out, (by_params, by_xs, by_carry) = engine(
        unroll, cell, data._replace(xs=np.where(over(real, data.xs), data.xs, np.nan))
    )
    carry = jax.tree.map(lambda a: a[:-1], data.carry)
    alone = loop(cell, data.params, data.xs[:-1, :-1], carry=carry)
    assert_close(out.outputs[:-1, :-1], alone.outputs, note="outputs")
    assert not np.any(out.outputs[-1]), "padding puts out zeros"
    assert not np.any(out.outputs[:, -1]), "padding puts out zeros"
    assert_close(jax.tree.map(lambda a: a[:-1], out.carry), alone.carry, note="carry")
    assert_close(
        jax.tree.map(lambda a: a[-1], out.carry),
        jax.tree.map(lambda a: a[-1], data.carry),
        note="masked carry",
    )
    assert_close(out.moments, alone.moments, note="moments")
    chex.assert_tree_all_finite((by_params, by_xs, by_carry), custom_message="NaN in padding reaches a gradient")
    assert not np.any(np.where(over(real, by_xs), 0.0, by_xs)), "padding has a gradient"
    _, gradients = engine(unroll, cell, data._replace(xs=np.where(over(real, data.xs), data.xs, 0.0)))
    assert_close((by_params, by_xs, by_carry), gradients, note="gradients with zeros in the padding")


def check_reset(cell: Any, unroll: Callable = jn.unroll) -> None:
    """A reset makes two separate sequences of one."""
    data = example(cell, seed=2)
    data.reset[2] = True
    out, _ = engine(unroll, cell, data)
    start = jax.jit(lambda p: cell.initial_carry((BATCH,), params=p, dtype=jnp.float64))(data.params)
    first = loop(cell, data.params, data.xs[:2], carry=data.carry)
    second = loop(cell, data.params, data.xs[2:], carry=start)
    moments = merged(first.moments, second.moments)
    assert_close(out, jn.Unrolled(joined(first.outputs, second.outputs), second.carry, moments))


def check_rows(cell: Any, unroll: Callable = jn.unroll, *, batch_statistics: bool = False) -> None:
    """Permuted examples give permuted results; without batch statistics no row knows of another."""
    data = example(cell, seed=3, masks=True)
    order = np.array([2, 0, 3, 1])
    out, _ = engine(unroll, cell, data)

    def rows(tree: Any, axis: int) -> Any:
        return jax.tree.map(lambda a: np.take(a, order, axis=axis), tree)

    moved = Example(data.params, rows(data.xs, 1), rows(data.carry, 0), rows(data.where, 1), rows(data.reset, 1))
    got, _ = engine(unroll, cell, moved)
    assert_close(got, jn.Unrolled(rows(out.outputs, 1), rows(out.carry, 0), out.moments))
    if batch_statistics:
        return
    other = data.xs.copy()
    other[:, 0] += 1.0
    changed, _ = engine(unroll, cell, data._replace(xs=other))
    np.testing.assert_array_equal(changed.outputs[:, 1:], out.outputs[:, 1:], "a row depends on another")


def check_split(cell: Any, unroll: Callable = jn.unroll, stats: Any = None) -> None:
    """Two pieces with the carry handed on are the whole."""
    data = example(cell, seed=4)
    whole = reference(cell, data)[0] if stats is None else loop(cell, *data, stats=stats)
    first = forward(unroll, cell, data.params, data.xs[:2], carry=data.carry, stats=stats)
    second = forward(unroll, cell, data.params, data.xs[2:], carry=first.carry, stats=stats)
    assert_close(joined(first.outputs, second.outputs), whole.outputs)
    assert_close(second.carry, whole.carry, note="carry")
    if stats is None:
        assert_close(merged(first.moments, second.moments), whole.moments, note="moments")


def check_reverse_and_layout(cell: Any, unroll: Callable = jn.unroll, stats: Any = None) -> None:
    """Reverse is flip, run, flip, with the same moments; and the place of the axes does not matter.

    Two batch axes with time between them are the same examples in another shape.
    """
    data = example(cell, seed=5, masks=True)

    def square(a: Any, axis: int) -> np.ndarray:
        return np.reshape(a, (*a.shape[:axis], 2, 2, *a.shape[axis + 1 :]))

    def between(a: Any) -> np.ndarray:
        return np.moveaxis(square(a, 1), 0, 1)

    got = forward(
        unroll,
        cell,
        data.params,
        between(data.xs),
        carry=jax.tree.map(lambda a: square(a, 0), data.carry),
        where=between(data.where),
        reset=between(data.reset),
        stats=stats,
        reverse=True,
        time_axis=-3 - len(image_of(cell)),
    )
    flipped = data._replace(xs=data.xs[::-1], where=data.where[::-1], reset=data.reset[::-1])
    expected = reference(cell, flipped)[0] if stats is None else loop(cell, *flipped, stats=stats)
    assert_close(got.outputs, between(np.flip(expected.outputs, 0)), note="outputs")
    assert_close(got.carry, jax.tree.map(lambda a: square(a, 0), expected.carry), note="carry")
    if stats is None:
        assert_close(got.moments, expected.moments, note="moments")


def check_method(cell: Any, unroll: Callable, *, batch_statistics: bool = False) -> None:
    """What a method of running promises beside the others."""
    check_loop(cell, unroll)
    check_padding(cell, unroll)
    check_reset(cell, unroll)
    check_rows(cell, unroll, batch_statistics=batch_statistics)
    check_split(cell, unroll)
    check_reverse_and_layout(cell, unroll)


def check_lengths_reversed(cell: Any, unroll: Callable = jn.unroll) -> None:
    """With lengths every example is reversed within itself, and its padding stays at the end."""
    data = example(cell, seed=6)
    lengths = np.array([STEPS, 2, 0, STEPS + 3])
    real = np.arange(STEPS)[:, None] < lengths
    order = np.where(real, np.minimum(lengths, STEPS) - 1 - np.arange(STEPS)[:, None], np.arange(STEPS)[:, None])
    padded = np.where(over(real, data.xs), data.xs, np.nan)
    got = forward(unroll, cell, data.params, padded, carry=data.carry, lengths=lengths, reverse=True)

    def turn(a: Any) -> np.ndarray:
        return np.take_along_axis(a, over(order, a), axis=0)

    expected, _ = reference(cell, data._replace(xs=turn(data.xs), where=real))
    assert_close(got, expected._replace(outputs=turn(expected.outputs)))


def over_axis(cell: Any, axis_name: str) -> Any:
    """The cell with the batch of its batch norms spread over a named axis."""
    if not any(isinstance(norm, jn.BatchNorm) for norm in cell.sites):
        return cell
    sites = (
        dataclasses.replace(norm, axis_name=axis_name) if isinstance(norm, jn.BatchNorm) else norm
        for norm in cell.sites
    )
    names = [name for name, norm in zip(jn.CellNorms._fields, cell.sites, strict=True) if norm != jn.Identity()]
    named = dict(zip(jn.CellNorms._fields, sites, strict=True))
    return cases.with_fields(cell, norm=jn.CellNorms(**{name: named[name] for name in names}))


def check_vmap(cell: Any, unroll: Callable = jn.unroll) -> None:
    """One example under vmap with a named axis is a batch."""
    data = example(cell, seed=8, masks=True)
    single = over_axis(cell, "batch")

    def one(xs: jax.Array, carry: Any, where: jax.Array, reset: jax.Array) -> jn.Unrolled:
        return unroll(single, data.params, xs, carry=carry, where=where, reset=reset)

    run = jax.vmap(one, in_axes=(1, 0, 1, 1), out_axes=jn.Unrolled(1, 0, 0), axis_name="batch")
    got = compiled(run)(data.xs, data.carry, data.where, data.reset)
    expected, _ = reference(cell, data)
    assert_close(got[:2], expected[:2])
    everywhere = jax.tree.map(lambda m: np.stack([m] * BATCH), expected.moments)
    assert_close(got.moments, everywhere, note="moments")


def check_short(cell: Any, unroll: Callable = jn.unroll) -> None:
    """One step of one example without a batch axis; and no step at all."""
    data = example(cell, seed=9, batch=())
    got = forward(unroll, cell, data.params, data.xs[:1], carry=data.carry)
    assert_close(got, loop(cell, data.params, data.xs[:1], carry=data.carry))
    none = forward(unroll, cell, data.params, data.xs[:0], carry=data.carry)
    assert none.outputs.shape == (0, *got.outputs.shape[1:-1], cell.out_features)
    assert none.outputs.dtype == got.outputs.dtype
    assert_close(none.carry, data.carry, 0.0)
    assert_close(none.moments, jax.tree.map(np.zeros_like, got.moments))


def equations(jaxpr: Any) -> Any:
    """All equations of a jaxpr, those of inner ones too; of forms for different platforms only those of the first."""
    for equation in jaxpr.eqns:
        yield equation
        inside: Any = equation.params
        if inside.get("branches_platforms"):
            inside = inside["branches"][0]
        for inner in jax.tree.leaves(inside, is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def check_program(cell: Any, unroll: Callable = jn.unroll, *, products: int = 1, before: int = 1) -> None:
    """One scan, with one matrix product in its body (or so many); the input product is made outside.

    Moments are laid into rows after it, which is no part of what is counted here.
    """
    data = example(cell, masks=True)
    program = jax.make_jaxpr(lambda *a: unroll(cell, a[0], a[1], carry=a[2], where=a[3], reset=a[4])[:2])(*data)
    needed, _ = partial_eval.dce_jaxpr(program.jaxpr, [True] * len(program.jaxpr.outvars))
    found = list(equations(needed))
    scans = [equation for equation in found if equation.primitive.name == "scan"]
    assert len(scans) == 1, f"{len(scans)} scans"
    kind = "conv_general_dilated" if image_of(cell) else "dot_general"
    inside = [e.primitive.name for e in equations(scans[0].params["jaxpr"].jaxpr)].count(kind)
    assert inside == products, f"{inside} matrix products in the body of the loop"
    everywhere = [equation.primitive.name for equation in found].count(kind)
    assert everywhere == products + before, f"{everywhere} matrix products in all"
