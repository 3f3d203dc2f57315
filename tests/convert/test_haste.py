"""Weights from and to Haste and TensorFlow Addons by array names, against their code written in NumPy, order of gates
and all. Neither installs any more, so the words of their published sources stand in for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.cells.oracles import sigmoid
from tests.convert import tools
from tests.convert.tools import BATCH, FEATURES, HIDDEN
from tests.tools.peers import import_peer

pytestmark = pytest.mark.long


def ln(x, gamma, beta=0.0, epsilon=1e-5):
    mean = x.mean(-1, keepdims=True)
    return gamma * (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + epsilon) + beta


def haste_lstm(p, xs):
    """lmnt-com/haste, layer_norm_lstm.py: gates i g f o; without gamma its plain LSTM."""
    h = c = np.zeros((BATCH, HIDDEN))
    outputs = []
    for x in xs:
        v_x, v_h = x @ p["kernel"], h @ p["recurrent_kernel"]
        if "gamma" in p:
            v_x, v_h = ln(v_x, p["gamma"][0]), ln(v_h, p["gamma"][1])
        i, g, f, o = np.split(v_x + v_h + p["bias"], 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(ln(c, p["gamma_h"], p["beta_h"]) if "gamma" in p else c)
        outputs.append(h)
    return np.stack(outputs)


def haste_gru(p, xs):
    """lmnt-com/haste, layer_norm_gru.py: gates z r h, statistics over all of them."""
    h = np.zeros((BATCH, HIDDEN))
    outputs = []
    for x in xs:
        v_x, v_h = x @ p["kernel"], h @ p["recurrent_kernel"]
        if "gamma" in p:
            v_x, v_h = ln(v_x, p["gamma"][0]), ln(v_h, p["gamma"][1])
        (x_z, x_r, x_g), (h_z, h_r, h_g) = (
            np.split(v, 3, axis=-1) for v in (v_x + p["bias"], v_h + p["recurrent_bias"])
        )
        z = sigmoid(x_z + h_z)
        h = z * h + (1 - z) * np.tanh(x_g + sigmoid(x_r + h_r) * h_g)
        outputs.append(h)
    return np.stack(outputs)


def tfa_lstm(p, xs):
    """tensorflow_addons, layer_norm_lstm_cell.py: gates i f c o, the normalized c is handed on."""
    h = c = np.zeros((BATCH, HIDDEN))
    outputs = []
    for x in xs:
        z = ln(x @ p["kernel"], p["kernel_norm/gamma"], p["kernel_norm/beta"], 1e-3)
        z = z + ln(h @ p["recurrent_kernel"], p["recurrent_norm/gamma"], p["recurrent_norm/beta"], 1e-3)
        i, f, g, o = np.split(z + p.get("bias", 0.0), 4, axis=-1)
        c = ln(sigmoid(f) * c + sigmoid(i) * np.tanh(g), p["state_norm/gamma"], p["state_norm/beta"], 1e-3)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


H = HIDDEN
LSTM = {"kernel": (FEATURES, 4 * H), "recurrent_kernel": (H, 4 * H), "bias": (4 * H,)}
GRU = {"kernel": (FEATURES, 3 * H), "recurrent_kernel": (H, 3 * H), "bias": (3 * H,), "recurrent_bias": (3 * H,)}
NORM_SIZES = {"kernel_norm": 4 * H, "recurrent_norm": 4 * H, "state_norm": H}
NORMS = {f"{name}/{leaf}": (size,) for name, size in NORM_SIZES.items() for leaf in ("gamma", "beta")}
LN_LSTM = LSTM | {"gamma": (2, 4 * H), "gamma_h": (H,), "beta_h": (H,)}
TFA = LSTM | NORMS
BARE = {name: shape for name, shape in TFA.items() if name != "bias"}
CASES = {
    "haste lstm": (convert.haste, LSTM, haste_lstm, jn.lstm(H)),
    "haste ln lstm": (convert.haste, LN_LSTM, haste_lstm, jn.zoo.haste_ln_lstm(H)),
    "haste gru": (convert.haste, GRU, haste_gru, jn.gru(H)),
    "haste ln gru": (convert.haste, GRU | {"gamma": (2, 3 * H)}, haste_gru, jn.zoo.haste_ln_gru(H)),
    "tfa": (convert.tfa, TFA, tfa_lstm, jn.zoo.tfa_ln_lstm(H)),
    "tfa without bias": (convert.tfa, BARE, tfa_lstm, jn.zoo.tfa_ln_lstm(H, use_bias=False)),
}


def random_arrays(shapes, rng):
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize(("module", "shapes", "theirs", "spec"), CASES.values(), ids=CASES)
def test_there_and_back(rng, module, shapes, theirs, spec):
    arrays = random_arrays(shapes, rng)
    found = module.load(arrays)
    assert found.spec == spec
    xs = tools.random_inputs(rng)
    expected = theirs({name: array.astype(np.float64) for name, array in arrays.items()}, xs.astype(np.float64))
    tools.agree(jn.unroll(found.spec, found.params, jnp.asarray(xs)).outputs, expected, 1e-5)
    tools.same(module.export(found.spec, found.params), arrays)
    wider = {f"rnn/{name}": array for name, array in arrays.items()} | {"head": np.ones(2, np.float32)}
    tools.same(module.load(wider, prefix="rnn/").params, found.params)


def test_names_of_variables_and_another_epsilon(rng):
    arrays = {f"{name}:0": array for name, array in random_arrays(TFA, rng).items()}
    spec = jn.zoo.tfa_ln_lstm(H, epsilon=1e-2)
    found = convert.tfa.load(arrays, spec)
    assert found.spec == spec
    assert set(convert.tfa.export(spec, found.params)) == {name.removesuffix(":0") for name in arrays}


def test_what_does_not_fit_is_refused(rng, key):
    arrays = random_arrays(LN_LSTM, rng)
    with pytest.raises(ValueError, match=r"gamma must have shape \(2, 4 H\) = \(2, 20\), got \(20,\)"):
        convert.haste.load(arrays | {"gamma": arrays["bias"]})
    with pytest.raises(ValueError, match="beta_h is missing"):
        convert.haste.load({name: array for name, array in arrays.items() if name != "beta_h"})
    with pytest.raises(ValueError, match="kernel_norm/gamma is missing"):
        convert.tfa.load(arrays)
    with pytest.raises(ValueError, match=r"norm=CellNorms.*, but the weights are those of norm=CellNorms"):
        convert.haste.load(arrays, jn.ln_lstm(H))
    for module, spec, match in (
        (convert.haste, jn.ln_lstm(2), r"norm=CellNorms.* cannot be represented"),
        (convert.haste, jn.ln_gru(2), r"cannot be represented: the layer there has"),
        (convert.haste, jn.elman(2), "only the LSTM and the GRU"),
        (convert.haste, jn.zoo.haste_ln_lstm(2, learn_carry=True), "learn_carry=True cannot be represented"),
        (convert.tfa, jn.zoo.haste_ln_lstm(2), r"cannot be represented: the layer there has"),
        (convert.tfa, jn.lstm(2), "only the layer-normalized LSTM"),
    ):
        with pytest.raises(ValueError, match=match):
            module.export(spec, spec.init(key, 3))


def test_arrays_of_torch_are_taken_as_they_are(rng):
    torch = import_peer("torch")
    arrays = random_arrays(GRU, rng)
    found = convert.haste.load({name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()})
    tools.same(found.params, jax.tree.map(jnp.asarray, convert.haste.load(arrays).params))
