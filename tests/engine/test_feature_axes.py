"""Cells of a user whose examples have two axes of features: the engine counts steps and examples without them."""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jaxnorm as jn
import jaxnorm.linen
import jaxnorm.nnx
from jaxnorm import analysis
from jaxnorm.cells.base import StepInput
from jaxnorm.cells.hooks import CellHooks

pytestmark = pytest.mark.long

STEPS, BATCH, HEIGHT, WIDTH = 5, 3, 2, 4


class GridParams(NamedTuple):
    kernel: jax.Array
    recurrent: jax.Array


class GridCarry(NamedTuple):
    h: jax.Array


@dataclasses.dataclass(frozen=True)
class Grid(CellHooks):
    """h_t = tanh(x_t * w + u * h_{t-1}) at each place of a grid; only what the protocol asks for."""

    height: int = HEIGHT
    width: int = WIDTH
    dtype: Any = None

    max_steps = 1
    feature_axes = 2

    @property
    def hidden_features(self):
        return self.width

    @property
    def out_features(self):
        return self.width

    @property
    def sites(self):
        return jn.CellNorms(*[jn.Identity()] * 5)

    def init(self, key, in_features):
        return GridParams(*jax.random.normal(key, (2, self.height, self.width), jnp.float32))

    def initial_stats(self, dtype=None):
        return jn.CellNorms()

    def initial_carry(self, batch_shape, *, params=None, key=None, dtype=None):
        return GridCarry(jnp.zeros((*batch_shape, self.height, self.width), dtype or jnp.float32))

    def prepare(self, params, *, dtype=None, batch_shape=(), key=None):
        return jax.tree.map(lambda leaf: leaf.astype(dtype), params)

    def project_inputs(self, weights, xs):
        return {"product": (multiply(xs, weights.kernel),)}

    def normalize_inputs(self, weights, xs, products, stats, where, measured=None):
        assert where is None or where.shape == xs.shape[: xs.ndim - 2]
        return [products["product"][0]], jn.CellNorms()

    def project_state(self, weights, carry):
        return {"h": multiply(carry.h, weights.recurrent)}

    def step(self, weights, carry, t: StepInput):
        h = jnp.tanh(t.x_proj[0] + t.h_proj["h"])
        return GridCarry(h), h, jn.CellNorms()

    def update_running(self, stats, moments):
        return stats


@dataclasses.dataclass(frozen=True)
class LinearGrid(Grid):
    """h_t = x_t * w + u * h_{t-1}; the step multiplies by u, so there is no product of the state."""

    def project_state(self, weights, carry):
        return ()

    def step(self, weights, carry, t):
        assert t.h_proj == ()
        h = t.x_proj[0] + multiply(carry.h, weights.recurrent)
        return GridCarry(h), h, jn.CellNorms()

    def coefficients(self, weights, x_proj):
        return GridCarry(multiply(jnp.ones_like(x_proj[0]), weights.recurrent)), GridCarry(x_proj[0])


def multiply(x, weights):
    """Each example by the weights of its grid."""
    return x * weights.reshape((1,) * (x.ndim - 2) + weights.shape)


class Example(NamedTuple):
    params: Any
    xs: jax.Array
    carry: Any
    where: jax.Array
    reset: jax.Array


@pytest.fixture
def data(rng, x64):
    grid = (HEIGHT, WIDTH)
    return Example(
        GridParams(*jnp.asarray(0.5 + rng.random((2, *grid)))),
        jnp.asarray(rng.standard_normal((STEPS, BATCH, *grid))),
        GridCarry(jnp.asarray(rng.standard_normal((BATCH, *grid)))),
        jnp.asarray(rng.random((STEPS, BATCH)) < 0.7),
        jnp.asarray(rng.random((STEPS, BATCH)) < 0.3),
    )


def by_hand(params, xs, carry, *, linear=False, where=None, reset=None, lengths=None, reverse=False):
    """Each example alone, step after step."""
    outputs, last = [], []
    for example in range(xs.shape[1]):
        real = STEPS if lengths is None else int(lengths[example])
        order = range(real)[::-1] if reverse else range(real)
        h, ys = carry.h[example], [jnp.zeros(xs.shape[2:], xs.dtype)] * STEPS
        for t in order:
            if reset is not None and reset[t, example]:
                h = jnp.zeros_like(h)
            if where is None or where[t, example]:
                h = xs[t, example] * params.kernel + params.recurrent * h
                h = h if linear else jnp.tanh(h)
                ys[t] = h
        outputs.append(jnp.stack(ys))
        last.append(h)
    return jnp.stack(outputs, axis=1), GridCarry(jnp.stack(last))


def values_and_gradients(run, data):
    def loss(params, xs, carry):
        outputs, last = run(params, xs, carry)
        seen = (outputs, last.h)
        return sum(jnp.sum(jnp.sin(a + jnp.arange(a.size, dtype=a.dtype).reshape(a.shape))) for a in seen), seen

    return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(data.params, data.xs, data.carry)


def assert_same(got, expected, tolerance=1e-12):
    chex.assert_trees_all_close(got, expected, rtol=tolerance, atol=tolerance)


METHODS = {
    "scan": (Grid(), {"method": "scan"}),
    "carries": (Grid(), {"chunk": 2}),
    "chunks": (Grid(), {"chunk": 2, "save": "chunks"}),
    "one chunk": (Grid(), {}),
    "linear, carries": (LinearGrid(), {"chunk": 2}),
    "linear, associative": (LinearGrid(), {"method": "associative"}),
}

SITUATIONS = {
    "plain": (),
    "masks": ("where", "reset"),
    "lengths": ("lengths", "reset"),
    "reverse": ("where", "reset", "reverse"),
    "reverse within lengths": ("lengths", "where", "reset", "reverse"),
}


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_the_loop(method, situation, data):
    """Values and gradients; time is the second axis."""
    cell, options = METHODS[method]
    given = {"where": data.where, "reset": data.reset, "lengths": jnp.array([STEPS, 2, 0]), "reverse": True}
    given = {name: given[name] for name in SITUATIONS[situation]}
    layout = {name: jnp.swapaxes(given[name], 0, 1) for name in ("where", "reset") if name in given}

    def run(params, xs, carry):
        xs = jnp.swapaxes(xs, 0, 1)
        out = jn.unroll(cell, params, xs, carry=carry, time_axis=1, **{**given, **layout}, **options)
        return jnp.swapaxes(out.outputs, 0, 1), out.carry

    expected = partial(by_hand, linear=isinstance(cell, LinearGrid), **given)
    assert_same(values_and_gradients(run, data), values_and_gradients(expected, data))


def test_truncation(data):
    def run(**options):
        return values_and_gradients(
            lambda *args: jn.unroll(Grid(), args[0], args[1], carry=args[2], truncate=2, **options)[:2], data
        )

    assert_same(run(chunk=3), run(method="scan"))


def test_nan_at_masked_steps_reaches_nothing(data):
    xs = jnp.where(data.where[:, :, None, None], data.xs, jnp.nan)

    def run(params, xs, carry):
        return jn.unroll(Grid(), params, xs, carry=carry, where=data.where, chunk=2)[:2]

    got = values_and_gradients(run, data._replace(xs=xs))
    chex.assert_tree_all_finite(got)


def test_layers(data):
    """Stacks, residual ones with NaN at masked steps, and both directions."""
    cells, params = (Grid(), Grid()), (data.params, data.params)
    first, _ = by_hand(data.params, data.xs, GridCarry(jnp.zeros_like(data.carry.h)), where=data.where)
    second, _ = by_hand(data.params, first, GridCarry(jnp.zeros_like(data.carry.h)), where=data.where)
    assert_same(jn.stack(cells, params, data.xs, where=data.where).outputs, second)
    xs = jnp.where(data.where[:, :, None, None], data.xs, jnp.nan)
    got = jn.residual_stack(cells[:1], params[:1], xs, where=data.where, first=0).outputs
    assert_same(got, jnp.where(data.where[:, :, None, None], data.xs + first, 0.0))
    both = jn.bidirectional(cells, params, data.xs, reset=data.reset).outputs
    assert both.shape == (STEPS, BATCH, HEIGHT, 2 * WIDTH)


def test_flax_modules(data):
    """Batch first, as Flax has it; a single step, too."""
    xs = jnp.swapaxes(data.xs, 0, 1).astype(jnp.float32)
    lengths = jnp.array([STEPS, 2, 0])
    module = jaxnorm.linen.RNN(Grid())
    variables = module.init(jax.random.key(0), xs)
    params = GridParams(**variables["params"])
    expected = jn.unroll(Grid(), params, xs, time_axis=1, lengths=lengths).outputs
    assert_same(module.apply(variables, xs, seq_lengths=lengths), expected)
    assert nn.RNN(jaxnorm.linen.RNNCell(Grid())).init_with_output(jax.random.key(0), xs)[0].shape == xs.shape
    rnn = jaxnorm.nnx.RNN(Grid(), WIDTH, rngs=nnx.Rngs(0))
    rnn.kernel.set_value(params.kernel)
    rnn.recurrent.set_value(params.recurrent)
    assert_same(rnn(xs, seq_lengths=lengths), expected)
    assert nnx.RNN(jaxnorm.nnx.RNNCell(Grid(), WIDTH, rngs=nnx.Rngs(0)))(xs).shape == xs.shape


def test_activations_of_a_grid(data):
    """The gradient norms are those of a perturbation of the hidden state."""

    def loss(out):
        return jnp.sum(out.outputs**2) + jnp.sum(out.carry.h)

    found = analysis.activation_statistics(Grid(), data.params, data.xs, loss=loss, levels=(50.0,), where=data.where)
    outputs, _ = by_hand(data.params, data.xs, GridCarry(jnp.zeros_like(data.carry.h)), where=data.where)
    real = np.asarray(data.where)
    middle = [np.median(np.asarray(outputs[t])[real[t]]) if real[t].any() else 0.0 for t in range(STEPS)]
    np.testing.assert_allclose(found.outputs[:, 0], middle, rtol=1e-12, atol=1e-12)

    def perturbed(change):
        h, total = jnp.zeros_like(data.carry.h), 0.0
        for t in range(STEPS):
            new = jnp.tanh(multiply(data.xs[t], data.params.kernel) + multiply(h, data.params.recurrent)) + change[t]
            h = jnp.where(data.where[t][:, None, None], new, h)
            total = total + jnp.sum(jnp.where(data.where[t][:, None, None], new, 0.0) ** 2)
        return total + jnp.sum(h)

    gradient = jax.grad(perturbed)(jnp.zeros_like(data.xs))
    np.testing.assert_allclose(found.gradient_norms, jnp.sqrt(jnp.sum(gradient**2, axis=(2, 3))), rtol=1e-10)


def test_examples_spread_over_devices(data):
    """On a mesh with explicit axes the buffers of the loop have the sharding of the inputs."""
    xs = jnp.concatenate([data.xs, data.xs[:, :1]], axis=1).astype(jnp.float32)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), data.params)
    gradient = jax.jit(
        jax.grad(lambda params, xs: jnp.sum(jn.unroll(Grid(), params, xs, chunk=2).outputs ** 2), (0, 1))
    )
    expected = gradient(params, xs)
    with jax.set_mesh(jax.make_mesh((4,), ("data",), axis_types=(AxisType.Explicit,))):
        got = gradient(params, jax.device_put(xs, P(None, "data")))
        assert jax.typeof(got[1]).sharding.spec == P(None, "data", None, None)
    assert_same(got, expected, 1e-5)


def test_messages_count_the_features(data):
    xs, params = data.xs.astype(jnp.float32), jax.tree.map(lambda leaf: leaf.astype(jnp.float32), data.params)
    with pytest.raises(ValueError, match=r"xs must have at least 3 axes, time, .* 2 axes of features, got .*\(2, 4\)"):
        jn.unroll(Grid(), params, xs[0, 0])
    with pytest.raises(ValueError, match=r"time_axis=2 is the feature axis of xs"):
        jn.unroll(Grid(), params, xs, time_axis=2)
    with pytest.raises(ValueError, match=r"where must have shape xs\.shape\[:-2\] = \(5, 3\), got \(5, 3, 2\)"):
        jn.unroll(Grid(), params, xs, where=jnp.ones(xs.shape[:3], bool))
    with pytest.raises(ValueError, match=r"lengths must have shape \(\*B\) = \(3,\), got \(2,\)"):
        jn.unroll(Grid(), params, xs, lengths=jnp.ones(2, jnp.int32))
