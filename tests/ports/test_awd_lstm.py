"""AWD-LSTM: LSTMs with dropped recurrent connections under a tied decoder, from checkpoints of PyTorch.

S. Merity, N. S. Keskar, R. Socher, "Regularizing and Optimizing LSTM Language Models", 2018, arXiv:1708.02182.
"""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.ports.tools import equal, fill

TOKENS, WIDTHS, STEPS, BATCH = 11, (5, 7, 7, 5), 6, 3


def original(torch):
    class WeightDrop(torch.nn.Module):
        """Keeps the recurrent weight as ``weight_hh_l0_raw`` and hands a dropped one to the LSTM."""

        def __init__(self, lstm):
            super().__init__()
            self.module = lstm
            lstm.register_parameter("weight_hh_l0_raw", lstm._parameters.pop("weight_hh_l0"))

        def forward(self, xs, state):
            raw = self.module.weight_hh_l0_raw
            self.module.weight_hh_l0 = torch.nn.functional.dropout(raw, 0.5, self.training)
            return self.module(xs, state)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = torch.nn.Embedding(TOKENS, WIDTHS[0])
            layers = [torch.nn.LSTM(*sizes) for sizes in pairwise(WIDTHS)]
            self.rnns = torch.nn.ModuleList([WeightDrop(layer) for layer in layers])
            self.decoder = torch.nn.Linear(WIDTHS[-1], TOKENS)
            self.decoder.weight = self.encoder.weight

        def forward(self, tokens, states, masks=(1, 1, 1)):
            """``masks`` are those of the inputs of each layer, the same at all steps."""
            ys, new = self.encoder(tokens), []
            for rnn, state, mask in zip(self.rnns, states, masks, strict=True):
                ys, state = rnn(ys * mask, state)
                new.append(state)
            return self.decoder(ys), new

    return Model()


# The port.


def load(state):
    model = convert.torch.load_model(state)
    layers = [layer for name, layer in model.items() if name in model.specs]
    (encoder,) = (name for name in model if name.endswith("encoder"))
    (decoder,) = (name for name in model if name.endswith("decoder"))
    assert model.tied[f"{decoder}.weight"] == f"{encoder}.weight"
    params = {"embedding": model[encoder]["weight"], "bias": model[decoder]["bias"]}
    return tuple(layer.spec for layer in layers), params | {"rnns": [layer.params for layer in layers]}


def logits(cells, params, tokens, carry=None, key=None):
    out = jn.stack(cells, params["rnns"], params["embedding"][tokens], carry=carry, key=key)
    return out.outputs @ params["embedding"].T + params["bias"], out.carry


def with_dropout(cells):
    return tuple(jn.DropConnect(jn.VariationalDropout(cell, input_rate=0.2), rate=0.3) for cell in cells)


@partial(jax.jit, static_argnums=(0, 1))
def train(cells, optimizer, params, memory, carry, tokens, key):
    def loss(params):
        guesses, new = logits(cells, params, tokens[:-1], carry, key)
        return optax.softmax_cross_entropy_with_integer_labels(guesses, tokens[1:]).mean(), new

    (value, carry), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    updates, memory = optimizer.update(gradient, memory)
    return optax.apply_updates(params, updates), memory, carry, value


# What it must do.


def as_fastai(state):
    """The names of fastai: the raw weight beside the LSTM, whose own copy is stale."""
    names = {"encoder.": "0.encoder.", "decoder.": "1.decoder."}
    found = {}
    for name, array in state.items():
        new = name.replace("module.weight_hh_l0_raw", "weight_hh_l0_raw") if "_raw" in name else name
        found[next((names[key] + new[len(key) :] for key in names if new.startswith(key)), f"0.{new}")] = array
        if "_raw" in name:
            found[f"0.{name.removesuffix('_raw')}"] = array + 1
    return found | {"0.encoder_dp.emb.weight": state["encoder.weight"]}


@pytest.mark.parametrize("layout", [dict, as_fastai])
def test_logits_and_states_of_two_windows(torch, rng, layout):
    model = fill(original(torch), rng)
    cells, params = load(layout(model.state_dict()))
    tokens = rng.integers(TOKENS, size=(2 * STEPS, BATCH))
    states, carry, run = [None] * len(cells), None, jax.jit(logits, static_argnums=0)
    for window in np.split(tokens, 2):
        with torch.no_grad():
            theirs, states = model(torch.tensor(window), states)
        ours, carry = run(cells, params, window, carry)
        equal(ours, theirs)
    equal([(state.h, state.c) for state in carry], [(h[0], c[0]) for h, c in states])


@pytest.mark.long
def test_masks_of_training(torch, rng):
    """What was dropped has no gradient: the original, with that masked, gives the same logits."""
    model = fill(original(torch), rng)
    cells, params = load(model.state_dict())
    tokens, key = rng.integers(TOKENS, size=(STEPS, 1)), jax.random.key(0)

    def loss(params):
        guesses, _ = logits(with_dropout(cells), params, tokens, key=key)
        return jnp.sum(jnp.cos(guesses)), guesses

    gradient, ours = jax.jit(jax.grad(loss, has_aux=True))(params)
    connections = [np.asarray(layer.recurrent) != 0 for layer in gradient["rnns"]]
    inputs = [np.any(np.asarray(layer.kernel) != 0, axis=(1, 2)) for layer in gradient["rnns"]]
    for kept, share in ((connections, 0.3), (inputs, 0.2)):
        assert abs(np.mean(np.concatenate([~each.ravel() for each in kept])) - share) < 0.15
    with torch.no_grad():
        for rnn, kept in zip(model.rnns, connections, strict=True):
            raw = rnn.module.weight_hh_l0_raw
            raw *= torch.tensor(np.moveaxis(kept, 0, -1).reshape(raw.shape) / (1 - 0.3))
        theirs, _ = model(torch.tensor(tokens), [None] * 3, [torch.tensor(kept) / (1 - 0.2) for kept in inputs])
    equal(ours, theirs)


@pytest.mark.long
def test_training_with_dropped_connections(torch, rng):
    cells, params = load(fill(original(torch), rng).state_dict())
    tokens = np.resize(np.arange(TOKENS), (STEPS + 1, BATCH))
    dropped, optimizer, losses = with_dropout(cells), optax.adam(0.03), []
    memory, carry = optimizer.init(params), [cell.initial_carry((BATCH,)) for cell in dropped]
    for number in range(150):
        params, memory, carry, loss = train(dropped, optimizer, params, memory, carry, tokens, jax.random.key(number))
        losses.append(float(loss))
    assert np.mean(losses[-20:]) < 0.8 * losses[0]
    evaluated = tuple(map(jn.deterministic, dropped))
    equal(logits(evaluated, params, tokens)[0], logits(cells, params, tokens)[0])
