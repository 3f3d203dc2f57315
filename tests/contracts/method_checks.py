"""What must hold for the methods of every cell, as plain functions: the contract calls them, planted faults must fail.

Data are float64, so that a difference is an error and not rounding; call under x64.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm._base.paths import paths
from jaxnorm.cells.base import StepInput
from jaxnorm.cells.hooks import hooks
from tests import cases
from tests.contracts.cell_checks import assert_close, image_of, peel, random_carry

STEPS = 3
FACTORS = (0.7, -1.9)
"""They do not add up to one, so that a constant in a projection shows."""


# ---- the layout of weights and statistics


def is_kernel(cell: Any, path: tuple[str, ...]) -> bool:
    """Whether a weight is one of the kernels that the cell names; scales lie under the names of their kernels."""
    return path[-1] in hooks(cell).kernel_axes and "scale" not in path[:-1]


def check_layout(cell: Any, other_sizes: tuple[int, ...] = ()) -> None:
    """Kernels have rank two or more, all other weights are flat, and so are statistics, but for their rows.

    ``other_sizes`` are those of vectors that hold something else than hidden features or outputs.
    """
    sizes = (cell.hidden_features, cell.out_features, *other_sizes)
    params = jax.eval_shape(lambda key: cell.init(key, cases.IN_FEATURES), jax.random.key(0))
    for path, leaf in paths(params):
        if is_kernel(cell, path):
            assert leaf.ndim >= 2, f"the kernel {path} has shape {leaf.shape}"
        else:
            check_vector(sizes, path, leaf.shape)
    for path, leaf in paths(jax.eval_shape(cell.initial_stats)):
        assert leaf.shape[:1] == (cell.max_steps,), f"the statistics {path} have shape {leaf.shape}"
        check_vector(sizes, path, leaf.shape[1:])


def check_vector(sizes: tuple[int, ...], path: tuple[str, ...], shape: tuple[int, ...]) -> None:
    """A number, or a vector of whole gates."""
    assert len(shape) < 2, f"{path} has shape {shape}"
    assert all(any(number % size == 0 for size in sizes) for number in shape), (
        f"{path} has {shape} for gates of {sizes}"
    )


# ---- projections are linear


def check_linear(cell: Any, key: Any = None) -> None:
    """``project_inputs`` is linear in the inputs, ``project_state`` in the carry, and both in the kernels together.

    Masks and vectors are held: of two sets of prepared weights with different kernels only what differs is mixed.
    """
    rng = np.random.default_rng(0)
    batch = (2,)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    others = cases.random_cell_params(cell, rng, dtype=jnp.float64)

    def changed(path: Any, leaf: jax.Array, other: jax.Array) -> jax.Array:
        names = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        named = is_kernel(cell, tuple(names)) or (names[-1] == "recurrent" and "scale" not in names)  # an IndRNN's
        return other if named else leaf

    others = jax.tree_util.tree_map_with_path(changed, params, others)
    weights, other_weights = (
        cell.prepare(each, dtype=jnp.float64, batch_shape=batch, key=key) for each in (params, others)
    )
    kept = [a for a, b in zip(*map(jax.tree.leaves, (weights, other_weights)), strict=True) if np.array_equal(a, b)]
    assert len(kept) < len(jax.tree.leaves(weights)), "no prepared weight depends on a kernel"
    image = image_of(cell)
    if key is None and not image:  # a vector may have a number for each position of an image
        assert all(vector.ndim < 2 for vector in kept), "prepared vectors are flat"
    xs, more_xs = (cases.random_inputs(rng, STEPS, (*batch, *image), jnp.float64) for _ in range(2))
    carry, more_carry = (peel(random_carry(cell, rng, batch))[0] for _ in range(2))
    linear("project_inputs in xs", lambda xs: cell.project_inputs(weights, xs), xs, more_xs)
    linear("project_inputs in kernels", lambda weights: cell.project_inputs(weights, xs), weights, other_weights)
    linear("project_state in carry", lambda carry: cell.project_state(weights, carry), carry, more_carry)
    linear("project_state in kernels", lambda weights: cell.project_state(weights, carry), weights, other_weights)


def linear(note: str, function: Callable[[Any], Any], x: Any, y: Any) -> None:
    """f(a x + b y) = a f(x) + b f(y), where x and y differ."""
    a, b = FACTORS
    mixed = jax.tree.map(lambda u, v: u if np.array_equal(u, v) else a * u + b * v, x, y)
    expected = jax.tree.map(lambda u, v: a * u + b * v, function(x), function(y))
    assert_close(function(mixed), expected, 1e-12, note)


# ---- methods take any leading batch shape


class Results(NamedTuple):
    """What the methods gave for the same data."""

    products: Any
    x_proj: Any
    h_proj: Any
    carry: Any
    output: Any
    moments: Any


def call_methods(
    cell: Any, params: Any, xs: Any, carry: Any, where: Any, stats: Any = None, key: Any = None
) -> Results:
    """Calls the methods in their order, with as many batch axes as the inputs have; one step."""
    batch = where.shape[1:]

    def serve(lead: tuple[int, ...]) -> Any:
        return jax.tree.map(lambda rows: jnp.broadcast_to(rows[0], (*lead, *batch, *rows.shape[1:])), stats)

    weights = cell.prepare(params, dtype=xs.dtype, batch_shape=batch, key=key)
    products = cell.project_inputs(weights, xs)
    x_proj, of_inputs = cell.normalize_inputs(weights, xs, products, serve(xs.shape[:1]), where)
    h_proj = cell.project_state(weights, carry)
    first = jax.tree.map(lambda leaf: leaf[0], x_proj)
    t = StepInput(first, h_proj, serve(()), where[0], key)
    new, output, moments = cell.step(weights, carry, t)
    measured = (of_inputs, moments) if stats is None else ()  # given ones come back, one for each example
    return Results(products, x_proj, h_proj, new, output, measured)


def check_batch_shapes(cell: Any, key: Any = None) -> None:
    """Two batch axes are one, and with given statistics each example is as if it were alone, without a batch axis.

    With a key, masks differ with the batch: then shapes alone are compared.
    """
    rng = np.random.default_rng(1)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, STEPS, (4, *image_of(cell)), jnp.float64)
    carry, _ = peel(random_carry(cell, rng, (4,)))
    where = jnp.asarray(rng.random((STEPS, 4)) < 0.7).at[0].set([True, True, False, True])
    stats = cases.random_stats(cell.initial_stats(jnp.float64), rng)

    def view(results: Results, change: Callable[[Any, int], Any]) -> Results:
        """The same results with other batch axes, which come after time in some of them."""
        lead = Results(1, 1, 0, 0, 0, None)
        return Results(
            *(
                tree if axis is None else jax.tree.map(lambda leaf, axis=axis: change(leaf, axis), tree)
                for tree, axis in zip(results, lead, strict=True)
            )
        )

    def square(leaf: Any, axis: int) -> Any:
        return leaf.reshape(*leaf.shape[:axis], 2, 2, *leaf.shape[axis + 1 :])

    def call(change: Callable[[Any, int], Any], stats: Any) -> Results:
        state = jax.tree.map(lambda leaf: change(leaf, 0), carry)
        return call_methods(cell, params, change(xs, 1), state, change(where, 1), stats, key)

    def same(got: Results, expected: Results, note: str) -> None:
        if key is None:
            assert_close(got, expected, note=note)
        else:
            chex.assert_trees_all_equal_shapes(got, expected, custom_message=note)

    def alone(leaf: Any, axis: int) -> Any:
        return leaf.take(1, axis)

    for given in (None, stats):
        whole = call(lambda leaf, axis: leaf, given)
        same(call(square, given), view(whole, square), "two batch axes")
        single, one = call(alone, given), view(whole, alone)
        if given is not None:
            same(single, one, "no batch axis")
        chex.assert_trees_all_equal_shapes(single, one, custom_message="no batch axis")
