"""The functions that are compiled, with arguments that have shapes and places, but no numbers."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from benchmarks.programs import build
from benchmarks.static.cases import UNPLACED, Case
from benchmarks.static.targets import devices

DTYPE = "bfloat16"


def program(case: Case) -> tuple[Callable[..., Any], tuple[Any, ...], Any]:
    """The gradient, its arguments, and where its results go; None leaves that to the compiler."""
    library = "ours" if case.library == UNPLACED else case.library
    made: Any = build(library, case.model, case.sizes, DTYPE)
    batch, steps, inputs, hidden = case.sizes
    in_order = [[(steps, batch, features)[axis] for axis in made.order] for features in (inputs, hidden)]
    xs, cotangent = (jax.ShapeDtypeStruct(shape, DTYPE) for shape in in_order)
    arguments = (made.params, made.state, xs, cotangent)
    shardings = _shardings(case, arguments)
    placed = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), arguments, shardings)
    # Value and running statistics, then the gradients of parameters and inputs, which stay spread as those are.
    results = None if case.spread == "none" else (None, (shardings[0], shardings[2]))
    return made.function("gradient"), placed, results


def _shardings(case: Case, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """One for each leaf: all on one device; the batch spread; or the hidden features, which kernels have last.

    A mesh, even of one device, names the device in the types of the arrays, as the default backend does for a user who
    has the device. "ours-unplaced" has no mesh: it is traced for the host.
    """
    found = devices(case.target, spread=case.spread != "none")
    if case.library == UNPLACED:
        single = SingleDeviceSharding(found[0])
        return jax.tree.map(lambda _: single, arguments)
    mesh = Mesh(np.array(found[: 1 if case.spread == "none" else 8]), ("all",), axis_types=(AxisType.Auto,))
    everywhere = NamedSharding(mesh, PartitionSpec())
    if case.spread == "none":
        return jax.tree.map(lambda _: everywhere, arguments)
    params, state, _, cotangent = arguments
    if case.spread == "batch":
        rows = NamedSharding(mesh, PartitionSpec(None, "all"))
        return (*jax.tree.map(lambda _: everywhere, (params, state)), rows, rows)
    hidden = case.sizes.hidden

    def features(leaf: Any) -> NamedSharding:
        spread = leaf.ndim > 1 and leaf.shape[-1] == hidden
        return NamedSharding(mesh, PartitionSpec(*[None] * (leaf.ndim - 1), "all")) if spread else everywhere

    of_state = jax.tree.map(lambda _: everywhere, state)
    return jax.tree.map(features, params), of_state, everywhere, features(cotangent)
