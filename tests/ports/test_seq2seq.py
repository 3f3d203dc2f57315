"""Sequence to sequence: an encoder over padded sentences, and a decoder that attends to it word by word.

D. Bahdanau, K. Cho, Y. Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", 2015,
arXiv:1409.0473; sizes and names of arrays as in the tutorial of PyTorch.
"""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnorm as jn
from jaxnorm import convert
from tests.ports.tools import equal, fill

WORDS, HIDDEN, STEPS, LENGTHS, START = 9, 6, 5, (7, 4, 1), 0


def original(torch):
    nn = torch.nn

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.gru = nn.Embedding(WORDS, HIDDEN), nn.GRU(HIDDEN, HIDDEN, batch_first=True)

        def forward(self, words, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(
                self.embedding(words), lengths, batch_first=True, enforce_sorted=False
            )
            ys, last = self.gru(packed)
            return nn.utils.rnn.pad_packed_sequence(ys, batch_first=True)[0], last

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.Wa, self.Ua, self.Va = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, 1)

        def forward(self, query, keys, real):
            scores = self.Va(torch.tanh(self.Wa(query) + self.Ua(keys)))[..., 0]
            weights = scores.masked_fill(~real, -torch.inf).softmax(-1)
            return weights[:, None] @ keys, weights

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.attention = nn.Embedding(WORDS, HIDDEN), Attention()
            self.gru, self.out = nn.GRU(2 * HIDDEN, HIDDEN, batch_first=True), nn.Linear(HIDDEN, WORDS)

        def forward(self, keys, state, real, targets):
            word, found = torch.full((len(keys), 1), START), []
            for t in range(STEPS):
                context, weights = self.attention(state[0][:, None], keys, real)
                y, state = self.gru(torch.cat([self.embedding(word), context], -1), state)
                found.append((self.out(y[:, 0]).log_softmax(-1), weights))
                word = found[-1][0].argmax(-1, keepdim=True) if targets is None else targets[:, t, None]
            return *(torch.stack(each, 1) for each in zip(*found, strict=True)), state[0]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = Encoder(), Decoder()

        def forward(self, words, lengths, targets=None):
            keys, state = self.encoder(words, lengths)
            return self.decoder(keys, state, torch.arange(keys.shape[1]) < lengths[:, None], targets)

    return Model()


# The port.


def linear(params, name, x):
    return x @ params[name]["weight"].T + params[name]["bias"]


def attend(params, query, keys, real):
    at = "decoder.attention."
    mixed = jnp.tanh(linear(params, at + "Wa", query)[:, None] + linear(params, at + "Ua", keys))
    weights = jax.nn.softmax(linear(params, at + "Va", mixed)[..., 0], where=real)
    return jnp.einsum("bt,bth->bh", weights, keys), weights


def translate(specs, params, words, lengths, targets=None):
    xs = params["encoder.embedding"]["weight"][words]
    encoded = jn.unroll(specs["encoder.gru"], params["encoder.gru"], xs, lengths=lengths, time_axis=1)
    keys, real = encoded.outputs, jnp.arange(words.shape[1]) < lengths[:, None]

    def one(state, target):
        h, word = state
        context, weights = attend(params, h, keys, real)
        x = jnp.concatenate([params["decoder.embedding"]["weight"][word], context], -1)
        h, y = jn.step(specs["decoder.gru"], params["decoder.gru"], h, x)
        guesses = jax.nn.log_softmax(linear(params, "decoder.out", y))
        return (h, guesses.argmax(-1) if target is None else target), (guesses, weights)

    start = encoded.carry.h, jnp.full(len(words), START)
    (h, _), steps = jax.lax.scan(one, start, None if targets is None else targets.T, length=STEPS)
    return *(each.swapaxes(0, 1) for each in steps), h


# What it must do.


def test_greedy_and_taught_translations(torch, rng):
    model = fill(original(torch), rng)
    words, lengths = rng.integers(WORDS, size=(len(LENGTHS), max(LENGTHS))), np.array(LENGTHS)
    found = convert.torch.load_model(model.state_dict())
    run = jax.jit(lambda *arrays: translate(found.specs, *arrays))
    for taught in ((), (rng.integers(WORDS, size=(len(LENGTHS), STEPS)),)):
        with torch.no_grad():
            theirs = model(*map(torch.tensor, (words, lengths, *taught)))
        equal(run(found.params, words, lengths, *taught), theirs)
