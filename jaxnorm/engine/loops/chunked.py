"""The chunked method: runs a long sequence in chunks, with a reverse-mode derivative of its own."""

from functools import partial
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero
from jax.dtypes import float0
from jax.interpreters import ad, partial_eval

from jaxnorm._base.typing import Array
from jaxnorm.engine.arguments.sharding import zeros_beside
from jaxnorm.engine.loops.chunked_vjp import Residuals, backward
from jaxnorm.engine.loops.chunks import scan_chunks
from jaxnorm.engine.loops.differentiable import differentiable, is_differentiable
from jaxnorm.engine.loops.scan import scan_steps
from jaxnorm.engine.records import CarryOutputs, Chunk, ChunkPlan, LoopInputs, LoopOutputs, PerStep, Saved
from jaxnorm.engine.reuse import kept_moments, sites_to_keep, without_kept


def _run_chunks(plan: ChunkPlan, inputs: LoopInputs, steps: PerStep) -> tuple[LoopOutputs, tuple[Any, Any]]:
    """Runs a cell over a sequence in chunks; its derivative is that of ``chunked_vjp``.

    Returns:
      The outputs; and what is saved of each step and the carries before each chunk, empty unless ``plan.keep`` names
      them.
    """
    extra = CarryOutputs(plan.keep, after=plan.carries, rounding=plan.dtype if plan.save == "products" else None)
    last, results = scan_chunks(
        plan,
        partial(scan_steps, plan.cell, inputs, reverse=plan.reverse, carries=extra),
        inputs.carry,
        Chunk(inputs.xs, steps, ()),
        jax.tree.unflatten(
            plan.outputs,
            [
                zeros_beside(inputs.xs, plan.feature_axes, each.shape, each.dtype, place)
                for each, place in zip(plan.output_features, plan.output_places, strict=True)
            ],
        ),
        reverse=plan.reverse,
    )
    input_moments, step_moments, saved, after = results.time_major
    return LoopOutputs(last, results.in_layout, input_moments, step_moments, after), (saved, results.per_chunk)


run_chunks = jax.custom_vjp(_run_chunks, nondiff_argnums=(0,))


def _forward_rule(plan: ChunkPlan, inputs: Any, steps: Any) -> tuple[Any, Any]:
    """Runs the forward pass, saves carries and perhaps products, and traces the backward pass.

    JAX traces a VJP rule later, where the names of mapped axes are no longer bound. So we trace the backward pass here,
    and remove from it the gradients that nobody asks for, such as that of the inputs of the first layer.
    """
    # With symbolic zeros each leaf says whether a gradient is wanted; leaves without derivatives have no gradient.
    wanted = [leaf.perturbed for leaf in jax.tree.leaves(inputs) if is_differentiable(leaf.value)]
    inputs, steps = jax.tree.map(lambda leaf: leaf.value, (inputs, steps))
    sites = sites_to_keep(plan.cell, inputs, plan.axis, plan.feature_axes)
    outputs, kept = _run_chunks(plan._replace(keep=plan.save), inputs, steps._replace(measured=sites))
    steps = steps._replace(measured=kept_moments(outputs, sites))
    outputs = without_kept(outputs)
    residuals = Residuals(inputs._replace(carry=()), steps, *kept)
    closed, gradients = jax.make_jaxpr(partial(backward, plan), return_shape=True)(residuals, differentiable(outputs))
    jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, wanted, instantiate=True)
    program = _Program(jaxpr, closed.consts, wanted, jax.tree.structure(gradients))
    return (outputs, (Saved(), ())), (program, residuals)


def _backward_rule(plan: ChunkPlan, saved: Any, cotangents: Any) -> tuple[LoopInputs, None]:
    """Runs the traced backward pass; gradients that nobody asked for are None."""
    from jax.extend.core import ClosedJaxpr, jaxpr_as_fun  # lazy: they cost a tenth of jaxnorm's import time

    program, residuals = saved
    of_outputs = jax.tree.map(_instantiate, cotangents[0], is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
    run = jaxpr_as_fun(ClosedJaxpr(program.jaxpr, program.consts))
    gradients = iter(run(*jax.tree.leaves((residuals, of_outputs))))
    return jax.tree.unflatten(program.tree, [next(gradients) if each else None for each in program.wanted]), None


run_chunks.defvjp(_forward_rule, _backward_rule, symbolic_zeros=True)


@jax.tree_util.register_static
class _Program:
    """A traced program that travels with the residuals. It is static, so JAX does not treat it as an array."""

    def __init__(self, jaxpr: Any, consts: Any, wanted: list[bool], tree: Any) -> None:
        self.jaxpr, self.consts, self.wanted, self.tree = jaxpr, consts, wanted, tree


def _instantiate(cotangent: Array | SymbolicZero) -> Array | None:
    """Makes an array of zeros, of the same type on a mesh, for an output that a loss does not depend on.

    None stands for an output without derivative.
    """
    if cotangent.dtype == float0:
        return None
    if not isinstance(cotangent, SymbolicZero):
        return cotangent
    zeros: Array = ad.instantiate_zeros(ad.Zero(cotangent.aval))  # type: ignore[no-untyped-call]
    return zeros
