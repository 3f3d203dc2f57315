"""Layouts of weights and inputs on meshes: right values and gradients, or a line that says what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxnorm as jn
from tests import cases

pytestmark = pytest.mark.usefixtures("spread")

EXPLICIT, AUTO = AxisType.Explicit, AxisType.Auto
STEPS, BATCH, SIZE = 3, 4, 4
BOTH = (("data", 2), ("model", 2))


def on(*axes, kind=EXPLICIT):
    names, sizes = zip(*axes, strict=True)
    kinds = kind if isinstance(kind, tuple) else (kind,) * len(names)
    return jax.set_mesh(jax.make_mesh(sizes, names, axis_types=kinds))


def put(params, spec):
    """Kernels by ``spec``, vectors whole."""
    return jax.tree.map(lambda leaf: jax.device_put(leaf, spec if leaf.ndim == 3 else P()), params)


def random(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def close(got, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *jax.device_get((got, expected)))


LAYERS = {"stack": jn.stack, "residual_stack": jn.residual_stack}


@pytest.mark.parametrize("layers", [LAYERS["stack"], pytest.param(LAYERS["residual_stack"], marks=pytest.mark.heavy)])
@pytest.mark.parametrize(
    "cell", [jn.ln_lstm(SIZE), pytest.param(jn.lstm(SIZE), marks=pytest.mark.heavy)], ids=["ln", ""]
)
def test_layers_whose_hidden_features_are_spread(layers, cell, rng):
    """The second layer reads outputs whose features are spread."""
    params = [cases.random_cell_params(cell, rng, SIZE) for _ in range(2)]
    xs = random(rng, STEPS, BATCH, SIZE)

    def loss(params, xs):
        return jnp.sum(layers([cell, cell], params, xs).outputs ** 2)

    gradient = jax.jit(jax.value_and_grad(loss, (0, 1)))
    expected = gradient(params, xs)
    with on(*BOTH):
        spread = [put(each, P(None, None, "model")) for each in params]
        got = gradient(spread, jax.device_put(xs, P(None, "data")))
        assert got[1][0][1].recurrent.sharding.spec == P(None, None, "model")
    close(got, expected)


@pytest.mark.parametrize(
    ("kernels", "inputs"),
    [
        (P("data"), P(None, "data")),
        (P(None, None, "data"), P(None, "data")),
        (P(None, None, "model"), P(None, ("data", "model"))),
        (P("data", None, "model"), P(None, "data")),
        (P("model"), P(None, "data")),
        (P(), P(None, None, "model")),
        (P(None, None, "model"), P(None, "data", "model")),
    ],
    ids=str,
)
def test_every_layout_of_kernels_and_inputs(kernels, inputs, rng):
    """Also kernels over the axis of the batch, as in fully sharded training: their gradients come back spread."""
    cell = jn.ln_gru(SIZE)
    params, xs = cases.random_cell_params(cell, rng, SIZE), random(rng, STEPS, BATCH, SIZE)

    def loss(params, xs):
        return jnp.sum(jn.unroll(cell, params, xs, chunk=2).outputs ** 2)

    gradient = jax.value_and_grad(loss)
    expected = gradient(params, xs)
    with on(*BOTH):
        got = gradient(put(params, kernels), jax.device_put(xs, inputs))
        padded = (*kernels, None, None, None)[:3]
        assert tuple(got[1].kernel.sharding.spec) == padded
    close(got, expected)


@pytest.mark.parametrize("time_axis", [0, 1])
def test_time_that_is_spread_is_refused(time_axis):
    cell, xs = jn.gru(SIZE), jnp.ones((4, 4, SIZE))
    params = cell.init(jax.random.key(0), SIZE)
    batch = "jax.P(None, 'data')" if time_axis == 0 else "jax.P('data', None)"
    with on(("data", 2)):
        spread = jax.device_put(xs, P("data") if time_axis == 0 else P(None, "data"))
        for run in (jn.unroll, lambda *a, **k: jn.unroll_sum(*a, lambda head, y, target: y, None, **k)):
            with pytest.raises(ValueError, match=f"along time, its axis {time_axis}") as caught:
                run(cell, params, spread, time_axis=time_axis)
            assert batch in str(caught.value)


@pytest.mark.parametrize("kind", [EXPLICIT, AUTO], ids=str)
@pytest.mark.parametrize("devices", [1, 2])
def test_no_steps(kind, devices):
    cell = jn.ln_lstm(SIZE)
    params = cell.init(jax.random.key(0), 2)
    with on(("data", devices), kind=kind):
        xs = jax.device_put(jnp.zeros((0, BATCH, 2)), P(None, "data"))
        out = jn.unroll(cell, params, xs, carry=jn.LSTMCarry(*jnp.ones((2, BATCH, SIZE))))
        sums = jn.unroll_sum(cell, params, xs, lambda head, y, target: y.sum(-1), None).sums
    assert out.outputs.shape == (0, BATCH, SIZE)
    np.testing.assert_array_equal(out.carry.c, 1.0)
    np.testing.assert_array_equal(sums, np.zeros(BATCH))


@pytest.mark.parametrize("devices", [1, 2])
def test_outputs_without_features(devices, rng):
    """A step of one's own may return one number for each example."""

    def step(params, carry, x):
        h = jnp.tanh(x @ params + carry)
        return h, h.sum(axis=-1)

    cell, weights, xs = jn.FunctionCell(step, jnp.zeros(2)), random(rng, 3, 2), random(rng, STEPS, BATCH, 3)

    def run(xs):
        sums = jn.unroll_sum(cell, weights, xs, lambda head, y, target: y, None).sums
        return jn.unroll(cell, weights, xs).outputs, sums

    expected = run(xs)
    with on(("data", devices)):
        close(run(jax.device_put(xs, P(None, "data"))), expected)


def test_sums_where_some_axes_of_a_mesh_are_mapped_by_hand(rng):
    cell = jn.gru(SIZE)
    params, xs = cases.random_cell_params(cell, rng, SIZE), random(rng, STEPS, BATCH, SIZE)

    def sums(params, xs):
        return jn.unroll_sum(cell, params, xs, lambda head, y, target: (y**2).sum(-1), None).sums.sum()

    expected = sums(params, xs)
    with on(*BOTH, kind=AUTO):
        mapped = jax.shard_map(
            lambda params, xs: jax.lax.psum(sums(params, xs), "data"),
            in_specs=(P(), P(None, "data")), out_specs=P(), axis_names={"data"},
        )  # fmt: skip
        close(jax.jit(mapped)(params, xs), expected)


@pytest.mark.parametrize("cell", [jn.lstm(SIZE), jn.bn_lstm(SIZE, max_steps=2)], ids=["lstm", "counted"])
def test_initial_carries_on_meshes(cell):
    with on(*BOTH, kind=(EXPLICIT, AUTO)):
        carry = cell.initial_carry((BATCH,), out_sharding=P("data"))
        assert all(leaf.sharding.spec == P("data", *(None,) * (leaf.ndim - 1)) for leaf in jax.tree.leaves(carry))
    with on(*BOTH):
        assert cell.initial_carry((BATCH,), out_sharding=P("data", "model")).h.sharding.spec == P("data", "model")
        assert cell.initial_carry((), out_sharding=P("model")).h.sharding.spec == P("model")


def test_shardings_that_do_not_fit():
    cell = jn.ln_lstm(SIZE)
    with pytest.raises(ValueError, match=r"initial_carry: out_sharding=.*is for the mesh that is set, and none is"):
        cell.initial_carry((BATCH,), out_sharding=P("data"))
    with on(*BOTH):
        with pytest.raises(ValueError, match=r"batch_shape=\(3,\) over 2 devices, which do not divide 3"):
            cell.initial_carry((3,), out_sharding=P("data"))
        with pytest.raises(ValueError, match="names the mesh axis 'rows'; the mesh has 'data', 'model'"):
            cell.initial_carry((BATCH,), out_sharding=P("rows"))
    mesh = jax.make_mesh((2,), ("data",))
    assert cell.initial_carry((BATCH,), out_sharding=NamedSharding(mesh, P("data"))).h.sharding.spec == P("data", None)
