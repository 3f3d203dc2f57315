"""What a port of another library passes by habit is answered with the line to write."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
import jaxnorm.linen as jl
from jaxnorm import convert
from tests import cases
from tests.tools.annotations import no_annotation_checks

CELL, GRU = jn.lstm(4), jn.gru(4)
XS = jnp.ones((5, 2, 3))


def params_of(cell):
    return cases.random_cell_params(cell, np.random.default_rng(0))


P, Q = params_of(CELL), params_of(GRU)
FOUND = convert.Imported(CELL, P)
BOTH = jn.Directions(CELL, CELL)
MODEL = convert.ImportedModel({"rnn": FOUND})
KEY = jax.random.key(0)
H = jnp.zeros((2, 4))


def says(*texts):
    return "^" + ".*".join(map(re.escape, texts))


MESSAGES = {
    "reset of floats": (
        lambda: jn.unroll(CELL, P, XS, reset=jnp.zeros((5, 2))),
        says("unroll: reset must be a boolean array, True where a sequence begins, got float32. Write "
             "reset=done.astype(bool)"),
    ),
    "reset of integers": (
        lambda: jn.step(CELL, P, None, XS[0], reset=jnp.zeros(2, int)),
        says("step: reset must be a boolean array, True where a sequence begins, got int32. Write reset=done.ast"),
    ),
    "reset of linen": (
        lambda: jl.RNN(CELL).init(KEY, XS, reset=jnp.zeros((5, 2))),
        says("RNN: reset must be a boolean array, True where a sequence begins", "done.astype(bool)"),
    ),
    "mask of floats": (
        lambda: jn.unroll(CELL, P, XS, where=jnp.zeros((5, 2))),
        says("unroll: where must be a boolean array, True on real data", "Write where != 0"),
    ),
    "Imported": (
        lambda: jn.unroll(FOUND, P, XS),
        says("unroll: cell must be a cell spec", "got Imported. Pass its parts, found.spec, found.params."),
    ),
    "Imported of several layers": (
        lambda: jn.unroll(convert.Imported((CELL, CELL), (P, P)), P, XS),
        says("unroll: cell must be", "found.params: convert.run(found.spec, found.params, xs)."),
    ),
    "Imported in a module of Flax": (
        lambda: jl.RNN(FOUND), says("RNN: cell must be a cell spec", "Pass its parts, found.spec")
    ),
    "Imported as a normalizer": (
        lambda: jl.Norm(convert.Imported(jn.LayerNorm(), ())),
        says("Norm: spec must be a normalizer", "got Imported. Pass its parts, found.spec"),
    ),
    "Imported in convert.run": (lambda: convert.run(FOUND, P, XS), says("convert.run: spec must", "found.spec")),
    "Imported in a stack": (
        lambda: jn.stack(convert.Imported((CELL, CELL), (P, P)), (P, P), XS),
        says("stack: cells must be a list or tuple", "got Imported. Pass its parts"),
    ),
    "Imported as weights": (
        lambda: jn.unroll(CELL, FOUND, XS),
        says("unroll: params must be LSTMParams for LSTM, got Imported. It holds them: pass found.params."),
    ),
    "Directions": (
        lambda: jn.unroll(BOTH, BOTH, XS),
        says("unroll: cell must be a cell spec", "got Directions. Run both directions by jaxnorm.bidirectional"),
    ),
    "a model": (
        lambda: jn.unroll(MODEL, P, XS),
        says("unroll: cell must be a cell spec", "got an ImportedModel with 'rnn'. Take one layer of it: found = mo"),
    ),
    "a spec through jit": (
        lambda: jax.jit(jn.unroll)(CELL, P, XS),
        says("unroll: cell must be a cell spec", "through jit, grad or vmap", "close over it", "static_argnums=0"),
    ),
    "an import through jit": (
        lambda: jax.jit(lambda found, xs: jn.step(found.spec, found.params, None, xs))(FOUND, XS[0]),
        says("step: cell must be a cell spec", "close over it, or mark it static"),
    ),
    "merge by name": (
        lambda: jn.bidirectional((CELL, CELL), (P, P), XS, merge="sum"),
        says("bidirectional: merge must be a function of both outputs, got the string 'sum'. Write merge=jnp.add."),
    ),
    "merge of a stack": (
        lambda: jn.stack([BOTH], [(P, P)], XS, merge="ave"),
        says("stack: merge must be a function", "merge=lambda forward, backward: (forward + backward) / 2"),
    ),
    "merge of None": (
        lambda: convert.run(BOTH, (P, P), XS, merge=None),
        says("bidirectional: merge must be a function of both outputs, got None. Leave merge out to concat"),
    ),
    "merge of linen": (
        lambda: jl.RNN(BOTH, merge_fn="mul").init(KEY, XS),
        says("RNN: merge_fn must be a function of both outputs, got the string 'mul'. Write merge_fn=jnp.multiply."),
    ),
    "merge_mode": (
        lambda: jn.bidirectional((CELL, CELL), (P, P), XS, merge_mode="sum"),
        says("unroll: there is no argument 'merge_mode'. Pass merge=jnp.add"),
    ),
    "merge_mode of linen": (
        lambda: jl.RNN(BOTH, merge_mode="sum"),
        says("RNN: there is no argument 'merge_mode'. Pass merge_fn=jnp.add"),
    ),
    "layers of torch": (
        lambda: jn.unroll(CELL, P, XS, carry={"h": H[None], "c": H[None]}),
        says("unroll: carry['c'] must have shape (*B, H) = (2, 4), got (1, 2, 4). The first axis is that of layers "
             "and directions, as in PyTorch: pass carry['c'][0]."),
    ),
    "states of torch": (
        lambda: jn.unroll(CELL, P, XS, carry=(H[None], H[None])),
        says("unroll: carry[0] must have shape (*B, H) = (2, 4), got (1, 2, 4). The first axis", "pass carry[0][0].",
             "in the order (c, h). That of PyTorch and Keras is (h, c): pass {'h': h, 'c': c}."),
    ),
    "layers of torch in a step": (
        lambda: jn.step(GRU, Q, jnp.zeros((3, 2, 4)), XS[0]),
        says("step: carry must have shape", "got (3, 2, 4)", "pass carry[0], with the number of the layer in pl"),
    ),
    "layers of torch in a stack": (
        lambda: jn.stack((GRU, jn.gru(4)), (Q, Q), XS, carry=jnp.zeros((2, 2, 4))),
        says("stack: carry must be a list or tuple", "Write tuple(carry) if its first axis is that of layers"),
    ),
    "the order of Flax": (
        lambda: CELL.initial_carry(KEY, (2, 3)),
        says("LSTM.initial_carry: it takes batch_shape by position, and got 2 arguments. ",
             "write cell.initial_carry((64,), key=key)"),
    ),
    "the order of Flax, wrapped": (
        lambda: jn.Zoneout(GRU).initial_carry(KEY, (2, 3)),
        says("Zoneout.initial_carry: it takes batch_shape by position", "cell.initial_carry((64,), key=key)"),
    ),
    "a rate by position": (
        lambda: jn.DropConnect(CELL, 0.5),
        says("DropConnect: it takes cell by position, and got 2 arguments. Write rate=0.5."),
    ),
    "an option by position": (
        lambda: jn.LSTM(4, jn.LayerNorm()),
        says("LSTM: it takes hidden_features by position, and got 2 arguments. Pass the others by name: norm, use_bi"),
    ),
    "a carry by position": (
        lambda: jn.unroll(CELL, P, XS, jn.LSTMCarry(H, H)),
        says("unroll: it takes cell, params, xs by position, and got 4 arguments. Pass the others by name: carry, "),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_the_message_has_the_line_to_write(name):
    call, message = MESSAGES[name]
    with no_annotation_checks(), pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)


TENSORS = {
    "xs": (lambda t: jn.unroll(CELL, P, t(5, 2, 3)), "unroll: xs", "xs"),
    "x": (lambda t: jn.step(CELL, P, None, t(2, 3)), "step: x", "x"),
    "carry": (lambda t: jn.unroll(CELL, P, XS, carry={"h": H, "c": t(2, 4)}), "unroll: carry['c']", "carry['c']"),
    "carry of a step": (lambda t: jn.step(GRU, Q, t(2, 4), XS[0]), "step: carry", "carry"),
    "params": (lambda t: jn.unroll(CELL, P._replace(bias=t(16)), XS), "unroll: params.bias", "params.bias"),
    "a normalizer": (lambda t: jn.layer_norm(t(2, 4)), "layer_norm: x", "x"),
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("trained", [False, True])
def test_a_tensor_of_torch_is_named_with_the_line_to_write(torch, name, trained):
    call, start, line = TENSORS[name]
    with no_annotation_checks(), pytest.raises(TypeError) as caught:
        call(lambda *shape: torch.zeros(*shape, requires_grad=trained))
    assert str(caught.value).startswith(f"{start} must be an array, got PyTorch's Tensor. Write jnp.asarray({line}.")
    x = torch.ones(2, requires_grad=trained)
    line = str(caught.value).rpartition("Write ")[2].removesuffix(".").replace(line, "x")
    assert eval(line, {"jnp": jnp, "x": x}).tolist() == [1.0, 1.0]


def test_the_lines_work(unhooked):
    done = np.asarray([[1.0, 0.0]] + [[0.0, 0.0]] * 4, np.float32)
    jn.unroll(CELL, P, XS, reset=done.astype(bool))
    assert CELL.initial_carry((64,), key=KEY).h.shape == (64, 4)
    assert jn.DropConnect(CELL, rate=0.5).rate == 0.5
    out = jax.jit(jn.step, static_argnums=0)(CELL, P, None, XS[0])
    assert out[1].shape == (2, 4)


NAMES = {
    "MinGRU": (jn, "Write jaxnorm.zoo.MinGRU."),
    "SpectralNorm": (jn.zoo, "Write jaxnorm.SpectralNorm."),
    "ln_lstm": (jn.linen, "Write jaxnorm.ln_lstm."),
    "GRUCell": (jn.zoo, "Write jaxnorm.gru(128)."),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_lies_elsewhere_is_answered(name):
    module, line = NAMES[name]
    with pytest.raises(AttributeError, match=f"has no attribute {name!r}") as caught:
        getattr(module, name)
    assert str(caught.value).endswith(line)
    assert not hasattr(jn.zoo, "_nothing")


def test_an_array_in_the_place_of_a_number_is_not_printed_whole():
    with (
        no_annotation_checks(),
        pytest.raises(TypeError, match=r"in_features must be an integer, got an array with shape \(5, 2, 3\)"),
    ):
        CELL.init(KEY, XS)
