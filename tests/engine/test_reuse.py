"""Moments of the forward pass that the backward pass uses again: only where a normalizer says that it can."""

import dataclasses
import re
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jaxnorm as jn
from jaxnorm.cells.base import StepInput
from jaxnorm.cells.sites import KEEP, SiteInput
from jaxnorm.norms.base import TrainsByMeasuring
from tests import cases
from tests.contracts.cell_checks import equations

pytestmark = pytest.mark.long

STEPS, BATCH, HIDDEN = 5, 4, 3
COLLECTIVE = re.compile(r" (?:all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")


@dataclasses.dataclass(frozen=True)
class Center(TrainsByMeasuring):
    """x - mean(x) over the batch, all members of an axis together; the mean is the only statistic."""

    axis_name: str | None = None

    def param_shape(self, shape):
        return shape[-1:]

    def init(self, shape, dtype=jnp.float32):
        return ()

    def initial_stats(self, shape, dtype=jnp.float32):
        return jn.Moments(jnp.zeros(shape, dtype), jnp.ones(shape, dtype), jnp.zeros((), dtype))

    def __call__(self, params, x, stats=None, where=None):
        return self.at_site(x, SiteInput(stats, None if where is None else where[..., 0]))

    def at_site(self, x, site):
        if site.stats is not None:
            return x - site.stats.mean[None], site.stats
        real = jnp.ones(x.shape[:-1], bool) if site.where is None else site.where
        if site.measured is None or site.measured is KEEP:
            mean, count = measure(self.axis_name, x, real)
        else:
            mean, count = reuse(self.axis_name, x, real, site.measured), site.measured.count
        return x - mean[None], jn.Moments(mean, jnp.zeros_like(mean), count)

    def update_running(self, running, measured):
        return measured

    def check_site(self, caller):
        pass


@dataclasses.dataclass(frozen=True)
class Reusing(Center):
    """The same, with the two methods of a normalizer that can use its moments again."""

    def normalize_and_keep(self, params, x, where=None):
        return self(params, x, None, where)

    def normalize_again(self, params, x, kept, where=None):
        return self.at_site(x, SiteInput(None, None if where is None else where[..., 0], kept))


def measure(axis_name, x, real):
    count = spanned(axis_name, jnp.sum(real, dtype=x.dtype))
    return mean_of(axis_name, x, real, count), count


def mean_of(axis_name, x, real, count):
    total = jnp.sum(jnp.where(real[..., None], x, 0.0), axis=tuple(range(x.ndim - 1)))
    return spanned(axis_name, total) / jnp.maximum(count, 1.0)


def spanned(axis_name, x):
    return x if axis_name is None else jax.lax.psum(x, axis_name)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def reuse(axis_name, x, real, moments):
    return moments.mean


@reuse.defjvp
def _reuse_jvp(axis_name, primals, tangents):
    """The derivative of the mean, whatever the tangent of the saved one."""
    _, real, moments = primals
    return moments.mean, mean_of(axis_name, tangents[0], real, moments.count)


class Params(NamedTuple):
    kernel: jax.Array
    recurrent: jax.Array


class Carry(NamedTuple):
    h: jax.Array


@dataclasses.dataclass(frozen=True)
class Centered:
    """h_t = tanh(C(x + r + x r)), x = C(x_t W), r = C(h_{t-1} U), so that each mean matters; it notes its moments."""

    norm: Any = Reusing()
    other: Any = Center()
    seen: Any = dataclasses.field(default_factory=list, compare=False)

    hidden_features = out_features = HIDDEN
    max_steps = 1
    dtype = None

    @property
    def sites(self):
        return jn.CellNorms(self.norm, self.norm, self.other, jn.Identity(), jn.Identity())

    def init(self, key, in_features):
        return Params(jnp.zeros((in_features, HIDDEN)), jnp.zeros((HIDDEN, HIDDEN)))

    def initial_stats(self, dtype=None):
        one = self.norm.initial_stats((HIDDEN,), dtype or jnp.float32)
        row = jax.tree.map(lambda leaf: leaf[None], one)
        return jn.CellNorms(row, row, row)

    def initial_carry(self, batch_shape, *, params=None, key=None, dtype=None):
        return Carry(jnp.zeros((*batch_shape, HIDDEN), dtype or jnp.float32))

    def prepare(self, params, *, dtype=None, batch_shape=(), key=None):
        return params

    def project_inputs(self, weights, xs):
        return xs @ weights.kernel

    def normalize_inputs(self, weights, xs, products, stats, where, measured=None):
        self.seen.append(("inputs", measured))
        given = StepInput(products, (), stats, where, measured=measured).at("input")
        x_proj, moments = jax.vmap(self.norm.at_site)(products, given)
        return x_proj, jn.CellNorms(input=moments)

    def project_state(self, weights, carry):
        return carry.h @ weights.recurrent

    def step(self, weights, carry, t: StepInput):
        self.seen.append(("step", t.measured))
        r, of_recurrent = self.norm.at_site(t.h_proj, t.at("recurrent"))
        a, of_cell = self.other.at_site(t.x_proj * (1.0 + r) + r, t.at("cell"))
        h = jnp.tanh(a)
        return Carry(h), h, jn.CellNorms(recurrent=of_recurrent, cell=of_cell)

    def update_running(self, stats, moments):
        return moments


@pytest.fixture
def data(rng, x64):
    params = Params(*(jnp.asarray(rng.standard_normal((n, HIDDEN))) for n in (2, HIDDEN)))
    xs = jnp.asarray(rng.standard_normal((STEPS, BATCH, 2)))
    masks = {
        "where": jnp.asarray(rng.random((STEPS, BATCH)) < 0.7),
        "reset": jnp.asarray(rng.random((STEPS, BATCH)) < 0.3),
    }
    return params, xs, masks


@pytest.fixture
def devices():
    """The batch may be spread over two devices."""
    with jax.set_mesh(jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))):
        yield


def loss(cell, params, xs, **options):
    """It sees the outputs and the moments."""
    out = jn.unroll(cell, params, xs, **options)
    measured = [m.mean for m in out.moments if m != ()]
    return jnp.sum(jnp.sin(out.outputs)) + sum(jnp.sum(mean**3) for mean in measured)


def assert_same(got, want, rtol=1e-10):
    chex.assert_trees_all_close(got, want, rtol=rtol, atol=rtol / 100)


@pytest.mark.parametrize("options", [{"chunk": 2}, {"chunk": 2, "save": "chunks"}, {}], ids=str)
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_are_those_of_the_scan(options, reverse, data, devices):
    """Each step gets its own moments, also in a last chunk that is shorter, and in a chunk that is run again."""
    params, xs, masks = data
    cell = Centered()
    got = jax.grad(partial(loss, cell, reverse=reverse, **masks, **options), (0, 1))(params, xs)
    asked = [measured for _, measured in cell.seen if measured is not None]
    assert any(measured.input is KEEP for measured in asked)
    backward = [measured for measured in asked if measured.input is not KEEP]
    assert backward
    assert all(moments.cell is None for moments in backward), "a normalizer that cannot reuse moments got them"
    assert all(isinstance(moments.input, jn.Moments) for moments in backward)
    plain = Centered(Center())
    assert_same(got, jax.grad(partial(loss, plain, reverse=reverse, **masks, method="scan"), (0, 1))(params, xs))
    assert all(measured is None for _, measured in plain.seen)


@pytest.mark.parametrize("save", ["carries", "chunks"])
def test_second_derivatives(save, data, devices):
    """They see how the saved moments depend on the data, and count it once."""
    params, xs, masks = data

    def curvature(cell, **options):
        def slope(xs):
            return jnp.sum(jax.grad(partial(loss, cell, params, **masks, **options))(xs) ** 2)

        return jax.grad(slope)(xs)

    assert_same(curvature(Centered(), chunk=2, save=save), curvature(Centered(), method="scan"))


def test_nothing_is_reused_or_saved_without_need(data, devices):
    """Neither with running statistics, nor for normalizers that do not ask for it; the forward pass gets none."""
    params, xs, _ = data

    def saved(cell):
        residuals = jax.eval_shape(lambda xs: jax.vjp(lambda xs: jn.unroll(cell, params, xs).outputs, xs)[1], xs)
        return sum(leaf.size for leaf in jax.tree.leaves(residuals))

    cell, plain = Centered(), Centered(Center())
    assert saved(cell) == saved(plain) + 2 * STEPS * (2 * HIDDEN + 1)  # mean, variance and count at two sites
    cell = Centered()
    jn.unroll(cell, params, xs)
    jax.grad(partial(loss, cell, stats=cell.initial_stats(jnp.float64)))(params, xs)
    assert all(measured is None for _, measured in cell.seen)


def test_on_one_device_the_backward_pass_measures_again(data):
    params, xs, _ = data
    cell = Centered()
    jax.grad(partial(loss, cell))(params, xs)
    assert cell.seen
    assert all(measured is None for _, measured in cell.seen)


def test_collectives_of_a_batch_over_devices(data):
    """The backward pass does not measure again: each site has only the sum that its derivative needs."""
    params, xs, _ = data
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))

    def gradient(kind):
        cell = Centered(kind("data"), Center("data"))
        member = jax.shard_map(
            lambda params, xs: jn.unroll(cell, params, xs, chunk=2).outputs,
            mesh=mesh, in_specs=(P(), P(None, "data")), out_specs=P(None, "data"),
        )  # fmt: skip
        return jax.grad(lambda params, xs: jnp.sum(member(params, xs) ** 3), (0, 1))

    def sums(kind):
        program = jax.make_jaxpr(gradient(kind))(params, xs)
        return sum(equation.primitive.name.startswith("psum") for equation in equations(program.jaxpr))

    assert_same(jax.jit(gradient(Reusing))(params, xs), jax.jit(gradient(Center))(params, xs))
    whole = Centered()
    expected = jax.grad(lambda params, xs: jnp.sum(jn.unroll(whole, params, xs).outputs ** 3), (0, 1))(params, xs)
    assert_same(jax.jit(gradient(Reusing))(params, xs), expected)
    assert sums(Reusing) < sums(Center)


BATCH_NORMS = {
    "bn_lstm": jn.bn_lstm(HIDDEN, max_steps=3),
    "gates apart": jn.GRU(HIDDEN, norm=jn.BatchNorm(epsilon=1e-4), gate_groups=(1, 2)),
    "reset before": jn.zoo.ResetBeforeGRU(HIDDEN, norm=jn.BatchNorm(scale_init=0.1)),
    "convolution": jn.zoo.ConvLSTM(HIDDEN, image_shape=(3,), kernel_size=2, norm=jn.BatchNorm()),
}


@pytest.mark.parametrize("save", ["products", "carries", "chunks"])
@pytest.mark.parametrize("name", BATCH_NORMS)
def test_batch_norm_gives_the_gradients_of_the_scan(name, save, data, devices, rng):
    """Of outputs and moments, with masks; and their curvature, which sees how the kept moments depend on the data."""
    _, xs, masks = data
    cell = BATCH_NORMS[name]
    xs = xs if name != "convolution" else jnp.asarray(rng.standard_normal((STEPS, BATCH, 3, 2)))
    params = cases.random_cell_params(cell, rng, 2, jnp.float64)

    def slopes(**options):
        return jax.grad(partial(loss, cell, **masks, **options), (0, 1))

    def curvature(**options):
        return jax.grad(lambda xs: jnp.sum(slopes(**options)(params, xs)[1] ** 2))(xs)

    assert_same(slopes(chunk=2, save=save)(params, xs), slopes(method="scan")(params, xs), rtol=1e-8)
    assert_same(curvature(chunk=2, save=save), curvature(method="scan"), rtol=1e-8)


def test_gradients_keep_their_digits_far_from_zero(devices, rng):
    """The rounded mean is kept with what rounding took from it: at an offset of 1e4 it misses half a thousandth."""
    cell = jn.bn_lstm(HIDDEN, max_steps=3)
    params = cell.init(jax.random.key(0), 2)
    params = params._replace(kernel=jnp.where(params.kernel > 0, 1.0, -1.0).at[1].set(0.0))  # products are exact
    xs = (1e4 + rng.standard_normal((STEPS, BATCH, 2))).astype(np.float32)

    def gradient(params, xs, **options):
        return jax.grad(lambda params: jnp.sum(jnp.sin(jn.unroll(cell, params, xs, **options).outputs)))(params)

    got = gradient(params, jnp.asarray(xs), chunk=2)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (params, xs))
        want = gradient(*wide, method="scan")
    for name in ("recurrent", "bias"):
        found, exact = getattr(got, name), getattr(want, name)
        np.testing.assert_allclose(found, exact, atol=3e-5 * np.abs(exact).max())


@pytest.mark.usefixtures("spread")
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_batch_norm_measures_once(kind, rng):
    """Two collectives for each of two sites and a step forward, one back; one back for the input site of a chunk."""
    cell = jn.bn_lstm(8, max_steps=3)
    params = cases.random_cell_params(cell, rng, 6)
    gradient = jax.jit(jax.grad(lambda params, xs: jnp.sum(jn.unroll(cell, params, xs, chunk=4).outputs ** 2)))
    with jax.set_mesh(jax.make_mesh((4,), ("data",), axis_types=(kind,))):
        xs = jax.device_put(jnp.ones((12, 8, 6)), P(None, "data"))
        text = gradient.lower(params, xs).compile().as_text()
    of_input, of_weights = 3, 2
    assert len(COLLECTIVE.findall(text)) <= 2 * 2 + 2 + of_input + of_weights
