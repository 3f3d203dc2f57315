"""Kernels whose hidden features are spread over a mesh: values and gradients of one device, few collectives a step."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jaxnorm as jn
from tests import cases

pytestmark = pytest.mark.usefixtures("spread")

STEPS, BATCH = 4, 4
COLLECTIVE = re.compile(r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")
EXPLICIT, AUTO = AxisType.Explicit, AxisType.Auto


def spread(params):
    """Kernels by their last axis; vectors stay whole."""
    return jax.tree.map(lambda a: jax.device_put(a, P(*(None,) * (a.ndim - 1), "model") if a.ndim > 1 else P()), params)


def check(cell, rng, kind, mesh=(4,), **options):
    """Compares with one device; returns the collectives of each computation but the outermost, forward and all."""
    params = cases.random_cell_params(cell, rng)
    xs = jnp.asarray(rng.standard_normal((STEPS, BATCH, cases.IN_FEATURES)), jnp.float32)

    def loss(params, xs):
        out = jn.unroll(cell, params, xs, **options)
        return jnp.sum(out.outputs**2), out.moments

    gradient = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    names = ("data", "model")[-len(mesh) :]
    with jax.set_mesh(jax.make_mesh(mesh, names, axis_types=(kind,) * len(mesh))):
        given = spread(params), jax.device_put(xs, P(None, "data" if "data" in names else None))
        forward = jax.jit(loss).lower(*given).compile().as_text()
        compiled = gradient.lower(*given).compile()
        got = compiled(*given)
    expected, of_params = gradient(params, xs), got[1][0]
    assert of_params.recurrent.sharding.spec[-1] == "model"
    compare = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)  # noqa: E731
    jax.tree.map(compare, jax.device_get(got), jax.device_get(expected))
    return [count(text) for text in (forward, compiled.as_text())]


def count(text):
    blocks = [block for block in re.split(r"\n(?=%|ENTRY)", text) if not block.startswith("ENTRY")]
    assert not re.search(r" (?:all-to-all|collective-permute)(?:-start)?\(", text)
    return [number for number in (len(COLLECTIVE.findall(block)) for block in blocks) if number]


def test_a_step_gathers_the_state_and_adds_the_sums_of_its_norms(rng):
    """One gathering of h, the recurrent norm, and nothing of a chunk but the input norm; back as many."""
    forward, every = check(jn.ln_gru(4), rng, EXPLICIT, chunk=4)
    assert max(forward) <= 2
    assert sum(forward) <= 3
    assert sum(every) <= 3 + 2 + 4  # the forward pass; a step back; what a chunk measures again


@pytest.mark.heavy
@pytest.mark.parametrize("kind", [AUTO, EXPLICIT], ids=str)
@pytest.mark.parametrize("mesh", [(4,), (2, 2)], ids=str)
@pytest.mark.parametrize(
    ("cell", "most"),  # on explicit meshes, and on automatic ones, where no norm knows that its rows are spread
    [
        (jn.ln_lstm(4), {EXPLICIT: 3, AUTO: 4}),
        (jn.rms_lstm(4), {EXPLICIT: 3, AUTO: 3}),
        (jn.bn_lstm(4, max_steps=2), {EXPLICIT: 5, AUTO: 5}),
        (jn.LSTM(4, norm=jn.LayerNorm(), gate_groups=(1, 2, 1), learn_carry=True), {EXPLICIT: 3, AUTO: 6}),
        (jn.gru(4), {EXPLICIT: 1, AUTO: 1}),
        (jn.ln_rnn(4), {EXPLICIT: 2, AUTO: 4}),
    ],
    ids=lambda value: getattr(value, "norm", value).__class__.__name__,
)
def test_cells(cell, most, mesh, kind, rng):
    lengths = jnp.asarray([4, 0, 3, 2])
    forward, _ = check(cell, rng, kind, mesh, chunk=2, lengths=lengths)
    assert max(forward, default=0) <= most[kind]


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        (jn.LSTM(4, norm=jn.RMSNorm(fraction=0.5)), "RMSNorm"),
        (jn.GRU(4, norm=jn.CellNorms(recurrent=jn.GroupNorm(2, axis=-1))), "GroupNorm"),
        (jn.zoo.PeepholeLSTM(4), "PeepholeLSTM"),
    ],
    ids=["fraction", "groups", "zoo"],
)
def test_what_needs_its_features_on_one_device_says_so(cell, what, rng):
    params = cases.random_cell_params(cell, rng)
    with jax.set_mesh(jax.make_mesh((4,), ("model",))), pytest.raises(ValueError, match=f"{what}.*on one device"):
        jn.unroll(cell, spread(params), jnp.ones((2, 3, cases.IN_FEATURES)))
