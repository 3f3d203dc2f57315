r"""The reverse-mode derivative of the forward pass, chunk by chunk. It contains no equation of any cell.

The forward pass saves only carries. The backward pass goes from the last chunk to the first. In each it rebuilds the
products z and a with one matrix product each. A loop then applies the transpose of ``step`` with respect to
(carry, z_t, a_t) and the transpose of ``recur`` with respect to the carry, and records the cotangents of z, of a and of
the outputs of each step. After the loop, the gradients of the recurrent kernel, the input kernel and the inputs take
one product each; one derivative of ``step`` over all steps of the chunk gives the gradients of all small weights. So no
gradient of a weight accumulates step by step.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, DType
from jaxnorm.cells.base import Cell, Ready
from jaxnorm.cells.preactivation.products import Kernel
from jaxnorm.engine.arguments.sharding import zeros_beside
from jaxnorm.engine.loops.chunks import Stretch, over_chunks
from jaxnorm.engine.loops.hoisted_vmap import at_every_step
from jaxnorm.engine.loops.scan import Given, Passed, Steps, forward, project, select, step
from jaxnorm.norms.core.moments import statistics_dtype


class Plan(NamedTuple):
    """The static, hashable options of a run over a sequence."""

    cell: Cell
    chunk: int
    axis: int
    """The time axis of inputs and outputs."""
    features: tuple[int, ...]
    """The trailing axes of the outputs, after the axes of steps and examples."""
    dtype: DType
    """The dtype of the outputs."""
    reverse: bool
    keep_all: bool
    """Whether to save the carry of every step for the backward pass, or only the first of each chunk."""


def run(plan: Plan, given: Given, steps: Steps, *, keep: bool) -> tuple[Passed, Any]:
    """Runs the forward pass; with ``keep`` it also returns the carries that the backward pass needs."""

    def body(carry: Any, part: Stretch) -> tuple[Any, Stretch]:
        passed = forward(
            plan.cell, given._replace(carry=carry, xs=part.laid), part.steps,
            reverse=plan.reverse, keep=keep and plan.keep_all,
        )  # fmt: skip
        first = carry if keep and not plan.keep_all else ()
        return passed.last, Stretch(passed.outputs, (passed.measured, passed.before), first)

    last, results = over_chunks(
        body, given.carry, Stretch(given.xs, steps, ()), zeros_beside(given.xs, plan.features, plan.dtype),
        plan.chunk, axis=plan.axis, reverse=plan.reverse,
    )  # fmt: skip
    measured, before = results.steps
    return Passed(last, results.laid, measured, ()), (before, results.first)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def chunked(plan: Plan, given: Given, steps: Steps) -> Passed:
    """Runs the forward pass; its derivative is the one in this file."""
    return run(plan, given, steps, keep=False)[0]


def _chunked_forward(plan: Plan, given: Given, steps: Steps) -> tuple[Passed, Any]:
    passed, kept = run(plan, given, steps, keep=True)
    residuals = (given._replace(carry=()), steps, kept)
    # Trace the backward pass here, where the names of mapped axes are bound: JAX traces a VJP rule later, outside them.
    closed, out = jax.make_jaxpr(partial(_backward, plan), return_shape=True)(residuals, passed)
    return passed, (_Traced(closed, jax.tree.structure(out)), residuals)


def _chunked_backward(plan: Plan, saved: Any, cotangents: Passed) -> tuple[Given, None]:
    from jax.extend.core import jaxpr_as_fun  # lazy: it costs a tenth of jaxnorm's import time

    traced, residuals = saved
    flat = jaxpr_as_fun(traced.closed)(*jax.tree.leaves((residuals, cotangents)))
    return jax.tree.unflatten(traced.out, flat), None


chunked.defvjp(_chunked_forward, _chunked_backward)


@jax.tree_util.register_static
class _Traced:
    """A traced program that travels with the residuals. It is static, so JAX does not treat it as an array."""

    def __init__(self, closed: Any, out: Any) -> None:
        self.closed, self.out = closed, out


class _Sums(NamedTuple):
    """Cotangents that accumulate from chunk to chunk, in at least float32."""

    ready: Any
    initial: Any
    stats: Any


def _backward(plan: Plan, residuals: Any, cotangents: Passed) -> Given:
    """Computes the cotangents of the inputs of the forward pass."""
    given, steps, (kept, first) = residuals
    ready, stats = given.ready, given.stats
    cell = plan.cell
    turned = _transpose_kernels(ready)

    def chunk(state: tuple[Any, _Sums], part: Stretch) -> tuple[Any, Stretch]:
        d_carry, sums = state
        xs, d_outputs = part.laid
        steps, before, (d_input_moments, d_moments) = part.steps
        if not plan.keep_all:  # run the chunk again to recover the carries that were not saved
            again = given._replace(carry=part.first, xs=xs)
            before = forward(cell, again, steps, reverse=plan.reverse, keep=True).before

        zs, transpose_project = jax.vjp(
            lambda ready, xs, stats: project(cell, ready, xs, stats, steps), ready, xs, stats
        )
        products, transpose_recur = jax.vjp(lambda ready: cell.recur(ready, before), ready)

        def transposed(carry: Any, z_t: Array, a_t: Array, t: Steps) -> Any:
            def of_state(carry: Any, z_t: Array, a_t: Array) -> Any:
                return step(cell, ready, stats, carry, z_t, a_t, t)

            return jax.vjp(of_state, carry, z_t, a_t)[1]

        # The factors of the derivative depend on no cotangent: compute them for all steps at once, before the loop.
        transposes, transpose_of = at_every_step(transposed, before, zs[0], products, steps)

        def body(state: tuple[Any, Any], step_t: Any) -> tuple[Any, Any]:
            d_after, d_initial = state
            own, carry, d_y, d_measured, t = step_t
            d_new, d_kept = d_after, None
            if t.where is not None:  # a masked step passes the cotangent of its carry on unchanged
                nothing = jax.tree.map(jnp.zeros_like, d_after)
                d_new, d_kept = select(t.where, d_after, nothing), select(t.where, nothing, d_after)
                d_y = select(t.where, d_y, jnp.zeros_like(d_y))

            d_carry, d_z, d_a = transpose_of(own)((d_new, d_y, d_measured))
            # recur is linear in the carry, so its transpose needs no forward product.
            (d_recurred,) = jax.linear_transpose(partial(cell.recur, turned), carry)(d_a)
            d_carry = jax.tree.map(jnp.add, d_carry, d_recurred)
            if d_kept is not None:
                d_carry = jax.tree.map(jnp.add, d_carry, d_kept)
            if t.reset is not None:  # the cotangent goes to the initial carry instead of the previous step
                nothing = jax.tree.map(jnp.zeros_like, d_carry)
                d_initial = jax.tree.map(_add, d_initial, select(t.reset, d_carry, nothing))
                d_carry = select(t.reset, nothing, d_carry)
            if t.cut is not None:
                d_carry = select(t.cut, jax.tree.map(jnp.zeros_like, d_carry), d_carry)
            return (d_carry, d_initial), (d_z, d_a, d_new, d_y)

        (d_carry, d_initial), (d_zs, d_products, d_news, d_ys) = lax.scan(
            body, (d_carry, sums.initial), (transposes, before, d_outputs, d_moments, steps),
            reverse=not plan.reverse,
        )  # fmt: skip

        def all_steps(ready: Ready, stats: Any) -> Any:
            return jax.vmap(partial(step, cell, ready, stats))(before, zs[0], products, steps)

        _, transpose_steps = jax.vjp(all_steps, ready, stats)
        # The weights enter in three places (project, recur, step), so their cotangents are sums of three.
        d_ready_1, d_xs, d_stats_1 = transpose_project((d_zs, d_input_moments))
        (d_ready_2,) = transpose_recur(d_products)
        d_ready_3, d_stats_2 = transpose_steps((d_news, d_ys, d_moments))
        sums = _Sums(
            jax.tree.map(_add, sums.ready, d_ready_1, d_ready_2, d_ready_3),
            d_initial,
            jax.tree.map(_add, sums.stats, d_stats_1, d_stats_2),
        )
        return (d_carry, sums), Stretch(d_xs, (), ())

    start = _Sums(*(jax.tree.map(_zeros, tree) for tree in (ready, given.initial, stats)))
    (d_carry, sums), results = over_chunks(
        chunk,
        (cotangents.last, start),
        Stretch((given.xs, cotangents.outputs), (steps, kept, cotangents.measured), first),
        zeros_beside(given.xs, given.xs.shape[-1:], given.xs.dtype),
        plan.chunk,
        axis=plan.axis,
        reverse=not plan.reverse,
    )
    d_ready, d_initial, d_stats = (
        jax.tree.map(lambda total, leaf: total.astype(leaf.dtype), totals, tree)
        for totals, tree in zip(sums, (ready, given.initial, stats), strict=True)
    )
    return Given(d_ready, d_carry, d_initial, results.laid, d_stats)


def _transpose_kernels(ready: Ready) -> Ready:
    """Stores each recurrent kernel transposed, the order in which the backward loop multiplies by it."""

    def turn(node: Any) -> Any:
        if not isinstance(node, Kernel) or node.matrix is None:
            return node
        # The barrier makes XLA copy once, before the loop, instead of folding the transpose into every step's product.
        return Kernel(None, lax.optimization_barrier(jnp.swapaxes(node.matrix, -1, -2)))  # type: ignore[no-untyped-call]

    return jax.tree.map(turn, ready, is_leaf=lambda node: isinstance(node, Kernel))


def _zeros(leaf: Array) -> Array:
    return jnp.zeros_like(leaf, dtype=statistics_dtype(leaf.dtype))


def _add(total: Array, *parts: Array) -> Array:
    for part in parts:
        total = total + part.astype(total.dtype)
    return total
