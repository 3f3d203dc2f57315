"""The convolutional LSTM: its equation, the contract of cells with images as examples, peers, wrappers and Flax."""

import itertools
import pickle

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
from jaxnorm import optim
from tests import cases
from tests.cell_cases import IMAGE_CELLS
from tests.cells import oracles
from tests.contracts import cell_checks, method_checks

pytestmark = pytest.mark.long

rows = pytest.mark.parametrize("case", IMAGE_CELLS, ids=str)
CELL = jn.zoo.ConvLSTM(2, image_shape=(4, 3))


# ---- the equation


def convolve(x, kernel, strides, dilation, padding):
    """The sum over the window, place by place and element by element; x is (*B, *image, I)."""
    n = kernel.ndim - 2
    image, window = x.shape[-n - 1 : -1], kernel.shape[:n]
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, window, strict=True)]
    if padding == "SAME":
        sizes = [-(-i // s) for i, s in zip(image, strides, strict=True)]
        total = [max((o - 1) * s + k - i, 0) for o, s, k, i in zip(sizes, strides, spans, image, strict=True)]
        before = [t // 2 for t in total]
    else:
        sizes, before = [(i - k) // s + 1 for i, k, s in zip(image, spans, strides, strict=True)], [0] * n
    y = np.zeros((*x.shape[: -n - 1], *sizes, kernel.shape[-1]))
    for place in itertools.product(*map(range, sizes)):
        for element in itertools.product(*map(range, window)):
            at = [p * s + e * d - b for p, s, e, d, b in zip(place, strides, element, dilation, before, strict=True)]
            if all(0 <= a < i for a, i in zip(at, image, strict=True)):
                y[(..., *place, slice(None))] += x[(..., *at, slice(None))] @ kernel[element]
    return y


def oracle(cell, p, xs, c, h, norms=None):
    """The equations of the paper with a loop over steps; ``norms`` are those of the sites input, recurrent, cell."""
    n_x, n_h, n_c = norms or [lambda v: v] * 3
    ones, hs = (1,) * len(cell.image_shape), []
    bias = 0.0 if p.bias is None else p.bias
    peepholes = np.zeros(3) if p.peephole is None else np.split(p.peephole, 3, axis=-1)
    for x in xs:
        x_proj = n_x(convolve(x, p.kernel, cell.strides, cell.dilation, cell.padding))
        v = x_proj + n_h(convolve(h, p.recurrent, ones, ones, "SAME")) + bias
        i, f, g, o = np.split(v, 4, axis=-1)
        i, f = oracles.sigmoid(i + peepholes[0] * c), oracles.sigmoid(f + peepholes[1] * c)
        c = f * c + i * np.tanh(g)
        h = oracles.sigmoid(o + peepholes[2] * c) * np.tanh(n_c(c))
        hs.append(h)
    return np.stack(hs), c, h


def over_axes(axes, p_site):
    """Layer normalization over some of the last axes, with weights that broadcast."""

    def norm(v):
        mean = v.mean(axes, keepdims=True)
        return p_site.scale * (v - mean) / np.sqrt(((v - mean) ** 2).mean(axes, keepdims=True) + 1e-5) + p_site.bias

    return norm


def batch(p_site):
    """Over examples and positions."""
    return lambda v: over_axes(tuple(range(v.ndim - 1)), p_site)(v)


SPECS = {
    "2d": ({"image_shape": (4, 3)}, None),
    "1d, valid, strides": ({"image_shape": (8,), "padding": "VALID", "strides": 2, "kernel_size": 3}, None),
    "3d, even windows": ({"image_shape": (3, 2, 3), "kernel_size": (2, 1, 3)}, None),
    "dilation": ({"image_shape": (6, 5), "dilation": (2, 1)}, None),
    "strides": ({"image_shape": (5, 4), "strides": (2, 3)}, None),
    "peepholes": ({"image_shape": (3, 4), "use_peepholes": True}, None),
    "without bias": ({"image_shape": (3, 2), "use_bias": False}, None),
    "layer norm of channels": ({"image_shape": (3, 4), "norm": jn.LayerNorm()}, lambda p: over_axes(-1, p)),
    "layer norm of images": (
        {"image_shape": (3, 4), "norm": jn.LayerNorm((-3, -2, -1))},
        lambda p: over_axes((-3, -2, -1), p),
    ),
    "one group": (
        {"image_shape": (3, 4), "norm": jn.GroupNorm(1, axis=(-3, -2, -1))},
        lambda p: over_axes((-3, -2, -1), p),
    ),
    "instance norm": ({"image_shape": (3, 4), "norm": jn.InstanceNorm((-3, -2))}, lambda p: over_axes((-3, -2), p)),
    "batch norm": ({"image_shape": (3, 4), "norm": jn.BatchNorm()}, batch),
}


def draw(cell, rng, steps=3, batch=(2,)):
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, steps, (*batch, *cell.image_shape), jnp.float64)
    state = [jnp.asarray(rng.standard_normal((*batch, *cell.state_shape, cell.hidden_features))) for _ in range(2)]
    return params, xs, jn.LSTMCarry(*state)


@pytest.mark.parametrize("method", ["chunked", "scan"])
@pytest.mark.parametrize("name", SPECS)
def test_cell_is_the_equation_of_the_paper(name, method, x64, rng):
    options, norm = SPECS[name]
    cell = jn.zoo.ConvLSTM(2, **options)
    params, xs, carry = draw(cell, rng)
    out = jn.unroll(cell, params, xs, carry=carry, method=method)
    p = oracles.to_numpy(params)
    norms = None if norm is None else [norm(site) for site in p.norm[:3]]
    ys, c, h = oracle(cell, p, np.asarray(xs), np.asarray(carry.c), np.asarray(carry.h), norms)
    for got, expected in ((out.outputs, ys), (out.carry.c, c), (out.carry.h, h)):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-11)


def test_given_statistics_serve_all_positions(x64, rng):
    """Of an example at its own age; each position by the same row."""
    cell = jn.zoo.ConvLSTM(2, image_shape=(3, 2), norm=jn.BatchNorm(), max_steps=3)
    params, xs, _ = draw(cell, rng)
    stats = cases.random_stats(cell.initial_stats(jnp.float64), rng)
    got = jn.unroll(cell, params, xs, stats=stats).outputs
    p, s = oracles.to_numpy(params), oracles.to_numpy(stats)
    c = h = np.zeros((2, 3, 2, 2))
    for t in range(3):
        norms = [
            lambda v, site=site, t=t: oracles.batch_norm(
                v, jn.Moments(getattr(s, site).mean[t], getattr(s, site).var[t], 1.0), *getattr(p.norm, site)
            )
            for site in ("input", "recurrent", "cell")
        ]
        ys, c, h = oracle(cell, p, np.asarray(xs[t : t + 1]), c, h, norms)
        np.testing.assert_allclose(got[t], ys[0], rtol=1e-9, atol=1e-11)


# ---- the contract of all cells


@rows
def test_engine_equals_plain_loop_with_masks_resets_and_gradients(case, x64):
    cell_checks.check_loop(case.cell)
    cell_checks.check_padding(case.cell)
    cell_checks.check_reset(case.cell)
    cell_checks.check_rows(case.cell, batch_statistics=case.batch_statistics)


@rows
def test_pieces_layouts_examples_and_short_sequences(case, x64):
    cell_checks.check_split(case.cell)
    cell_checks.check_reverse_and_layout(case.cell)
    cell_checks.check_lengths_reversed(case.cell)
    cell_checks.check_vmap(case.cell)
    cell_checks.check_short(case.cell)
    cell_checks.check_program(case.cell)


@rows
def test_methods(case, x64):
    method_checks.check_linear(case.cell)
    method_checks.check_batch_shapes(case.cell)


@rows
def test_specs_are_values(case):
    assert pickle.loads(pickle.dumps(case.cell)) == case.cell
    assert isinstance(case.cell, jn.Cell)
    assert hash(case.cell) == hash(pickle.loads(pickle.dumps(case.cell)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype, rng):
    """Outputs and h in the compute dtype, c in float32; gradients in the dtype of the weights."""
    cell = jn.zoo.ConvLSTM(2, image_shape=(4, 3), norm=jn.LayerNorm(), dtype=dtype)
    params = cases.random_cell_params(cell, rng)
    xs = cases.random_inputs(rng, 3, (2, 4, 3), jnp.dtype(dtype))
    out, pull = jax.vjp(lambda p, xs: jn.unroll(cell, p, xs).outputs, params, xs)
    assert out.dtype == dtype
    assert cell.initial_carry((2,)).c.dtype == jnp.float32
    wide = jn.unroll(cases.with_fields(cell, dtype=None), params, xs.astype(jnp.float32)).outputs
    np.testing.assert_allclose(out.astype(jnp.float32), wide, atol=0.05)
    assert all(np.all(np.isfinite(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(pull(out)))


def test_initial_values(key):
    cell = jn.zoo.ConvLSTM(8, image_shape=(16, 16), kernel_size=(3, 2), use_peepholes=True, learn_carry=True)
    params = cell.init(key, 5)
    assert params.kernel.shape == (3, 2, 5, 32)
    np.testing.assert_allclose(np.std(params.kernel), (6 * 5) ** -0.5, rtol=0.1)
    for gate in np.split(np.asarray(params.recurrent).reshape(-1, 32), 4, axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(8), atol=1e-5)
    np.testing.assert_array_equal(params.bias, np.repeat([0.0, 1.0, 0.0, 0.0], 8))
    assert params.peephole.shape == (16, 16, 24)
    assert params.carry.c.shape == (8,)
    joint = jn.zoo.ConvLSTM(64, image_shape=(4,), recurrent_init=None).init(key, 64)
    np.testing.assert_allclose(np.std(joint.recurrent), (3 * 128) ** -0.5, rtol=0.05)


def test_weights_fit_images_of_any_size(rng, key):
    """Far from the border, and before the border reaches there, a larger image makes no difference."""
    small, large = (jn.zoo.ConvLSTM(2, image_shape=(size,), learn_carry=True) for size in (9, 12))
    params = cases.random_cell_params(small, rng)
    xs = cases.random_inputs(rng, 2, (3, 12))
    got = jn.unroll(large, params, xs).outputs[:, :, :4]
    np.testing.assert_allclose(got, jn.unroll(small, params, xs[:, :, :9]).outputs[:, :, :4], atol=1e-5)


# ---- around the cell


WRAPPED = {
    "zoneout": jn.Zoneout(CELL, rate=0.3, cell_rate=0.5),
    "recurrent dropout": jn.RecurrentDropout(CELL, rate=0.4),
    "variational dropout": jn.VariationalDropout(CELL, rate=0.4, input_rate=0.3),
    "dropped connections": jn.DropConnect(CELL, rate=0.5),
    "weight norm": jn.Reparametrized(CELL, jn.WeightNorm()),
    "bounded weight norm": jn.Reparametrized(CELL, jn.weight_norms.BoundedWeightNorm()),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers(name, key, rng, x64):
    """Both methods draw the same masks, with values and gradients."""
    cell = WRAPPED[name]
    params = cell.init(key, cases.IN_FEATURES)
    xs = cases.random_inputs(rng, 4, (2, 4, 3), jnp.float64)

    def loss(params, xs, method):
        out = jn.unroll(cell, params, xs, key=key, method=method)
        return jnp.sum(jnp.sin(out.outputs)) + jnp.sum(jnp.sin(out.carry.c))

    (a, by_chunks), (b, by_scan) = (jax.value_and_grad(loss, (0, 1))(params, xs, m) for m in ("chunked", "scan"))
    np.testing.assert_allclose(a, b, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), by_chunks, by_scan)


def test_masks_are_those_of_whole_images(key):
    """Variational dropout drops a channel everywhere in an image; units of normalized kernels are output channels."""
    weights = WRAPPED["variational dropout"].prepare(CELL.init(key, 3), batch_shape=(2,), key=key)
    assert [mask.shape for mask in weights.masks] == [(2, 1, 1, 3), (2, 1, 1, 2)]
    params = WRAPPED["weight norm"].init(key, 3)
    assert {name: scale.shape for name, scale in params.scale.items()} == {"kernel": (8,), "recurrent": (8,)}
    for name, scale in params.scale.items():
        np.testing.assert_allclose(np.sum(getattr(params.cell, name) ** 2, (0, 1, 2)) ** 0.5, scale, rtol=1e-5)
    with pytest.raises(ValueError, match=r"tied=False needs .* ConvLSTM does not have them so"):
        jn.VariationalDropout(CELL, rate=0.5, tied=False).prepare(CELL.init(key, 3), batch_shape=(2,), key=key)


def test_optimizers_take_window_and_channels_for_the_inputs_of_a_unit(key):
    params = jn.zoo.ConvLSTM(4, image_shape=(8, 8), norm=jn.LayerNorm(), use_peepholes=True).init(key, 3)
    axes, decays = optim.unit_axes(params), optim.decay_mask(params)
    assert (axes.kernel, axes.recurrent) == ((0, 1, 2), (0, 1, 2))
    assert (decays.kernel, decays.recurrent, decays.peephole, decays.bias) == (True, True, False, False)
    assert optim.muon_dimensions(params).kernel == ((0, 1, 2), (3,))


def test_layers(rng, key):
    """A stack over smaller images, and both directions."""
    cells = (jn.zoo.ConvLSTM(4, image_shape=(8, 6), strides=2), jn.zoo.ConvLSTM(3, image_shape=(4, 3)))
    params = (cells[0].init(key, 3), cells[1].init(key, 4))
    xs = cases.random_inputs(rng, 3, (2, 8, 6))
    assert jn.stack(cells, params, xs).outputs.shape == (3, 2, 4, 3, 3)
    assert jn.bidirectional((cells[0],) * 2, (params[0],) * 2, xs).outputs.shape == (3, 2, 4, 3, 8)


def test_flax_modules(rng):
    """Batch first, lengths, running statistics; a single step in Flax's own drivers."""
    cell = jn.zoo.ConvLSTM(2, image_shape=(4, 3), norm=jn.BatchNorm())
    xs, lengths = cases.random_inputs(rng, 2, (5, 4, 3)), jnp.array([5, 2])
    module = jaxnorm.linen.RNN(cell)
    variables = module.init(jax.random.key(0), xs, use_running_average=True)
    ys, updates = module.apply(variables, xs, seq_lengths=lengths, use_running_average=False, mutable=["batch_stats"])
    rnn = jaxnorm.nnx.RNN(cell, cases.IN_FEATURES, rngs=nnx.Rngs(0))
    for name in ("kernel", "recurrent", "bias"):
        getattr(rnn, name).set_value(variables["params"][name])
    np.testing.assert_allclose(rnn(xs, seq_lengths=lengths), ys, atol=1e-5)
    assert updates["batch_stats"]["norm"]["input"]["mean"].shape == (1, 8)
    plain = jn.zoo.ConvLSTM(2, image_shape=(4, 3))
    driver = nn.RNN(jaxnorm.linen.RNNCell(plain))
    outputs, variables = driver.init_with_output(jax.random.key(0), xs)
    params = jn.zoo.ConvLSTMParams(**variables["params"]["cell"], peephole=None, norm=jn.CellNorms())
    np.testing.assert_allclose(outputs, jn.unroll(plain, params, xs, time_axis=1).outputs, atol=1e-5)
    assert nnx.RNN(jaxnorm.nnx.RNNCell(plain, cases.IN_FEATURES, rngs=nnx.Rngs(0)))(xs).shape == outputs.shape


def test_examples_spread_over_devices(rng):
    """On a mesh with explicit axes, gradients too."""
    cell = jn.zoo.ConvLSTM(2, image_shape=(3,), norm=jn.LayerNorm())
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng, 3, (4, 3))
    run = jax.jit(jax.grad(lambda params, xs: jnp.sum(jn.unroll(cell, params, xs, chunk=2).outputs ** 2), (0, 1)))
    expected = run(params, xs)
    with jax.set_mesh(jax.make_mesh((4,), ("data",), axis_types=(AxisType.Explicit,))):
        got = run(params, jax.device_put(xs, P(None, "data")))
        assert jax.typeof(got[1]).sharding.spec == P(None, "data", None, None)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, expected)


# ---- what is refused


def test_what_does_not_fit_is_refused(key):
    with pytest.raises(ValueError, match=r"ConvLSTM: image_shape must be a tuple such as \(height, width\), got \(\)"):
        jn.zoo.ConvLSTM(2, image_shape=())
    with pytest.raises(ValueError, match=r"kernel_size must have one number for each axis of .*\(4, 3\), got \(3,\)"):
        jn.zoo.ConvLSTM(2, image_shape=(4, 3), kernel_size=(3,))
    with pytest.raises(ValueError, match=r"kernel_size=\(5, 5\) with .* does not fit into image_shape=\(4, 3\)"):
        jn.zoo.ConvLSTM(2, image_shape=(4, 3), kernel_size=5, padding="VALID")
    params = CELL.init(key, 3)
    with pytest.raises(ValueError, match=r"must end with image_shape and channels, \(4, 3, 3\), got .*5, 3, 3\)"):
        jn.unroll(CELL, params, jnp.ones((2, 1, 5, 3, 3)))
    with pytest.raises(ValueError, match=r"where must have shape xs\.shape\[:-3\] = \(2, 1\)"):
        jn.unroll(CELL, params, jnp.ones((2, 1, 4, 3, 3)), where=jnp.ones((2, 1, 4), bool))
    for norm in (jn.GroupNorm(1), jn.InstanceNorm(), jn.LayerNorm((1, 2)), jn.GroupNorm(1, axis=(-4, -1))):
        with pytest.raises(ValueError, match=r"norm\.input: .* must reduce axes of one image, .* \(-3, -2, -1\)"):
            jn.zoo.ConvLSTM(4, image_shape=(4, 3), norm=norm)
    for norm in (jn.BatchNorm((0, 1)), jn.zoo.StreamingNorm()):
        with pytest.raises(ValueError, match=r"norm\.input: .* cannot be used inside a cell"):
            jn.zoo.ConvLSTM(4, image_shape=(4, 3), norm=norm)
    with pytest.raises(ValueError, match=r"cannot be used inside a cell"):
        jn.LSTM(4, norm=jn.GroupNorm(1, axis=(-2, -1)))
