"""The first hour of a user of PyTorch: its layers, cells and normalizers beside ours, with the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.first_hour.habits import answered, close, drawn

B, T, D, H = 2, 5, 3, 4
KEY = jax.random.key(0)


def tensor(torch, array):
    return torch.tensor(np.asarray(array))


def drawn_module(torch, module, rng):
    """Random numbers in all weights of a module."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(tensor(torch, 0.5 * rng.standard_normal(tuple(weight.shape))))
    return module


def of_torch(result):
    """Arrays of a result of PyTorch, in its structure."""
    return jax.tree.map(lambda t: t.detach().numpy(), result)


LAYERS = {
    "batch_first": {"batch_first": True},
    "time first": {},
    "num_layers": {"num_layers": 2, "batch_first": True},
    "bidirectional": {"bidirectional": True},
    "num_layers, bidirectional": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}


def cells_of(spec):
    """The cells of a spec in the order of PyTorch: layer after layer, forward before backward."""
    return list(spec) if isinstance(spec, jn.Directions) else [c for layer in spec for c in cells_of(layer)]


def states(tree):
    """The states of all layers and directions, in the order of PyTorch."""
    if hasattr(tree, "h"):
        return [tree]
    return [state for part in tree for state in states(part)]


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_with_its_options_and_states(torch, name, rng):
    options = LAYERS[name]
    module = drawn_module(torch, torch.nn.LSTM(D, H, **options), rng)
    found, first = convert.torch.load(module), bool(options.get("batch_first"))
    xs = drawn(rng, *((B, T, D) if first else (T, B, D)))
    expected, (h, c) = of_torch(module(tensor(torch, xs)))
    out = convert.run(found.spec, found.params, xs, time_axis=int(first))
    close(out.outputs, expected)
    close(jnp.stack([state.h for state in states(out.carry)]), h)
    close(jnp.stack([state.c for state in states(out.carry)]), c)


def test_the_same_by_hand(torch, rng):
    """Two layers, each in both directions, of our words only."""
    module = drawn_module(torch, torch.nn.GRU(D, H, 2, bidirectional=True), rng)
    (first, second), (p, q) = convert.torch.load(module)[:2]
    xs = drawn(rng, T, B, D)
    below = jn.bidirectional(first, p, xs)
    close(jn.bidirectional(second, q, below.outputs).outputs, of_torch(module(tensor(torch, xs))[0]))


def test_states_that_go_in(torch, rng):
    module = drawn_module(torch, torch.nn.LSTM(D, H, batch_first=True), rng)
    found = convert.torch.load(module)
    xs, h, c = drawn(rng, B, T, D), drawn(rng, B, H), drawn(rng, B, H)
    expected, (last, _) = of_torch(module(tensor(torch, xs), (tensor(torch, h[None]), tensor(torch, c[None]))))
    out = jn.unroll(found.spec, found.params, xs, time_axis=1, carry={"h": h, "c": c})
    close(out.outputs, expected)
    close(out.carry.h, last[0])
    # A plain tuple is (c, h), as in Flax.
    close(jn.unroll(found.spec, found.params, xs, time_axis=1, carry=(c, h)).outputs, expected)


@pytest.mark.parametrize("both", [False, True])
def test_packed_sequences_are_lengths(torch, both, rng):
    rnn = torch.nn.utils.rnn
    module = drawn_module(torch, torch.nn.LSTM(D, H, batch_first=True, bidirectional=both), rng)
    xs, lengths = drawn(rng, 3, T, D), [2, 5, 3]
    packed = rnn.pack_padded_sequence(tensor(torch, xs), lengths, batch_first=True, enforce_sorted=False)
    outputs, (h, _) = module(packed)
    padded, _ = rnn.pad_packed_sequence(outputs, batch_first=True)
    found = convert.torch.load(module)
    out = convert.run(found.spec, found.params, xs, time_axis=1, lengths=jnp.array(lengths))
    close(out.outputs, of_torch(padded))
    close(jnp.stack([state.h for state in states(out.carry)]), of_torch(h))


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
def test_a_loop_over_a_cell(torch, kind, rng):
    module = drawn_module(torch, getattr(torch.nn, kind)(D, H), rng)
    found = convert.torch.load(module)
    xs, h, c = drawn(rng, T, B, D), drawn(rng, B, H), drawn(rng, B, H)
    theirs = (tensor(torch, h), tensor(torch, c)) if kind == "LSTMCell" else tensor(torch, h)
    ours = {"h": h, "c": c} if kind == "LSTMCell" else h
    for x in xs:
        theirs = module(tensor(torch, x), theirs)
        ours, y = jn.step(found.spec, found.params, ours, x)
        close(y, of_torch(theirs[0] if kind == "LSTMCell" else theirs))
    close((ours["h"], ours["c"]) if kind == "LSTMCell" else ours, of_torch(theirs))


def test_normalizers_of_rows(torch, rng):
    x, scale, bias = drawn(rng, 3, 4, 6), drawn(rng, 6), drawn(rng, 6)
    functional, weights = torch.nn.functional, (tensor(torch, scale), tensor(torch, bias))
    theirs = functional.layer_norm(tensor(torch, x), (6,), *weights, eps=1e-3)
    close(jn.layer_norm(x, scale, bias, epsilon=1e-3), theirs)
    whole = drawn(rng, 4, 6), drawn(rng, 4, 6)
    theirs = functional.layer_norm(tensor(torch, x), (4, 6), *(tensor(torch, w) for w in whole))
    close(jn.layer_norm(x, *whole, axis=(-2, -1)), theirs)
    close(jn.rms_norm(x, scale, epsilon=1e-6), functional.rms_norm(tensor(torch, x), (6,), weights[0], eps=1e-6))


def test_normalizers_of_channels(torch, rng):
    """PyTorch has channels on axis 1, and so may we."""
    x, scale, bias = drawn(rng, 3, 6, 5), drawn(rng, 6), drawn(rng, 6)
    functional, weights = torch.nn.functional, (tensor(torch, scale), tensor(torch, bias))
    theirs = functional.group_norm(tensor(torch, x), 2, *weights)
    close(jn.group_norm(x, scale, bias, num_groups=2, feature_axis=1), theirs)
    theirs = functional.instance_norm(tensor(torch, x), weight=weights[0], bias=weights[1])
    close(jn.instance_norm(x, scale, bias, feature_axis=1), theirs)


@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 5)])
def test_batch_normalization_trains_and_evaluates(torch, shape, rng):
    """Its momentum weighs the new value, and it folds the variance corrected by m / (m - 1)."""
    module = drawn_module(torch, torch.nn.BatchNorm1d(6, momentum=0.1), rng)
    norm = jn.BatchNorm(feature_axis=1, momentum=0.9, ddof=1)
    params = jn.Affine(*(jnp.asarray(of_torch(w)) for w in (module.weight, module.bias)))
    running = norm.initial_stats((6,))
    for _ in range(3):
        x = drawn(rng, *shape) + 1
        y, measured = norm(params, x)
        running = norm.update_running(running, measured)
        close(y, of_torch(module(tensor(torch, x))), 5e-6)
    close((running.mean, running.var), (of_torch(module.running_mean), of_torch(module.running_var)))
    module.eval()
    close(norm(params, x, running)[0], of_torch(module(tensor(torch, x))), 5e-6)


def test_weight_norm(torch, rng):
    """PyTorch names the axis of the units, dim=0 of (O, I); we name those of the inputs, axis=0 of (I, O)."""
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(D, H))
    drawn_module(torch, layer, rng)
    g, v = of_torch((layer.parametrizations.weight.original0, layer.parametrizations.weight.original1))
    kernel = jn.weight_norm(jnp.asarray(v.T), jnp.asarray(g[:, 0]))
    close(kernel, of_torch(layer.weight).T)
    found = convert.torch.load_kernel(layer)
    close(found.spec(found.params, found.stats), kernel)


def test_spectral_norm(torch, rng):
    layer = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(D, H), n_power_iterations=2)
    drawn_module(torch, layer, rng)
    inside = layer.parametrizations.weight[0]
    before = inside._u.clone()
    found = convert.torch.load_kernel(layer)
    assert torch.equal(inside._u, before)  # to look at it there is to advance it
    assert found.spec.iterations == 2
    close(found.spec(found.params, found.stats), of_torch(layer.eval().weight).T)
    # There u is replaced before v, and so is our v after a step: in the long run both have the same singular value.
    state = found.stats
    for _ in range(50):
        state = found.spec.advance(found.params, state)
        layer.train().weight  # noqa: B018
    close(found.spec(found.params, state), of_torch(layer.eval().weight).T, 1e-5)


HABITS = {
    "input_size, hidden_size": (lambda: jn.lstm(D, H), "cell.init(key, in_features)"),
    "hidden_size=": (lambda: jn.lstm(hidden_size=H), "Pass hidden_features"),
    "batch_first=": (lambda: jn.lstm(H, batch_first=True), "Pass time_axis=1 to unroll"),
    "num_layers=": (lambda: jn.lstm(H, num_layers=2), "jaxnorm.stack(cells, params, xs)"),
    "bidirectional=": (lambda: jn.gru(H, bidirectional=True), "jaxnorm.bidirectional(cells, params, xs)"),
    "proj_size=": (lambda: jn.lstm(H, proj_size=2), "jaxnorm.zoo.ProjectedLSTM"),
    "nonlinearity=": (lambda: jn.elman(H, nonlinearity="relu"), "Pass activation_fn"),
    "a cell called": (lambda: jn.lstm(H)(jnp.ones((T, B, D))), "jaxnorm.unroll(cell, params, xs)"),
    "a state by place": (
        lambda: jn.unroll(jn.lstm(H), None, jnp.ones((T, B, D)), (jnp.ones((B, H)),) * 2),
        "Pass the others by name: carry",
    ),
    "hx=": (lambda: jn.unroll(jn.lstm(H), None, jnp.ones((T, B, D)), hx=None), "Pass carry=..."),
    "the input before the state": (
        lambda: jn.step(jn.lstm(H), jn.lstm(H).init(KEY, D), jnp.ones((B, D)), (jnp.ones((B, H)),) * 2),
        "step(cell, params, carry, x)",
    ),
    "normalized_shape": (lambda: jn.LayerNorm(6)(jn.LayerNorm().init((6,)), jnp.ones((2, 6))), "a position, not a"),
    "normalized_shape=": (lambda: jn.LayerNorm(normalized_shape=6), "norm.init((features,))"),
    "layer_norm(x, (6,))": (lambda: jn.layer_norm(jnp.ones((2, 6)), (6,)), "the features are those of axis"),
    "batch_norm(x, mean, var, weight, bias)": (
        lambda: jn.batch_norm(jnp.ones((2, 6)), *[jnp.ones(6)] * 4),
        "moments=jaxnorm.Moments(mean, var, count)",
    ),
    "layer_norm(x, params)": (
        lambda: jn.layer_norm(jnp.ones((2, 6)), jn.LayerNorm().init((6,))),
        "Write layer_norm(x, *params)",
    ),
    "batch_norm(x, 6)": (lambda: jn.batch_norm(jnp.ones((2, 6)), 6), "the features are those of axis"),
    "group_norm(x, 2)": (lambda: jn.group_norm(jnp.ones((2, 6)), 2), "Sizes go by name, num_groups=4"),
    "GroupNorm(2, 6)": (lambda: jn.GroupNorm(2, 6), "norm.init((features,))"),
    "num_channels=": (lambda: jn.GroupNorm(num_groups=2, num_channels=6), "norm.init((features,))"),
    "eps=": (lambda: jn.RMSNorm(eps=1e-6), "Pass epsilon"),
    "eps= of a function": (lambda: jn.layer_norm(jnp.ones((2, 6)), eps=1e-6), "Pass epsilon"),
    "weight=": (lambda: jn.layer_norm(jnp.ones((2, 6)), weight=jnp.ones(6)), "Pass scale"),
    "elementwise_affine=": (lambda: jn.LayerNorm(elementwise_affine=False), "Pass use_scale and use_bias"),
    "track_running_stats=": (lambda: jn.BatchNorm(track_running_stats=False), "norm(params, x, stats)"),
    "running_mean=": (lambda: jn.batch_norm(jnp.ones((2, 6)), running_mean=None), "jaxnorm.Moments(mean, var, count)"),
    "training=": (lambda: jn.batch_norm(jnp.ones((2, 6)), training=True), "With moments=... they are used"),
    "BatchNorm1d": (lambda: jn.BatchNorm1d(6), "Write jaxnorm.BatchNorm()"),
    "dim=": (lambda: jn.weight_norm(jnp.ones((3, 4)), dim=0), "Pass axis"),
    "n_power_iterations=": (lambda: jn.SpectralNorm(n_power_iterations=2), "Pass iterations"),
    "weight_norm(module)": (lambda: jn.WeightNorm(name="weight"), "Reparametrized(cell, WeightNorm())"),
}


@pytest.mark.parametrize("name", HABITS)
def test_what_a_user_types_by_habit_is_answered(name):
    answered(*HABITS[name])
