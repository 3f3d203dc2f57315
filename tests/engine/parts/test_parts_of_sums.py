"""Sums over time of a batch that is spread: those of one device, and gradients summed over the devices once a call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jaxnorm as jn
from tests import cases
from tests.engine.parts.test_parts import count_collectives
from tests.tools.marks import mostly_heavy

pytestmark = pytest.mark.usefixtures("spread")

STEPS, BATCH, CLASSES = 6, 8, 3


def losses(head, y, target):
    """A number and a vector for each example."""
    logits = y @ head
    return {"loss": (logits - target["wish"]) ** 2, "right": jnp.argmax(logits, -1) == target["word"]}


def across(head, y, target):
    """Looks at the whole batch."""
    return losses(head, y - y.mean(0, keepdims=True), target)


def gradient_of(cell, function, **options):
    def loss(params, head, xs, wish, word, masks):
        targets = {"wish": wish, "word": word}
        out = jn.unroll_sum(cell, params, xs, function, head, targets, **masks, **options)
        return jnp.sum(out.sums["loss"]), (out.sums, out.carry)

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True))


def check(cell, rng, *, kind, function=losses, axis=0, masks=lambda: {}, **options):
    """Compares with one device; returns the collectives outside of loops and in them."""
    layout = (STEPS, BATCH) if axis == 0 else (BATCH, STEPS)
    params = cases.random_cell_params(cell, rng)
    head, xs, wish = (
        jnp.asarray(rng.normal(size=size), jnp.float32)
        for size in ((cell.out_features, CLASSES), (*layout, cases.IN_FEATURES), (*layout, CLASSES))
    )
    word, masks = jnp.asarray(rng.integers(0, CLASSES, layout)), masks()
    gradient = gradient_of(cell, function, time_axis=axis, **options)
    expected = jax.device_get(gradient(params, head, xs, wish, word, masks))
    with jax.set_mesh(jax.make_mesh((4,), ("data",), axis_types=(kind,))):
        spec = P(None, "data") if axis == 0 else P("data")
        given = (params, head, *(jax.device_put(each, spec) for each in (xs, wish, word)), masks)
        compiled = gradient.lower(*given).compile()
        got = jax.device_get(compiled(*given))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), got, expected)
    return count_collectives(compiled.as_text())


KINDS = pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)


@KINDS
@pytest.mark.parametrize(
    "options",
    mostly_heavy(
        [
            {"chunk": 2, "block": 4},
            {"axis": 1, "chunk": 2, "block": 2, "reverse": True},
            {"method": "scan", "block": 3},
            {"block": 6, "save": "products"},
            {"truncate": 2},
        ]
    ),
    ids=str,
)
def test_one_sum_outside_of_loops(kind, options, rng):
    def masks():
        return {"lengths": jnp.arange(BATCH) % (STEPS + 1)}

    once, in_loops = check(jn.ln_gru(4), rng, kind=kind, masks=masks, **options)
    assert in_loops == 0
    assert once <= 2  # the weights of the cell, and the head


@KINDS
def test_a_function_or_a_cell_that_looks_across_the_batch(kind, rng):
    check(jn.gru(4), rng, kind=kind, function=across, block=3)
    check(jn.bn_lstm(4, max_steps=2), rng, kind=kind, block=3)
