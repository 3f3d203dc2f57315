"""A batch that is spread over devices: gradients of weights are summed over the devices once a call."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxnorm as jn
from tests import cases
from tests.contracts.cell_checks import equations

pytestmark = pytest.mark.usefixtures("spread")

DEVICES, STEPS, BATCH = 4, 5, 8
COLLECTIVE = re.compile(r" (?:all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")


def count_collectives(text):
    """How many there are outside of loops, and in all other computations of a program, such as bodies of loops."""
    blocks = re.split(r"\n(?=%|ENTRY)", text)
    found = [(block.startswith("ENTRY"), len(COLLECTIVE.findall(block))) for block in blocks]
    return tuple(sum(number for entry, number in found if entry == outside) for outside in (True, False))


def gradient_of(cell, axis=1, **options):
    def loss(params, xs, masks):
        return jnp.sum(jn.unroll(cell, params, xs, time_axis=axis, **masks, **options).outputs ** 2)

    return jax.jit(jax.value_and_grad(loss, (0, 1)))


def check(cell, rng, *, kind, axis=1, layout=None, shape=(BATCH,), masks=lambda: {}, mesh=(DEVICES,), **options):
    """Compares a spread call with that of one device; returns its collectives outside of loops and in them."""
    params = cases.random_cell_params(cell, rng)
    xs = jnp.asarray(rng.standard_normal((*shape[:axis], STEPS, *shape[axis:], cases.IN_FEATURES)), jnp.float32)
    masks, gradient = masks(), gradient_of(cell, axis, **options)
    names = ("data", "model")[: len(mesh)]
    with jax.set_mesh(jax.make_mesh(mesh, names, axis_types=(kind,) * len(mesh))):
        spread = jax.device_put(xs, layout or (P(None, "data") if axis == 0 else P("data")))
        compiled = gradient.lower(params, spread, masks).compile()
        got = compiled(params, spread, masks)
    compare = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(compare, jax.device_get(got), jax.device_get(gradient(params, xs, masks)))
    return count_collectives(compiled.as_text())


KINDS = pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)


@KINDS
def test_one_sum_outside_of_the_loop_over_chunks(kind, rng):
    assert check(jn.ln_lstm(4), rng, kind=kind, chunk=2) == (1, 0)


@pytest.mark.heavy
@KINDS
@pytest.mark.parametrize(
    "options",
    [
        {"axis": 0, "chunk": 2},
        {"axis": 0, "chunk": 2, "save": "chunks", "reverse": True},
        {"method": "scan"},
        {"chunk": 2, "mesh": (2, 2)},
        {"chunk": 2, "shape": (3, 4), "layout": P(None, "data"), "axis": 2},
        {"chunk": 2, "truncate": 2},
    ],
    ids=str,
)
def test_options(kind, options, rng):
    axis, shape = options.get("axis", 1), options.get("shape", (BATCH,))

    def masks():
        layout = (*shape[:axis], STEPS, *shape[axis:])
        return {
            "lengths": jnp.arange(np.prod(shape)).reshape(shape) % (STEPS + 1),
            "reset": jnp.asarray(rng.random(layout) < 0.3),
        }

    once, in_loops = check(jn.ln_gru(4, learn_carry=True), rng, kind=kind, masks=masks, **options)
    assert in_loops == 0
    assert once <= (1 if kind == AxisType.Auto else 3), "the type of a learned carry asks for a sum of its own"


@pytest.mark.heavy
@KINDS
@pytest.mark.parametrize(
    "cell",
    [
        jn.rms_lstm(4),
        jn.gru(4),
        jn.ln_rnn(4),
        jn.VariationalDropout(jn.ln_lstm(4), rate=0.4, input_rate=0.3),
        jn.DropConnect(jn.ln_gru(4), rate=0.3),
        jn.zoo.SLSTM(4),
        jn.zoo.ProjectedLSTM(4, projected_features=3),
        jn.zoo.MinGRU(4),
    ],
    ids=lambda cell: type(cell).__name__,
)
def test_cells(kind, cell, rng):
    key = {"key": jax.random.key(3)}
    assert check(cell, rng, kind=kind, chunk=2, masks=lambda: key) == (1, 0)


@pytest.mark.heavy
def test_running_statistics_see_no_other_example(rng):
    cell = jn.bn_lstm(4, max_steps=3)
    stats = jax.tree.map(lambda leaf: leaf + 0.5, cell.initial_stats())
    masks = {"stats": stats, "lengths": jnp.arange(BATCH) % (STEPS + 1)}
    assert check(cell, rng, kind=AxisType.Auto, chunk=2, masks=lambda: masks) == (1, 0)


def test_a_mesh_of_one_device_changes_nothing(rng):
    params = cases.random_cell_params(jn.ln_lstm(4), rng)
    xs = jnp.zeros((DEVICES, STEPS, cases.IN_FEATURES))
    program = jax.make_jaxpr(gradient_of(jn.ln_lstm(4)))
    trace = lambda *args: [n for e in equations(program(*args, {}).jaxpr) if (n := e.primitive.name) != "reshard"]  # noqa: E731
    one, many = (
        NamedSharding(jax.make_mesh((n,), ("data",), (AxisType.Auto,), devices=jax.devices()[:n]), P())
        for n in (1, DEVICES)
    )
    plain = trace(params, xs)
    assert trace(*jax.device_put((params, xs), one)) == plain
    assert trace(*jax.device_put((params, xs), many)) != plain


def test_fresh_carries_of_a_loop_on_an_explicit_mesh(rng):
    """A loop of the user carries what ``step`` returns, which is spread: so is what it begins with."""
    cell = jn.bn_lstm(4, max_steps=3, learn_carry=True)
    params = cases.random_cell_params(cell, rng)
    xs = jnp.asarray(rng.standard_normal((STEPS, BATCH, cases.IN_FEATURES)), jnp.float32)

    @partial(jax.jit, static_argnums=2)
    def steps(params, xs, spec):
        carry = cell.initial_carry((BATCH,), params=params, out_sharding=spec)
        stats = cell.initial_stats()
        return jax.lax.scan(lambda carry, x: jn.step(cell, params, carry, x, stats=stats), carry, xs)[1]

    expected = steps(params, xs, None)
    for kind in (AxisType.Auto, AxisType.Explicit):
        with jax.set_mesh(jax.make_mesh((DEVICES,), ("data",), axis_types=(kind,))):
            got = steps(params, jax.device_put(xs, P(None, "data")), P("data"))
            wrapped = jn.Zoneout(cell, rate=0.1).initial_carry((BATCH,), params=params, out_sharding=P("data"))
        assert wrapped.carry.h.sharding.spec == P("data", None)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
