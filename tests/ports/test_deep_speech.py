"""DeepSpeech2: batch normalization of whole sequences between recurrent layers whose directions are summed.

D. Amodei et al., "Deep Speech 2", 2016, arXiv:1512.02595; names of arrays as in SeanNaren/deepspeech.pytorch.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.ports.tools import drawn, equal, fill
from tests.tools.marks import mostly_heavy

FEATURES, HIDDEN, SYMBOLS, LAYERS, LENGTHS = 6, 5, 7, 3, (8, 5, 1)


def original(torch, kind):
    nn = torch.nn

    class SequenceWise(nn.Module):
        """Runs a module on all steps of all sequences as one batch, padding included."""

        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, xs):
            return self.module(xs.flatten(0, 1)).unflatten(0, xs.shape[:2])

    class BatchRNN(nn.Module):
        def __init__(self, inputs, normalized):
            super().__init__()
            self.batch_norm = SequenceWise(nn.BatchNorm1d(inputs)) if normalized else None
            self.rnn = getattr(nn, kind)(inputs, HIDDEN, bidirectional=True)

        def forward(self, xs, lengths):
            xs = xs if self.batch_norm is None else self.batch_norm(xs)
            packed = nn.utils.rnn.pack_padded_sequence(xs, lengths, enforce_sorted=False)
            ys, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0])
            return ys[..., :HIDDEN] + ys[..., HIDDEN:]

    class DeepSpeech(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnns = nn.ModuleList([BatchRNN(HIDDEN if k else FEATURES, k > 0) for k in range(LAYERS)])
            self.fc = nn.Sequential(
                SequenceWise(nn.Sequential(nn.BatchNorm1d(HIDDEN), nn.Linear(HIDDEN, SYMBOLS, bias=False)))
            )

        def forward(self, xs, lengths):
            for rnn in self.rnns:
                xs = rnn(xs, lengths)
            return self.fc(xs).log_softmax(-1)

    return DeepSpeech()


# The port.

HEAD = "fc.0.module"


def load(state):
    norms = [name.rpartition(".")[0] for name in state if name.endswith("running_mean")]
    return convert.torch.load_model(state, dict.fromkeys(norms, jn.BatchNorm(momentum=0.9, ddof=1)))


def log_probabilities(specs, params, stats, xs, lengths):
    def normalize(name, xs):
        return specs[name](params[name], xs, stats[name])[0]

    for k in range(LAYERS):
        if k > 0:
            xs = normalize(f"rnns.{k}.batch_norm.module", xs)
        name = f"rnns.{k}.rnn"
        xs = jn.bidirectional(specs[name], params[name], xs, lengths=lengths, merge=jnp.add).outputs
    return jax.nn.log_softmax(normalize(f"{HEAD}.0", xs) @ params[f"{HEAD}.1"]["weight"].T)


@pytest.mark.parametrize("kind", mostly_heavy(["LSTM", "GRU"]))
def test_log_probabilities_of_padded_batches(torch, rng, kind):
    model = fill(original(torch, kind), rng)
    xs, lengths = drawn(rng, max(LENGTHS), len(LENGTHS), FEATURES), np.array(LENGTHS)
    with torch.no_grad():
        theirs = model(torch.tensor(xs), torch.tensor(lengths))
    found = load(model.state_dict())
    ours = jax.jit(lambda *arrays: log_probabilities(found.specs, *arrays))(found.params, found.stats, xs, lengths)
    equal(ours, theirs)
    live = convert.torch.load_model(model)  # tells its normalizers itself
    assert live.specs == found.specs
