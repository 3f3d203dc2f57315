"""Applies a function of one step to all steps at once; computes, and stores, results common to all steps once."""

from collections.abc import Callable
from typing import Any

import jax

from jaxnorm._base.typing import Array


def vmap_hoisting_constants(function: Callable[..., Any], *steps: Any) -> tuple[list[Array], Callable[..., Any]]:
    """Applies a function to every step.

    ``jax.vmap`` would broadcast a result that does not depend on the step, such as a kernel that a derivative needs, to
    every step.

    Args:
      function: takes the trees of one step.
      *steps: trees with a leading time axis.

    Returns:
      The leaves of the results that differ from step to step, with a leading time axis; and a function that takes these
      leaves of one step and rebuilds the whole result.
    """
    from jax.extend.core import jaxpr_as_fun  # lazy: it costs a tenth of jaxnorm's import time

    structure: Any = None

    def leaves(*step: Any) -> list[Array]:
        nonlocal structure
        flat, structure = jax.tree.flatten(function(*step))
        return flat

    if jax.tree.leaves(steps)[0].shape[0] == 0:
        return jax.vmap(leaves)(*steps), lambda of_step: jax.tree.unflatten(structure, of_step)
    closed = jax.make_jaxpr(leaves)(*jax.tree.map(lambda entry: entry[0], steps))
    differs = _depends(closed.jaxpr)  # from the program: vmap cannot tell which results are common to all steps
    axes = [0 if each else None for each in differs]
    results = jax.vmap(jaxpr_as_fun(closed), out_axes=axes)(*jax.tree.leaves(steps))
    constants = [leaf for leaf, each in zip(results, differs, strict=True) if not each]

    def rebuild(of_step: list[Array]) -> Any:
        here, everywhere = iter(of_step), iter(constants)
        return jax.tree.unflatten(structure, [next(here if each else everywhere) for each in differs])

    return [leaf for leaf, each in zip(results, differs, strict=True) if each], rebuild


def _depends(jaxpr: Any) -> list[bool]:
    """Whether each result depends on an argument; if one input of an inner program does, all its results count."""
    from jax.extend.core import Literal

    found = set(jaxpr.invars)
    for equation in jaxpr.eqns:
        if any(not isinstance(entry, Literal) and entry in found for entry in equation.invars):
            found.update(equation.outvars)
    return [not isinstance(entry, Literal) and entry in found for entry in jaxpr.outvars]
