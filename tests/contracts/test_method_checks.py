"""The checks of the methods find the faults that are planted in a cell."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import jaxnorm as jn
from jaxnorm.cells.wrappers.base import CellWrapper
from tests.contracts import method_checks

CELL = jn.bn_lstm(4, max_steps=3)


@dataclasses.dataclass(frozen=True)
class Faulty(CellWrapper):
    """The cell, with a fault in what one of its methods returns."""

    name: str = ""
    fault: object = None


def faulty(name, fault, cell=CELL):
    """A cell whose method returns what ``fault`` makes of the right result and of the arguments."""

    def method(self, *args, **options):
        return fault(getattr(super(kind, self), name)(*args, **options), *args)

    kind = type("Planted", (Faulty,), {name: method})
    return kind(cell, name, fault)


def by_gate(bias):
    return bias.reshape(4, -1)


def add(y, bias):
    return y + jnp.broadcast_to(bias, y.shape)


LAYOUTS = {
    "a bias by gate": ("init", lambda params, *_: params._replace(bias=by_gate(params.bias))),
    "a gain by gate": (
        "init",
        lambda params, *_: params._replace(
            norm=params.norm._replace(input=params.norm.input._replace(scale=by_gate(params.norm.input.scale)))
        ),
    ),
    "a bias of other features": ("init", lambda params, *_: params._replace(bias=jnp.zeros(18))),
    "a flat kernel": ("init", lambda params, *_: params._replace(kernel=params.kernel.ravel())),
    "statistics by gate": ("initial_stats", lambda stats, *_: jax.tree.map(lambda s: s.reshape(3, -1, 1), stats)),
    "statistics without rows": ("initial_stats", lambda stats, *_: jax.tree.map(lambda s: s[0], stats)),
}
PRODUCTS = {
    "a bias in the input product": ("project_inputs", lambda y, weights, xs: add(y, weights.bias)),
    "a constant in the input product": ("project_inputs", lambda y, weights, xs: y + 1e-6),
    "an input product that saturates": ("project_inputs", lambda y, weights, xs: jnp.tanh(1e-3 * y)),
    "an input product with a kernel squared": ("project_inputs", lambda y, weights, xs: y * weights.kernel.sum()),
    "an input product without its kernel": ("project_inputs", lambda y, weights, xs: xs),
    "a recurrent product with c": ("project_state", lambda y, weights, carry: y * carry.c.sum()),
    "a recurrent product that saturates": ("project_state", lambda y, weights, carry: jnp.tanh(1e-3 * y)),
    "a recurrent product with a bias": ("project_state", lambda y, weights, carry: add(y, weights.bias)),
    "a recurrent product with a kernel squared": ("project_state", lambda y, weights, carry: y * weights.kernel.sum()),
    "a prepared bias by gate": ("prepare", lambda weights, *_: weights._replace(bias=by_gate(weights.bias))),
}
BATCHES = {
    "an input product of rows": ("project_inputs", lambda y, weights, xs: y.reshape(len(y), -1, y.shape[-1])),
    "a recurrent product of other examples": ("project_state", lambda y, weights, carry: y[::-1]),
    "an output less that of others": (
        "step",
        lambda results, *_: (results[0], add(results[1], -results[1].mean(0)), results[2]),
    ),
    "a carry of other examples": (
        "step",
        lambda results, *_: (jax.tree.map(lambda c: c[::-1], results[0]), *results[1:]),
    ),
    "normalized inputs summed over examples": (
        "normalize_inputs",
        lambda results, *_: (jnp.cumsum(results[0], axis=1), results[1]),
    ),
}


def test_the_cell_without_a_fault_passes(x64):
    cell = faulty("step", lambda results, *_: results)
    method_checks.check_layout(cell)
    method_checks.check_linear(cell)
    method_checks.check_batch_shapes(cell)


@pytest.mark.parametrize("fault", LAYOUTS)
def test_layouts(fault):
    with pytest.raises(AssertionError):
        method_checks.check_layout(faulty(*LAYOUTS[fault]))


@pytest.mark.parametrize("fault", PRODUCTS)
def test_products(fault, x64):
    with pytest.raises(AssertionError):
        method_checks.check_linear(faulty(*PRODUCTS[fault]))


@pytest.mark.parametrize("fault", BATCHES)
def test_batches(fault, x64):
    with pytest.raises((AssertionError, TypeError, ValueError)):
        method_checks.check_batch_shapes(faulty(*BATCHES[fault]))
