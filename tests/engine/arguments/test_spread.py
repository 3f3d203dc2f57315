"""A batch that is spread over devices by its sharding: each does its part of the work, the numbers are the same."""

import re
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxnorm as jn
from jaxnorm._base import devices
from tests import cases
from tests.cell_cases import CELLS, rows

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("spread")]

DEVICES, STEPS, BATCH = 4, 6, 8
MOVES = re.compile(r" (all-gather|all-to-all|collective-permute)(?:-start)?\(")


def mesh_of(kind):
    return jax.make_mesh((DEVICES,), ("data",), axis_types=(kind,))


def gradient_of(cell, axis, **options):
    def loss(params, xs, weights, masks):
        out = jn.unroll(cell, params, xs, time_axis=axis, key=jax.random.key(3), **masks, **options)
        return jnp.sum(out.outputs * weights)

    return jax.jit(jax.value_and_grad(loss, (0, 1)))


def data_for(cell, axis, rng):
    params = cases.random_cell_params(cell, rng)
    shape = (STEPS, BATCH) if axis == 0 else (BATCH, STEPS)
    xs = jnp.asarray(rng.standard_normal((*shape, cases.IN_FEATURES)), jnp.float32)
    weights = jnp.asarray(rng.standard_normal((*shape, cell.out_features)), jnp.float32)
    masks = {"lengths": jnp.arange(BATCH) % (STEPS + 1), "reset": jnp.asarray(rng.random(shape) < 0.3)}
    return params, xs, weights, masks


compare = partial(chex.assert_trees_all_close, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", rows(CELLS), ids=str)
def test_no_device_gets_the_data_of_another(case, rng):
    """The compiler has only sums to make over the devices, and products of a chunk are of a device's own rows."""
    params, xs, weights, _ = data_for(case.cell, 1, rng)
    mesh = mesh_of(AxisType.Auto)
    xs, weights = jax.device_put((xs, weights), NamedSharding(mesh, P("data")))
    params = jax.device_put(params, NamedSharding(mesh, P()))
    text = gradient_of(case.cell, 1, chunk=3).lower(params, xs, weights, {}).compile().as_text()
    assert not MOVES.search(text)
    assert f"[{3 * BATCH}," not in text.replace(f"[{3 * BATCH},1]", "")


@pytest.mark.parametrize("options", [{"chunk": 4}, {"chunk": 4, "save": "chunks"}, {"method": "scan"}], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["ln_lstm_per_gate_learned_carry", "bn_lstm", "zoneout_bn_lstm", "slstm"])
def test_explicit_meshes(name, axis, options, rng):
    """Meshes as ``jax.make_mesh`` makes them, where the sharding is part of a type."""
    cell = next(case.cell for case in CELLS if case.name == name)
    params, xs, weights, masks = data_for(cell, axis, rng)
    gradient = gradient_of(cell, axis, **options)
    with jax.set_mesh(mesh_of(AxisType.Explicit)):
        layout = P(None, "data") if axis == 0 else P("data")
        spread_masks = {
            "lengths": jax.device_put(masks["lengths"], P("data")),
            "reset": masks["reset"],  # not spread: it is brought to its examples
        }
        got = gradient(params, *jax.device_put((xs, weights), layout), spread_masks)
        assert jax.typeof(got[1][1]).sharding.spec == P(*layout, *(None,) * (xs.ndim - len(layout)))
    compare(got, gradient(params, xs, weights, masks))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_rows_of_examples_that_are_spread(kind, axis, rng):
    """Their ages are counted where they lie: only sums go between devices, and the rows are everywhere the same."""
    cell = jn.bn_lstm(4, max_steps=3)
    params, xs, _, masks = data_for(cell, axis, rng)
    carry = jn.unroll(cell, params, xs, time_axis=axis, **masks).carry

    @jax.jit
    def measure(params, xs, carry, masks):
        return jn.unroll(cell, params, xs, carry=carry, time_axis=axis, **masks).moments

    mesh = mesh_of(kind)
    layout = P(None, "data") if axis == 0 else P("data")
    put = lambda tree, spec: jax.device_put(tree, NamedSharding(mesh, spec))  # noqa: E731
    with jax.set_mesh(mesh):
        given = (
            put(params, P()),
            put(xs, layout),
            put(carry, P("data")),
            {"lengths": put(masks["lengths"], P("data")), "reset": put(masks["reset"], layout)},
        )
        got = measure(*given)
        text = measure.lower(*given).compile().as_text()
    compare(got, measure(params, xs, carry, masks))
    assert not MOVES.search(text)


def test_a_carry_is_handed_on_between_calls_on_an_explicit_mesh(rng):
    cell = jn.bn_lstm(4, max_steps=3)
    params, xs, _, masks = data_for(cell, 0, rng)

    def twice(params, xs, lengths):
        first = jn.unroll(cell, params, xs, lengths=lengths)
        return jn.unroll(cell, params, xs, carry=first.carry, reverse=True, lengths=lengths)

    with jax.set_mesh(mesh_of(AxisType.Explicit)):
        got = jax.jit(twice)(params, jax.device_put(xs, P(None, "data")), masks["lengths"])
        assert jax.typeof(got.carry.h).sharding.spec == P("data", None)
    compare(got, jax.jit(twice)(params, xs, masks["lengths"]))


def test_an_explicit_mesh_of_one_device(rng, monkeypatch):
    """Its arrays say that their batch is spread, too: the forms for a single CPU do not fit them."""
    monkeypatch.setattr(devices, "count_cpus", lambda: 1)
    cell = jn.ln_lstm(4)
    params, xs, weights, masks = data_for(cell, 1, rng)
    gradient = gradient_of(cell, 1)
    with jax.set_mesh(jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])):
        got = gradient(params, *jax.device_put((xs, weights, masks), P("data")))
    compare(got, gradient(params, xs, weights, masks))


def test_arrays_of_an_explicit_mesh_that_is_not_set(rng):
    cell = jn.ln_gru(4)
    params, xs, weights, masks = data_for(cell, 1, rng)
    mesh = mesh_of(AxisType.Explicit)
    spread_data = jax.device_put((xs, weights, masks), NamedSharding(mesh, P("data")))
    got = gradient_of(cell, 1)(jax.device_put(params, NamedSharding(mesh, P())), *spread_data)
    compare(got, gradient_of(cell, 1)(params, xs, weights, masks))


def test_associative_scan_on_an_explicit_mesh(rng):
    cell = jn.zoo.MinGRU(4)
    params, xs, weights, masks = data_for(cell, 1, rng)
    gradient = gradient_of(cell, 1, method="associative")
    with jax.set_mesh(mesh_of(AxisType.Explicit)):
        got = gradient(params, *jax.device_put((xs, weights, masks), P("data")))
    compare(got, gradient(params, xs, weights, masks))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_batch_statistics_of_data_far_from_zero(kind, rng, spread):
    """The element that is taken away before the mean lies on one device: its value is that of one device alone."""
    x = jnp.asarray(rng.standard_normal((16, 5)) * 0.1 + 4096.0, jnp.float32)
    measured = jax.jit(lambda x: jn.moments(x, axis=0))
    with jax.set_mesh(mesh_of(kind)):
        got = measured(jax.device_put(x, P("data")))
        equal = measured(jax.device_put(jnp.full((12, 5), 4096.1), P("data")))
    np.testing.assert_allclose(got.var, np.var(np.asarray(x, np.float64), axis=0), rtol=1e-4)
    compare(got, measured(x))
    assert not np.any(equal.var), "what is equal to the element is exactly zero without it"


def test_large_data_are_normalized_where_they_lie(rng):
    mesh = mesh_of(AxisType.Auto)
    x = jax.ShapeDtypeStruct((4096, 512), jnp.float32, sharding=NamedSharding(mesh, P("data")))
    compiled = jax.jit(jax.grad(lambda x: jnp.sum(jn.layer_norm(x) ** 3))).lower(x).compile()
    assert not MOVES.search(compiled.as_text())


NORMS = {
    "layer": jn.layer_norm,
    "layer, two axes": lambda x, s: jn.layer_norm(x, s[None], axis=(1, 2)),
    "layer, over examples": lambda x, s: jn.layer_norm(x, s[None, None], axis=0),
    "rms": jn.rms_norm,
    "batch": lambda x, s: jn.batch_norm(x, s)[0],
    "ghost": lambda x, s: jn.zoo.ghost_batch_norm(x, s, size=2)[0],
    "group": partial(jn.group_norm, num_groups=4),
    "group, features alone": partial(jn.group_norm, num_groups=4, axis=-1),
    "instance": jn.instance_norm,
}


@pytest.mark.parametrize("spec", [P("data"), P(None, "data"), P(None, None, "data")], ids=["B", "P", "F"])
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("name", NORMS)
def test_normalizers_of_spread_data(name, kind, spec, rng):
    """Examples, positions or features lie on several devices: values and gradients are those of one."""
    x, scale = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((8, 4, 8), 8))

    def loss(x, scale):
        return jnp.sum(jnp.sin(NORMS[name](x, scale)))

    gradient = jax.jit(jax.value_and_grad(loss, (0, 1)))
    with jax.set_mesh(mesh_of(kind)):
        spread = jax.device_put(x, spec)
        got, text = gradient(spread, scale), gradient.lower(spread, scale).compile().as_text()
    compare(got, gradient(x, scale))
    if spec == P("data"):
        assert not MOVES.search(text)
