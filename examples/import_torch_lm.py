"""Imports a character model from PyTorch and trains it further: unchanged, and with layer normalization added.

    python examples/import_torch_lm.py
    python examples/import_torch_lm.py --data ../shared/data/tinyshakespeare --steps 2000

An LSTM language model is trained in PyTorch and imported with ``jaxnorm.convert``; outputs and loss must be the same.
Then it is trained further twice, from the same weights, by the same optimizer and on the same batches: plain, and as
LN-LSTM. A normalized cell computes another function than a plain one, so it cannot use the imported weights unchanged.
The gain and bias of each normalization start at the mean deviation and the mean of its inputs, measured on one batch.
So on average nothing changes at first; the program prints how much is lost.
"""

import argparse
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from char_lm_support import text

import jaxnorm as jn
from jaxnorm import convert

SMOKE = {"hidden": 12, "steps": 12, "batch": 4, "window": 12, "limit": 6_000}


def options():
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--data", metavar="PATH", help="a text, or a folder with train, valid and test files")
    add("--limit", type=int, help="read no more than this many characters")
    add("--hidden", type=int, default=128, help="hidden features")
    add("--batch", type=int, default=32, help="windows in a batch")
    add("--window", type=int, default=64, help="characters in a window")
    add("--steps", type=int, default=400, help="training steps, in PyTorch and again in JAX")
    add("--learning-rate", type=float, default=3e-3, help="of Adam, everywhere")
    add("--smoke", action="store_true", help="everything tiny, to see that it runs")
    if parser.parse_args().smoke:
        parser.set_defaults(**SMOKE)
    return parser.parse_args()


def batches(ids, batch, window, steps, seed):
    """Random windows (T + 1, B); the last T characters are the targets."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        starts = rng.integers(0, len(ids) - window, batch)
        yield ids[starts + np.arange(window + 1)[:, None]]


def train_in_torch(torch, ids, symbols, args):
    """Trains an embedding, one LSTM and an output layer as usual; also returns the function of the logits."""
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({
        "embedding": torch.nn.Embedding(symbols, args.hidden),
        "lstm": torch.nn.LSTM(args.hidden, args.hidden),
        "output": torch.nn.Linear(args.hidden, symbols),
    })  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), args.learning_rate)

    def logits(tokens):
        outputs, _ = model["lstm"](model["embedding"](tokens))
        return model["output"](outputs)

    for tokens in batches(ids, args.batch, args.window, args.steps, seed=1):
        tokens = torch.tensor(tokens, dtype=torch.long)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits(tokens[:-1]).flatten(0, 1), tokens[1:].flatten())
        loss.backward()
        optimizer.step()
    return model, logits


def import_model(model):
    """The cell, and all weights in one dictionary; embedding and output layer are plain arrays."""
    state = model.state_dict()
    found = convert.torch.load(state, prefix="lstm.")
    weights = {
        "embedding": jnp.array(state["embedding.weight"].numpy()),
        "cell": found.params,
        "output": (jnp.array(state["output.weight"].numpy().T), jnp.array(state["output.bias"].numpy())),
    }
    return found.spec, weights


def hidden_of(cell, weights, tokens):
    return jn.unroll(cell, weights["cell"], weights["embedding"][tokens]).outputs


@partial(jax.jit, static_argnums=0)
def logits_of(cell, weights, tokens):
    kernel, bias = weights["output"]
    return hidden_of(cell, weights, tokens) @ kernel + bias


@partial(jax.jit, static_argnums=0)
def loss_of(cell, weights, tokens):
    logits = logits_of(cell, weights, tokens[:-1])
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(logits, tokens[1:]))


@partial(jax.jit, static_argnums=0)
def neutral_norms(cell, weights, tokens):
    """Gains and biases with which the norms leave both products unchanged, on average over a batch."""
    params = weights["cell"]
    inputs, hidden = weights["embedding"][tokens], hidden_of(cell, weights, tokens)[:-1]

    def neutral(vectors, kernel):
        products = vectors @ kernel.reshape(len(kernel), -1)
        deviation, mean = jnp.mean(jnp.std(products, axis=-1)), jnp.mean(products)
        return jn.Affine(*(jnp.full(products.shape[-1:], value) for value in (deviation, mean)))

    return jn.CellNorms(input=neutral(inputs, params.kernel), recurrent=neutral(hidden, params.recurrent))


def with_normalization(cell, weights, tokens):
    """Layer normalization of both products; c stays raw."""
    normalized = jn.LSTM(cell.hidden_features, norm=jn.CellNorms(input=jn.LayerNorm(), recurrent=jn.LayerNorm()))
    norm = neutral_norms(cell, weights, tokens)
    return normalized, weights | {"cell": weights["cell"]._replace(norm=norm)}


def train(cell, weights, ids, args):
    optimizer = optax.adam(args.learning_rate)

    @jax.jit
    def step(weights, state, tokens):
        gradients = jax.grad(partial(loss_of, cell))(weights, tokens)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(weights, updates), state

    state = optimizer.init(weights)
    for tokens in batches(ids, args.batch, args.window, args.steps, seed=2):
        weights, state = step(weights, state, jnp.asarray(tokens))
    return weights


def main():
    args = options()
    try:
        import torch
    except ImportError:
        print("This example begins with a model in PyTorch, which is not installed: pip install torch")
        return 0
    data = text.load(args.data, held_out=0.1, limit=args.limit)
    vocabulary = data.vocabulary
    ids, held_out = (text.encode(part, vocabulary) for part in (data.train, data.valid))
    print(data.describe())
    model, torch_logits = train_in_torch(torch, ids, len(vocabulary), args)
    cell, weights = import_model(model)

    # The same outputs and the same loss, up to rounding.
    some = list(batches(held_out, args.batch, args.window, 4, seed=3))
    with torch.no_grad():
        theirs = torch_logits(torch.tensor(some[0][:-1], dtype=torch.long))
        targets = torch.tensor(some[0][1:], dtype=torch.long)
        their_loss = float(torch.nn.functional.cross_entropy(theirs.flatten(0, 1), targets.flatten()))
    ours = logits_of(cell, weights, jnp.asarray(some[0][:-1]))
    largest = float(np.max(np.abs(np.asarray(ours) - theirs.numpy())))
    our_loss = float(loss_of(cell, weights, jnp.asarray(some[0])))
    print(f"imported: largest difference of a logit {largest:.1e}, loss {our_loss:.6f} (PyTorch {their_loss:.6f})")
    if largest > 1e-3 or abs(our_loss - their_loss) > 1e-4:
        print("the imported model is not the same", file=sys.stderr)
        return 1

    def held_out_loss(cell, weights):
        return float(np.mean([loss_of(cell, weights, jnp.asarray(tokens)) for tokens in some])) / np.log(2)

    normalized, begun = with_normalization(
        cell, weights, jnp.asarray(next(batches(ids, args.batch, args.window, 1, 4)))
    )
    print(f"\n{args.steps} more steps in JAX; held out, bits per character\n{'':10} {'before':>8} {'after':>8}")
    for name, spec, start in (("plain", cell, weights), ("normalized", normalized, begun)):
        print(f"{name:10} {held_out_loss(spec, start):8.3f} {held_out_loss(spec, train(spec, start, ids, args)):8.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
