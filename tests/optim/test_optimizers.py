"""AdamW, Muon and adaptive gradient clipping on our weights, against NumPy at float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from jaxnorm import optim
from jaxnorm._base.paths import paths
from tests import cases
from tests.optim.unit_vectors import places
from tests.tools.peers import lenient

CELLS = {case.name: case.cell for case in cases.CELLS}
KERNELS = {case.name: case.kernels for case in cases.CELLS}
TRIED = ("elman", "ln_lstm", "dreamer_v3_block_gru", "ln_projected_lstm", "indrnn_batch_norm", "slstm", "min_gru")
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
RATE, STEPS, LENGTH = 0.1, 3, 7


class Model(nn.Module):
    """Layers of Flax and of this library in one model."""

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(11, 6, name="embed")(tokens)
        x = nn.Conv(8, (3,), name="window")(x)
        x = nn.LayerNorm(name="norm")(x)
        x = nn.MultiHeadDotProductAttention(num_heads=2, name="attention")(x)
        x = nn.RNN(nn.OptimizedLSTMCell(5), name="theirs")(x)
        x = nn.Bidirectional(jl.RNN(jn.ln_lstm(4, learn_carry=True)), jl.RNN(jn.zoo.MinGRU(3)), name="ours")(x)
        x = jl.Reparametrized(jl.RNN(jn.zoo.SLSTM(4, heads=2)), jn.WeightNorm(), name="unit")(x)
        return nn.Dense(3, name="scale")(x)


MATRICES = {
    "window/kernel": ((0, 1), (2,)),
    "attention/query/kernel": ((0,), (1, 2)),
    "attention/key/kernel": ((0,), (1, 2)),
    "attention/value/kernel": ((0,), (1, 2)),
    "attention/out/kernel": ((0, 1), (2,)),
    "scale/kernel": ((0,), (1,)),
}


def of_cell(name):
    return {kernel: tuple((axis,) for axis in axes) for kernel, axes in KERNELS[name].items()}


def as_numpy(tree):
    return {"/".join(path): np.asarray(leaf, np.float64) for path, leaf in paths(tree)}


def random_like(tree, rng):
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype), tree)


def run(optimizer, params, gradients):
    """Several updates; the last one."""
    with lenient():
        state, update = optimizer.init(params), jax.jit(optimizer.update)
        for gradient in gradients:
            made, state = update(gradient, state, params)
    return as_numpy(made)


@pytest.fixture(scope="module")
def linen_params():
    with lenient():
        shapes = jax.eval_shape(Model().init, jax.random.key(0), jnp.zeros((2, LENGTH), jnp.int32))
    return random_like(shapes["params"], np.random.default_rng(0))


# ---- AdamW


def decayed(params, mask):
    """The weights that move without a gradient."""
    update = run(optax.adamw(RATE, weight_decay=0.5, mask=mask), params, [jax.tree.map(jnp.zeros_like, params)])
    for name, leaf in as_numpy(params).items():
        np.testing.assert_allclose(update[name], -0.5 * RATE * leaf * np.any(update[name] != 0), rtol=1e-5)
    return {name for name, leaf in update.items() if leaf.any()}


@pytest.mark.parametrize("name", TRIED)
def test_decay_moves_kernels_alone(name, rng):
    params = cases.random_cell_params(CELLS[name], rng)
    assert decayed(params, optim.decay_mask) == decayed(params, optim.decay_mask(params)) == set(KERNELS[name])


def by_rank(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


@pytest.mark.parametrize("case", cases.CELLS, ids=str)
def test_decay_by_rank_is_right_for_cells(case):
    params = jax.eval_shape(lambda key: case.cell.init(key, cases.IN_FEATURES), jax.random.key(0))
    assert by_rank(params) == optim.decay_mask(params)


def test_decay_by_rank_would_move_others_in_a_model(linen_params):
    assert decayed(linen_params, by_rank) > decayed(linen_params, optim.decay_mask)


def test_decay_in_a_linen_model(linen_params):
    names = {name for name, leaf in as_numpy(linen_params).items() if name.split("/")[-1] in ("kernel", "recurrent")}
    gains = {name for name in names if name.startswith("unit/")}
    assert gains == {"unit/scale/kernel", "unit/scale/recurrent"}
    assert decayed(linen_params, optim.decay_mask) == (names - gains) | {"embed/embedding"}


# ---- Muon


def orthogonal(matrix):
    """Five steps of Newton and Schulz, as written for a matrix with no more rows than columns."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    a, b, c = COEFFICIENTS
    x = matrix / (np.linalg.norm(matrix) + 1e-8)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def oracle_of_muon(gradients, inputs, outputs):
    """The update of one kernel after several steps, each matrix by itself."""
    momentum = np.zeros_like(gradients[0])
    for gradient in gradients:
        momentum = 0.95 * momentum + 0.05 * gradient
    count = len(gradients)
    ahead = 0.95 * momentum / (1 - 0.95 ** (count + 1)) + 0.05 * gradients[-1] / (1 - 0.95**count)
    made = np.empty_like(ahead)
    for place in places(ahead.shape, (*inputs, *outputs)):
        block = ahead[place]  # inputs stand before outputs
        rows = np.prod([ahead.shape[a] for a in inputs])
        flat = orthogonal(block.reshape(rows, -1))
        values = np.linalg.svd(flat, compute_uv=False)
        assert 0.7 < values.max() < 1.3
        assert values.min() > 0.05  # one near zero may be on its way
        made[place] = (flat * np.sqrt(max(1.0, flat.shape[1] / flat.shape[0]))).reshape(block.shape)
    return -RATE * made


def check_muon(params, expected, rng, hand=lambda params: optim.muon_dimensions(params)):
    gradients = [random_like(params, rng) for _ in range(STEPS)]
    got = run(optax.contrib.muon(RATE, muon_weight_dimension_numbers=hand(params)), params, gradients)
    adam = run(optax.nadam(RATE), params, gradients)
    for name, leaf in got.items():
        if name in expected:
            want = oracle_of_muon([as_numpy(gradient)[name] for gradient in gradients], *expected[name])
        else:
            want = adam[name]
        np.testing.assert_allclose(leaf, want, rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("name", TRIED)
def test_muon_makes_each_gate_orthogonal(name, rng):
    check_muon(cases.random_cell_params(CELLS[name], rng), of_cell(name), rng)


def test_muon_takes_the_function_where_kernels_tell_their_layout(rng):
    check_muon(
        cases.random_cell_params(CELLS["ln_lstm"], rng), of_cell("ln_lstm"), rng, lambda _: optim.muon_dimensions
    )
    conv = {"kernel": jnp.ones((3, 4, 5)), "bias": jnp.ones(5)}
    optimizer = optax.contrib.muon(RATE, muon_weight_dimension_numbers=optim.muon_dimensions)
    state = optimizer.init(conv)
    with pytest.raises(ValueError, match="Some weights are masked here; call muon_dimensions on all of them, once"):
        optimizer.update(conv, state, conv)


def test_muon_on_wrapped_stacked_and_two_way_cells(rng):
    wrapped = cases.random_cell_params(jn.Reparametrized(jn.ln_lstm(4), jn.WeightNorm()), rng)
    check_muon({"w": wrapped}, {f"w/cell/{k}": axes for k, axes in of_cell("ln_lstm").items()}, rng)
    layers = jn.Directions(
        cases.random_cell_params(CELLS["ln_lstm"], rng), cases.random_cell_params(CELLS["slstm"], rng)
    )
    expected = {f"0/forward/{k}": axes for k, axes in of_cell("ln_lstm").items()}
    expected |= {f"0/backward/{k}": axes for k, axes in of_cell("slstm").items()}
    check_muon([layers], expected, rng)


def test_muon_on_layers_that_were_stacked(rng):
    one = cases.random_cell_params(CELLS["lstm"], rng)
    layers = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal((2, *leaf.shape)), leaf.dtype), one)
    check_muon(layers, {"kernel": ((1,), (3,)), "recurrent": ((1,), (3,))}, rng)
    create = nnx.vmap(lambda key: nnx.Linear(4, 5, use_bias=False, rngs=nnx.Rngs(key)))
    state = nnx.to_pure_dict(nnx.state(create(jax.random.split(jax.random.key(0), 3)), nnx.Param))
    with pytest.raises(ValueError, match="three axes do not say"):
        optim.muon_dimensions(state)
    check_muon(state, {"kernel": ((1,), (2,))}, rng, lambda params: optim.muon_dimensions(params, axis={"kernel": 1}))


def test_muon_in_a_linen_model(linen_params, rng):
    names = as_numpy(linen_params)
    expected = dict(MATRICES)
    for name, leaf in names.items():
        if name.split("/")[-1] in ("kernel", "recurrent") and name not in expected and not name.startswith("unit/"):
            expected[name] = ((0,), (leaf.ndim - 1,))
    (recurrent,) = (name for name in expected if names[name].ndim == 4)  # of the SLSTM
    expected[recurrent] = ((1,), (3,))
    check_muon(linen_params, expected, rng)


def test_muon_with_axes_that_a_model_says(rng):
    model, x = nn.Sequential([nn.ConvTranspose(4, (3, 2), transpose_kernel=True, use_bias=False)]), (2, 5, 6, 3)
    with lenient():
        axes = jl.kernel_axes(model, jax.random.key(0), jnp.ones(x))
        params = model.init(jax.random.key(0), jnp.ones(x))["params"]
    dimensions = optim.muon_dimensions(params, axis=axes)
    assert dimensions["layers_0"]["kernel"] == ((0, 1, 3), (2,))
    einsum = {"kernel": jnp.ones((4, 5))}
    assert optim.muon_dimensions(einsum, axis={"kernel": 1})["kernel"] == ((1,), (0,))


# ---- adaptive gradient clipping


def oracle_of_clipping(weights, gradient, axes, clipping, epsilon):
    made = np.empty_like(gradient)
    for place in places(gradient.shape, axes):
        most = clipping * max(np.sqrt(np.sum(weights[place] ** 2)), epsilon)
        made[place] = gradient[place] * min(1.0, most / np.sqrt(np.sum(gradient[place] ** 2)))
    return made


def check_clipping(params, expected, rng, **options):
    """``expected`` are the axes of the inputs of kernels."""
    gradient = random_like(params, rng)
    got = run(optim.adaptive_grad_clip(0.5, epsilon=0.7, **options), params, [gradient])
    weights, gradient = as_numpy(params), as_numpy(gradient)
    clipped = 0
    for name, leaf in got.items():
        axes = expected.get(name, tuple(range(leaf.ndim)))
        want = oracle_of_clipping(weights[name], gradient[name], axes, 0.5, 0.7)
        np.testing.assert_allclose(leaf, want, rtol=1e-5, err_msg=name)
        clipped += np.any(want != gradient[name])
    assert clipped > len(got) / 2


@pytest.mark.parametrize("name", TRIED)
def test_clipping_unit_by_unit(name, rng):
    params = cases.random_cell_params(CELLS[name], rng)
    check_clipping(params, {kernel: inputs for kernel, (inputs, _) in of_cell(name).items()}, rng)


def test_clipping_in_a_linen_model(linen_params, rng):
    names = as_numpy(linen_params)
    expected = {name: inputs for name, (inputs, _) in MATRICES.items()} | {"embed/embedding": (1,)}
    for name, leaf in names.items():
        if name.split("/")[-1] in ("kernel", "recurrent") and name not in expected and not name.startswith("unit/"):
            expected[name] = (1,) if leaf.ndim == 4 else (0,)
    check_clipping(linen_params, expected, rng)


def test_clipping_with_axes_as_told(rng):
    params = {"head": {"kernel": jnp.ones((3, 4, 5))}, "in": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones((2, 4))}}
    params = random_like(params, rng)
    check_clipping(params, {"head/kernel": (0, 1), "in/kernel": (0,)}, rng, axis={"head_kernel": (0, 1)})
    check_clipping(
        params, {"head/kernel": (2,), "in/bias": (1,)} | {"in/kernel": (0,)}, rng, axis={"head_kernel": 2, "bias": 1}
    )
    gradient = random_like(params, rng)
    left = run(optim.adaptive_grad_clip(1e-3, axis={"head_kernel": None}), params, [gradient])
    np.testing.assert_array_equal(left["head/kernel"], as_numpy(gradient)["head/kernel"])


def test_clipping_at_the_ends_of_the_range():
    clip = optim.adaptive_grad_clip(0.1)
    params = {"kernel": jnp.asarray([[3.0, 0.0, 3.0], [4.0, 0.0, 4.0]]), "bias": jnp.zeros(3)}
    gradient = {"kernel": jnp.asarray([[3e30, 3.0, 0.0], [4e30, 4.0, 0.0]]), "bias": jnp.zeros(3)}
    update, _ = clip.update(gradient, clip.init(params), params)
    np.testing.assert_allclose(update["kernel"], [[0.3, 6e-5, 0.0], [0.4, 8e-5, 0.0]], rtol=1e-5)
    assert not update["bias"].any()
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    assert clip.update(low, clip.init(low), low)[0]["kernel"].dtype == jnp.bfloat16
    with pytest.raises(ValueError, match=r"adaptive_grad_clip: params is None\. Pass the weights"):
        clip.update(gradient, clip.init(params))
    for broken in ({"clipping": 0.0}, {"clipping": 0.1, "epsilon": -1.0}):
        with pytest.raises(ValueError, match=r"adaptive_grad_clip: \w+ must be a number above zero"):
            optim.adaptive_grad_clip(**broken)
    with pytest.raises(ValueError, match=r"adaptive_grad_clip: kernel has shape \(3, 4, 5\), and three axes"):
        clip.init({"kernel": jnp.ones((3, 4, 5))})


# ---- NNX


class ModelNNX(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(11, 6, rngs=rngs)
        self.window = nnx.Conv(6, 8, (3,), rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, 8, decode=False, rngs=rngs)
        self.ours = jx.RNN(jn.ln_lstm(4), 8, rngs=rngs)
        self.unit = jx.Reparametrized(jx.RNN(jn.gru(4), 4, rngs=rngs), jn.WeightNorm(), rngs=rngs)
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs)])

    def __call__(self, tokens):
        x = self.attention(self.norm(self.window(self.embed(tokens))))
        return self.layers[0](self.unit(self.ours(x)))


@pytest.mark.parametrize("as_function", [True, False])
def test_nnx_optimizers(as_function, rng):
    """An nnx.Optimizer hands over boxed weights at first and bare ones later; both go, as a function and as a tree."""
    with lenient():
        model = ModelNNX(nnx.Rngs(0))
        state = nnx.state(model, nnx.Param)
        nnx.update(model, random_like(state, rng))
        before = as_numpy(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
        mask = optim.decay_mask if as_function else optim.decay_mask(state)
        optimizer = nnx.Optimizer(model, optax.adamw(RATE, weight_decay=0.5, mask=mask), wrt=nnx.Param)
        optimizer.update(model, jax.tree.map(jnp.zeros_like, state))
        after = as_numpy(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
        moved = {name for name in before if np.any(before[name] != after[name])}
        kernels = {name for name in before if name.split("/")[-1] in ("kernel", "recurrent", "embedding")}
        gains = {name for name in before if name.startswith("unit/scale/")}
        assert len(gains) == 2
        assert moved == kernels - gains

        dimensions = optim.muon_dimensions(state)
        muon = optax.contrib.muon(RATE, muon_weight_dimension_numbers=dimensions)
        optimizer = nnx.Optimizer(model, optax.chain(optim.adaptive_grad_clip(1e3), muon), wrt=nnx.Param)
        gradient = random_like(state, rng)
        nnx.jit(lambda model, optimizer, gradient: optimizer.update(model, gradient))(model, optimizer, gradient)
        made = as_numpy(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    expected = {name: ((0,), (2,)) for name in kernels - gains if made[name].ndim == 3}
    expected |= {name: axes for name, axes in MATRICES.items() if name in kernels and name != "scale/kernel"}
    gradient = as_numpy(nnx.to_pure_dict(gradient))
    for name, axes in expected.items():
        want = oracle_of_muon([gradient[name]], *axes)
        np.testing.assert_allclose(made[name] - after[name], want, rtol=2e-3, atol=2e-4, err_msg=name)


def test_boxes_of_linen():
    params = {"layer": {"kernel": nn.Partitioned(jnp.ones((3, 4)), (None, None)), "bias": jnp.ones(4)}}
    assert optim.decay_mask(params) == {"layer": {"kernel": True, "bias": False}}
    assert optim.unit_axes(params) == {"layer": {"kernel": (0,), "bias": (0,)}}
    clip = optim.adaptive_grad_clip(0.1)
    update, _ = clip.update(params, clip.init(params), params)
    np.testing.assert_allclose(update["layer"]["kernel"].value, np.full((3, 4), 0.1), rtol=1e-6)
