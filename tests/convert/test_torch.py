"""Weights from and to PyTorch: the same outputs with random weights, both directions, and what is refused."""

import inspect
import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.convert import tools
from tests.convert.tools import FEATURES, HIDDEN
from tests.tools.peers import import_peer, lenient

pytestmark = pytest.mark.long


def scrambled(torch, module, rng):
    """Random numbers in all weights and running statistics of a module."""
    state = {}
    for name, value in module.state_dict().items():
        if name == "num_batches_tracked":
            state[name] = torch.tensor(7)
        else:
            drawn = rng.standard_normal(tuple(value.shape)).astype(np.float32)
            state[name] = torch.tensor(np.abs(drawn) + 0.5 if name == "running_var" else drawn).to(value.dtype)
    module.load_state_dict(state)
    return module.eval()


def outputs_of(torch, module, xs):
    with torch.no_grad(), lenient():
        ys = module(torch.tensor(np.asarray(xs)))
    return (ys[0] if isinstance(ys, tuple) else ys).numpy()


def filled(torch, module, arrays):
    """The exported arrays in a module of the same kind; a strict load, so no name may be too much or missing."""
    module.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    return module


RECURRENT = {
    "lstm": lambda nn: nn.LSTM(FEATURES, HIDDEN),
    "lstm without bias": lambda nn: nn.LSTM(FEATURES, HIDDEN, bias=False),
    "lstm, 2 layers, 2 directions": lambda nn: nn.LSTM(FEATURES, HIDDEN, 2, bidirectional=True),
    "lstm, projection": lambda nn: nn.LSTM(FEATURES, HIDDEN, proj_size=2),
    "lstm, projection, 2 layers, 2 directions": lambda nn: nn.LSTM(FEATURES, 4, 2, bidirectional=True, proj_size=3),
    "gru": lambda nn: nn.GRU(FEATURES, HIDDEN),
    "gru without bias, 2 directions": lambda nn: nn.GRU(FEATURES, HIDDEN, bias=False, bidirectional=True),
    "gru, 3 layers": lambda nn: nn.GRU(FEATURES, HIDDEN, 3),
    "rnn, tanh": lambda nn: nn.RNN(FEATURES, HIDDEN),
    "rnn, relu, 2 layers": lambda nn: nn.RNN(FEATURES, HIDDEN, 2, nonlinearity="relu"),
}


@pytest.mark.parametrize("make", RECURRENT.values(), ids=RECURRENT)
def test_recurrent_layers_there_and_back(torch, rng, make):
    module = scrambled(torch, make(torch.nn), rng)
    found = convert.torch.load(module)
    xs = tools.random_inputs(rng) * (0.1 if isinstance(module, torch.nn.RNN) else 1)
    expected = outputs_of(torch, module, xs)
    tools.agree(convert.run(found.spec, found.params, jnp.asarray(xs)).outputs, expected)
    exported = convert.torch.export(found.spec, found.params)
    tools.agree(outputs_of(torch, filled(torch, module, exported), xs), expected)
    tools.same(convert.torch.load(module).params, found.params)
    if isinstance(module, torch.nn.GRU):  # as many biases on both sides
        tools.same(convert.torch.export(*convert.torch.load(exported)[:2]), exported)


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "RNNCell"])
def test_single_cells(torch, rng, name):
    module = scrambled(torch, getattr(torch.nn, name)(FEATURES, HIDDEN), rng)
    found = convert.torch.load(module)
    x = tools.random_inputs(rng)[0]
    ours = jn.unroll(found.spec, found.params, jnp.asarray(x)[None]).outputs[0]
    tools.agree(ours, outputs_of(torch, module, x))


def test_a_gru_of_the_other_convention(torch, rng):
    module = scrambled(torch, torch.nn.GRU(FEATURES, HIDDEN), rng)
    found = convert.torch.load(module, jn.gru(HIDDEN, update_gate="renew"))
    assert found.spec.update_gate == "renew"
    xs = tools.random_inputs(rng)
    tools.agree(jn.unroll(found.spec, found.params, jnp.asarray(xs)).outputs, outputs_of(torch, module, xs))
    exported = convert.torch.export(found.spec, found.params)
    tools.same(exported, {name: tensor.numpy() for name, tensor in module.state_dict().items()})


def test_one_layer_of_the_state_dict_of_a_model(torch, rng):
    model = torch.nn.ModuleDict({"encoder": torch.nn.GRU(FEATURES, HIDDEN), "head": torch.nn.Linear(HIDDEN, 2)})
    found = convert.torch.load(model.state_dict(), prefix="encoder.")
    tools.same(found.params, convert.torch.load(model["encoder"]).params)
    with pytest.raises(ValueError, match=r"begins with prefix='decoder.'"):
        convert.torch.load(model.state_dict(), prefix="decoder.")


def test_arrays_are_copies(torch, rng):
    """Training goes on in place over there; what was imported must not move."""
    module = torch.nn.LSTM(FEATURES, HIDDEN)
    found = convert.torch.load(module)
    before = jax.tree.map(np.array, found.params)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(1.0)
    tools.same(found.params, jax.tree.map(jnp.asarray, before))
    exported = convert.torch.export(found.spec, found.params)
    exported["weight_ih_l0"] += 1
    tools.same(found.params, jax.tree.map(jnp.asarray, before))


def test_bfloat16_keeps_its_bits(torch, rng):
    module = scrambled(torch, torch.nn.GRU(FEATURES, HIDDEN), rng).to(torch.bfloat16)
    found = convert.torch.load(module)
    assert found.params.kernel.dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        np.asarray(found.params.kernel[:, 1], np.float32), module.weight_ih_l0[HIDDEN : 2 * HIDDEN].T.float().detach()
    )


def without_bias(kind, *arguments, **options):
    """A normalizer without bias, as recent releases make it by a keyword."""
    if "bias" in inspect.signature(kind).parameters:
        return kind(*arguments, bias=False, **options)
    module = kind(*arguments, **options)
    module.register_parameter("bias", None)
    return module


NORMS = {
    "layer": lambda nn: nn.LayerNorm(6, eps=1e-3),
    "layer, 2 axes": lambda nn: nn.LayerNorm((4, 6)),
    "layer without bias": lambda nn: nn.LayerNorm(6, bias=False),
    "layer, bare": lambda nn: nn.LayerNorm(6, elementwise_affine=False),
    "rms": lambda nn: nn.RMSNorm(6, eps=1e-3),
    "rms, default epsilon": lambda nn: nn.RMSNorm(6),
    "group": lambda nn: nn.GroupNorm(3, 6, eps=1e-3),
    "instance": lambda nn: nn.InstanceNorm1d(6, affine=True),
    "instance, bare": lambda nn: nn.InstanceNorm1d(6),
    "batch": lambda nn: nn.BatchNorm1d(6, eps=1e-3, momentum=0.2),
    "batch, bare": lambda nn: nn.BatchNorm1d(6, affine=False),
    "group, bare": lambda nn: nn.GroupNorm(3, 6, affine=False),
    "group without bias": lambda nn: without_bias(nn.GroupNorm, 3, 6),
    "instance without bias": lambda nn: without_bias(nn.InstanceNorm1d, 6, affine=True),
    "batch without bias": lambda nn: without_bias(nn.BatchNorm1d, 6),
}


@pytest.mark.parametrize("make", NORMS.values(), ids=NORMS)
def test_normalizers_there_and_back(torch, rng, make):
    module = scrambled(torch, make(torch.nn), rng)
    found = convert.torch.load(module)
    x = rng.standard_normal((3, 4, 6)).astype(np.float32) * 2 + 1
    second = bool(found.notes) and "axis 1" in found.notes[0]
    theirs = outputs_of(torch, module, np.ascontiguousarray(np.moveaxis(x, -1, 1)) if second else x)
    stats = found.stats or None
    ours, _ = found.spec(found.params, jnp.asarray(x), stats)
    tools.agree(ours, np.moveaxis(theirs, 1, -1) if second else theirs)
    exported = convert.torch.export(found.spec, found.params, found.stats)
    again = convert.torch.load(filled(torch, module, exported))
    assert again.spec == found.spec
    tools.same(again[1:3], found[1:3])


@pytest.mark.parametrize(("name", "axes"), [("2d", 2), ("3d", 3)])
@pytest.mark.parametrize("kind", ["BatchNorm", "InstanceNorm"])
def test_normalizers_of_images_without_bias(torch, rng, kind, name, axes):
    options = {} if kind == "BatchNorm" else {"affine": True}
    module = scrambled(torch, without_bias(getattr(torch.nn, kind + name), 5, **options), rng)
    found = convert.torch.load(module)
    assert found.params.bias is None
    x = rng.standard_normal((2, *range(3, 3 + axes), 5)).astype(np.float32) + 1
    theirs = outputs_of(torch, module, np.moveaxis(x, -1, 1).copy())
    ours, _ = found.spec(found.params, jnp.asarray(x), found.stats or None)
    tools.agree(ours, np.moveaxis(theirs, 1, -1))
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    tools.same(convert.torch.load(state, found.spec)[1:3], found[1:3])


def test_running_statistics_go_on_alike(torch, rng):
    module = scrambled(torch, torch.nn.BatchNorm2d(3, momentum=0.2), rng)
    found = convert.torch.load(module)
    assert (found.spec.momentum, found.spec.ddof, float(found.stats.count)) == (0.8, 1, 7.0)
    x = rng.standard_normal((2, 4, 5, 3)).astype(np.float32)
    module.train()(torch.tensor(np.moveaxis(x, -1, 1).copy()))
    _, measured = found.spec(found.params, jnp.asarray(x))
    running = found.spec.update_running(found.stats, measured)
    tools.agree(running.mean, module.running_mean)
    tools.agree(running.var, module.running_var)


def test_notes_say_what_is_not_in_the_cells(torch):
    found = convert.torch.load(torch.nn.LSTM(FEATURES, HIDDEN, 2, batch_first=True, dropout=0.3))
    assert [note.split(":")[0].split(" ")[0] for note in found.notes] == ["batch_first=True", "dropout=0.3", "carry"]
    assert "eps=None" in convert.torch.load(torch.nn.RMSNorm(4)).notes[0]


STATE = {
    "weight_ih_l0": np.ones((4 * HIDDEN, FEATURES), np.float32),
    "weight_hh_l0": np.ones((4 * HIDDEN, HIDDEN), np.float32),
}


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"weight_ih_l0": np.ones((7, 3), np.float32)}, ValueError, r"weight_ih_l0 must .*\(20, 3\), got \(7, 3\)"),
        ({"bias_ih_l0": np.ones(20, np.float32)}, ValueError, "bias_hh_l0 is missing"),
        ({"extra": np.ones(1, np.float32)}, ValueError, "extra not understood, and nothing is left out silently"),
        ({"weight_hh_l0": np.ones((11, 5), np.float32)}, ValueError, r"\(4 H, H\) of an LSTM.*got \(11, 5\)"),
        ({"weight_hr_l0": np.ones((3, 10), np.float32)}, ValueError, "weight_hr_l0 beside 2 gates|of an LSTM"),
        ({"weight_hr_l0": np.ones((3, 5), np.float32)}, ValueError, r"weight_hr_l0 must .*\(5, 5\), got \(3, 5\)"),
        ({"weight_ih_l0": np.ones((20, 3), np.int32)}, TypeError, "weight_ih_l0 must have a real floating-point dtype"),
        ({"weight_ih_l0": np.ones((20, 3))}, TypeError, "float64, which JAX would cut to float32"),
        ({"weight_ih_l0": np.ones(3, np.float32)}, ValueError, r"weight_ih_l0 must have shape \(G H, I\), got \(3,\)"),
    ],
)  # fmt: skip
def test_wrong_arrays_are_named(change, error, match):
    with pytest.raises(error, match=match):
        convert.torch.load(STATE | change)


def test_what_names_do_not_tell_is_asked_for():
    rnn = {name: array[:HIDDEN] for name, array in STATE.items()}
    with pytest.raises(ValueError, match=r"nonlinearity of an RNN. Pass spec=jaxnorm.Elman\(5"):
        convert.torch.load(rnn)
    relu = jn.Elman(HIDDEN, activation_fn=jax.nn.relu, use_bias=False)
    assert convert.torch.load(rnn, relu).spec.activation_fn is jax.nn.relu
    with pytest.raises(ValueError, match=r"do not tell epsilon. Pass spec=LayerNorm"):
        convert.torch.load({"weight": np.ones(3, np.float32), "bias": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match=r"GRU.*weights are those of LSTM"):
        convert.torch.load(STATE, jn.gru(HIDDEN))
    with pytest.raises(ValueError, match=r"norm=CellNorms.*weights are those of norm=CellNorms"):
        convert.torch.load(STATE, jn.ln_lstm(HIDDEN, use_bias=False))


def test_what_has_no_counterpart_is_refused(torch, key):
    for module, match in (
        (torch.nn.InstanceNorm1d(3, track_running_stats=True), "running statistics"),
        (torch.nn.BatchNorm1d(3, momentum=None), "cumulative average"),
        (torch.nn.BatchNorm1d(3, track_running_stats=False), "keeps no running statistics"),
    ):
        with pytest.raises(ValueError, match=match):
            convert.torch.load(module)
    with pytest.raises(TypeError, match="Linear is no layer that has a counterpart"):
        convert.torch.load(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        (jn.ln_lstm(2), "norm=CellNorms.*cannot be represented"),
        (jn.lstm(2, learn_carry=True), "learn_carry=True cannot be represented"),
        (jn.lstm(2, initial_noise=0.1), "initial_noise=0.1 cannot be represented"),
        (jn.Elman(2, activation_fn=jnp.sin), "activation_fn=.*cannot be represented.*tanh, relu only"),
    ],
)
def test_cells_that_torch_does_not_have_are_refused(spec, match, key):
    with pytest.raises(ValueError, match=match):
        convert.torch.export(spec, spec.init(key, 3))


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        (jn.zoo.ScaleNorm(), "ScaleNorm.*only LayerNorm, RMSNorm"),
        (jn.LayerNorm(0), "axis=0 cannot be represented"),
        (jn.RMSNorm(fraction=0.5), "fraction=0.5 cannot be represented"),
        (jn.RMSNorm(use_bias=True), "RMSNorm with a bias cannot be represented"),
    ],
)
def test_normalizers_that_torch_does_not_have_are_refused(spec, match):
    with pytest.raises(ValueError, match=match):
        convert.torch.export(spec, spec.init((4,)))


def test_layers_of_different_kinds_are_refused(key):
    cells = (jn.lstm(2), jn.gru(2))
    with pytest.raises(ValueError, match="layers of a module are alike"):
        convert.torch.export(cells, tuple(cell.init(key, 2) for cell in cells))
    with pytest.raises(TypeError, match=r"stats must be the running Moments"):
        convert.torch.export(jn.BatchNorm(), jn.BatchNorm().init((3,)))


def test_a_safetensors_file(torch, rng, tmp_path):
    safetensors = import_peer("safetensors.numpy", "convert")
    module = scrambled(torch, torch.nn.GRU(FEATURES, HIDDEN), rng)
    arrays = {f"rnn.{name}": tensor.numpy() for name, tensor in module.state_dict().items()}
    safetensors.save_file(arrays | {"head": np.ones(2, np.float32)}, tmp_path / "model.safetensors")
    found = convert.torch.load(tmp_path / "model.safetensors", prefix="rnn.")
    tools.same(found.params, convert.torch.load(module).params)


def test_a_missing_reader_and_other_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match="pip install safetensors"):
        convert.torch.load(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"is no .safetensors file.*weights_only=True"):
        convert.torch.load(tmp_path / "model.pt")


def test_a_safetensors_file_by_a_stand_in(rng, tmp_path, monkeypatch):
    """The package's own reader in the words of the format, for where it is not installed."""
    numbers = rng.standard_normal((3 * HIDDEN, FEATURES)).astype(np.float32)
    half = np.asarray(rng.standard_normal((3 * HIDDEN, HIDDEN)), jnp.bfloat16)
    arrays = {"rnn.weight_ih_l0": ("F32", numbers), "rnn.weight_hh_l0": ("BF16", half), "q": ("F8_E4M3", numbers)}
    header, body = {}, b""
    for name, (dtype, array) in arrays.items():
        data = array.tobytes()
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + body)

    def deserialize(data):
        size = int.from_bytes(data[:8], "little")
        entries = json.loads(data[8 : 8 + size])
        body = data[8 + size :]
        return [(name, entry | {"data": body[slice(*entry["data_offsets"])]}) for name, entry in entries.items()]

    monkeypatch.setitem(sys.modules, "safetensors", types.SimpleNamespace(deserialize=deserialize))
    found = convert.torch.load(tmp_path / "model.safetensors", prefix="rnn.")
    np.testing.assert_array_equal(found.params.kernel[:, 2].T, numbers[2 * HIDDEN :])
    assert found.params.recurrent.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(found.params.recurrent[:, 0].T), half[:HIDDEN])
    with pytest.raises(TypeError, match="dtypes that cannot be converted"):
        convert.torch.load(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"begins with prefix='gru'; there are rnn.weight_ih_l0"):
        convert.torch.load(tmp_path / "model.safetensors", prefix="gru")
