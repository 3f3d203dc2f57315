"""Character language models side by side: what does normalization do?

    python examples/char_lm.py                                  the demo: four models, the Python language reference
    python examples/char_lm.py --data ../shared/data/ptb --steps 5000 --hidden 512
    python examples/char_lm.py --resume                         goes on after a kill, to the same numbers
    python examples/char_lm.py --help

Each model reads one-hot characters and predicts the next one. Gradients reach back one window (truncated
back-propagation); the carry is handed on from window to window. Needs the extra jaxnorm[examples].
"""

import argparse
import dataclasses
import inspect
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from char_lm_support import options, report, run_folder, text
from char_lm_support.errors import BadInput

import jaxnorm

BITS = 1 / np.log(2)  # nats to bits
POPULATION_BATCHES = 16  # passages of each stream from which population statistics are taken


class Params(NamedTuple):
    cell: Any
    kernel: jax.Array  # (H, V)
    bias: jax.Array  # (V,)


class State(NamedTuple):
    """Everything that training depends on: what a checkpoint holds."""

    step: jax.Array
    params: Params
    optimizer: optax.OptState
    stats: Any  # running statistics of the cell, () at sites without
    carry: Any
    position: jax.Array  # where in the text each stream is, (B,)
    key: jax.Array


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """A recurrent cell between one-hot characters and a dense readout. Frozen, so jit may take it as static."""

    cell: jaxnorm.Cell
    symbols: int
    batch: int
    window: int
    passage: int
    learning_rate: float

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(self.learning_rate))

    @partial(jax.jit, static_argnums=0)
    def init(self, key: jax.Array) -> State:
        cell_key, kernel_key, key = jax.random.split(key, 3)
        kernel = jax.nn.initializers.lecun_normal()(kernel_key, (self.cell.hidden_features, self.symbols), jnp.float32)
        params = Params(self.cell.init(cell_key, self.symbols), kernel, jnp.zeros((self.symbols,)))
        carry, position = self.cell.initial_carry((self.batch,)), jnp.zeros((self.batch,), jnp.int32)
        return State(jnp.int32(0), params, self.optimizer.init(params), self.cell.initial_stats(), carry, position, key)

    def read(self, params: Params, ids: jax.Array, carry: Any, stats: Any = None) -> tuple[jax.Array, jaxnorm.Unrolled]:
        """Logits after each of the characters (T, *B), and what unroll returned. Without ``stats``: training."""
        xs = jax.nn.one_hot(ids, self.symbols)
        out = jaxnorm.unroll(self.cell, params.cell, xs, carry=carry, stats=stats)
        logits = out.outputs @ params.kernel
        return logits + jnp.broadcast_to(params.bias, logits.shape), out

    def passages(self, key: jax.Array, train_text: jax.Array) -> jax.Array:
        """Places in the text where streams may begin, one each."""
        return jax.random.randint(key, (self.batch,), 0, train_text.size - self.passage * self.window)

    @partial(jax.jit, static_argnums=0)
    def train_step(self, state: State, train_text: jax.Array) -> tuple[State, jax.Array, jax.Array]:
        """One window: the new state, the loss in bits per character, and the norm of the gradient."""
        # After each passage all streams begin anew elsewhere; else the carry of the window before is handed on.
        anew = state.step % self.passage == 0
        key, place_key = jax.random.split(state.key)
        position = jnp.where(anew, self.passages(place_key, train_text), state.position)
        carry = jax.tree.map(partial(jnp.where, anew), self.cell.initial_carry((self.batch,)), state.carry)
        ids = train_text[position[None] + jnp.arange(self.window + 1)[:, None]]  # T + 1, B

        def loss(params: Params) -> tuple[jax.Array, jaxnorm.Unrolled]:
            logits, out = self.read(params, ids[:-1], carry)  # the carry is data: no gradient leaves the window
            return optax.softmax_cross_entropy_with_integer_labels(logits, ids[1:]).mean(), out

        (nats, out), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.params)
        stats = self.cell.fold(state.stats, out.moments, start=getattr(carry, "step", 0))
        new = State(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            optimizer=optimizer,
            stats=stats,
            carry=out.carry,
            position=position + self.window,
            key=key,
        )
        return new, nats * BITS, optax.tree.norm(gradient)

    @partial(jax.jit, static_argnums=0)
    def evaluate(self, params: Params, stats: Any, windows: jax.Array, targets: jax.Array) -> jax.Array:
        """Bits per character with given statistics, the carry handed on through all windows (N, T, B)."""

        def one_window(carry: Any, window: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
            logits, out = self.read(params, window[0], carry, stats)
            real = window[1] >= 0
            nats = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(window[1], 0))
            return out.carry, jnp.where(real, nats, 0.0).sum()

        _, nats = jax.lax.scan(one_window, self.cell.initial_carry(windows.shape[2:]), (windows, targets))
        return nats.sum() / (targets >= 0).sum() * BITS

    @partial(jax.jit, static_argnums=0)
    def measure(self, params: Params, key: jax.Array, train_text: jax.Array) -> Any:
        """What the normalizers see in one passage of training text, the weights at rest."""
        steps = jnp.arange(self.passage * self.window)[:, None]
        ids = train_text[self.passages(key, train_text)[None] + steps]
        return self.read(params, ids, self.cell.initial_carry((self.batch,)))[1].moments

    def population(self, params: Params, key: jax.Array, train_text: jax.Array) -> Any:
        """Population statistics: the average over batches, as in recurrent batch normalization (no m/(m-1))."""
        batches = (self.measure(params, k, train_text) for k in jax.random.split(key, POPULATION_BATCHES))
        return jaxnorm.population(batches, ddof=0, rows=self.cell.max_steps)

    @partial(jax.jit, static_argnums=(0, 3))
    def sample(
        self, params: Params, stats: Any, length: int, first: jax.Array, temperature: float, key: jax.Array
    ) -> Any:
        """Streams a text: one step at a time, each character drawn from what the last one led to."""

        def one_step(state: tuple[Any, jax.Array], key_t: jax.Array) -> tuple[tuple[Any, jax.Array], jax.Array]:
            carry, last = state
            logits, out = self.read(params, last[None], carry, stats)
            drawn = jax.random.categorical(key_t, logits[0] / temperature)
            return (out.carry, drawn), drawn

        return jax.lax.scan(one_step, (self.cell.initial_carry(()), first), jax.random.split(key, length))[1]


def make_cell(preset: str, args: argparse.Namespace) -> jaxnorm.Cell:
    """A model by its name; one with statistics for each time step gets a row for each step of a window."""
    build = getattr(jaxnorm, preset)
    per_step = "max_steps" in inspect.signature(build).parameters
    # The momentum is that of recurrent batch normalization on Penn Treebank.
    return build(args.hidden, max_steps=args.window, momentum=0.95) if per_step else build(args.hidden)


def in_windows(ids: np.ndarray, window: int, batch: int) -> tuple[jax.Array, jax.Array]:
    """Lays a text side by side in streams, cut into windows (N, T, B): inputs, and targets (-1 where there is none)."""
    streams = min(batch, max(1, (len(ids) - 1) // window))
    length = (len(ids) - 1) // streams
    padding = ((0, 0), (0, -length % window))

    def lay(shifted: np.ndarray, fill: int) -> jax.Array:
        rows = np.pad(shifted[: streams * length].reshape(streams, length), padding, constant_values=fill)
        return jnp.asarray(rows.T.reshape(-1, window, streams))

    return lay(ids[:-1], 0), lay(ids[1:], -1)


def train(
    name: str, model: LanguageModel, args: argparse.Namespace, data: dict[str, Any], folder: Any, bars: Any
) -> Any:
    """Trains one model from its newest checkpoint on; returns its state and its row of the table."""
    checkpoints = folder.checkpoints(name)
    state = model.init(jax.random.key(args.seed))
    state, done = checkpoints.restore(state) or (state, run_folder.Progress([], [], 0.0))
    folder.record(*done.records)
    bar = bars.add_task(name, total=args.steps, completed=int(state.step), bits=float("nan"), rate=0.0)
    step = model.train_step.lower(model, state, data["train"]).compile()
    memory = step.memory_analysis()
    for number in range(int(state.step) + 1, args.steps + 1):
        begun = time.perf_counter()
        state, bits, gradient_norm = step(state, data["train"])
        done.bits.append(float(bits))  # waits for the result
        elapsed = time.perf_counter() - begun
        done = done._replace(seconds=done.seconds + elapsed)
        bars.update(bar, completed=number, bits=done.bits[-1], rate=args.batch * args.window / elapsed)
        if number % args.eval_every == 0 or number == args.steps:
            record = {
                "model": name,
                "step": number,
                "train_bpc": float(np.mean(done.bits)),
                "valid_bpc": float(model.evaluate(state.params, state.stats, *data["valid"])),
                "gradient_norm": float(gradient_norm),
                "seconds": done.seconds,
            }
            folder.record(record)
            done.records.append(record)
            done.bits.clear()
        if number % args.checkpoint_every == 0 or number == args.steps:
            checkpoints.save(number, state, done)
    checkpoints.close()
    last = done.records[-1]
    return (
        state,
        done.records,
        last
        | {
            "kind": "final",
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
            "ms_per_step": 1e3 * last["seconds"] / args.steps,
            "memory_mib": (memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes)
            / 2**20,
        },
    )


def run(args: argparse.Namespace) -> None:
    """The whole job."""
    # A smoke run spends its time in the compiler, so the compiler may hurry.
    jax.config.update("jax_disable_most_optimizations", args.smoke)
    source = text.load(args.data, args.held_out, args.limit)
    needed = args.passage * args.window + 1
    if len(source.train) < needed or len(source.valid) < 2:
        raise BadInput(f"{source.source}: too short: training has {len(source.train)} characters, one passage takes "
                       f"{needed}; validation {len(source.valid)}, at least 2. Give more text, or smaller --passage "
                       "and --window.")  # fmt: skip
    folder = run_folder.RunFolder(args, source.sha256)
    console = report.console()
    console.print(source.describe(), highlight=False)
    vocabulary = source.vocabulary
    train_ids, valid_ids, test_ids = (text.encode(part, vocabulary) for part in source[1:])
    data = {"train": jnp.asarray(train_ids), "valid": in_windows(valid_ids, args.window, args.batch)}
    if len(test_ids) > 1:
        data["test"] = in_windows(test_ids, args.window, args.batch)
    records, finals, samples = [], [], []
    with report.progress_bars(console) as bars:
        for name in args.models:
            model = LanguageModel(make_cell(name, args), len(vocabulary), args.batch, args.window, args.passage,
                                  args.learning_rate)  # fmt: skip
            state, curve, final = train(name, model, args, data, folder, bars)
            stats = state.stats
            population_key, sample_key = jax.random.split(jax.random.key(args.seed + 1))
            if jax.tree.leaves(stats):
                stats = model.population(state.params, population_key, data["train"])
                final["running_bpc"] = final["valid_bpc"]
                final["population_bpc"] = float(model.evaluate(state.params, stats, *data["valid"]))
            if "test" in data:
                final["test_bpc"] = float(model.evaluate(state.params, stats, *data["test"]))
            first = jnp.int32(vocabulary.index("\n") if "\n" in vocabulary else train_ids[0])
            drawn = model.sample(state.params, stats, args.characters, first, args.temperature, sample_key)
            samples.append(f"--- {name} ---\n" + "".join(vocabulary[k] for k in drawn))
            folder.record(final)
            records += curve
            finals.append(final)
    console.print(report.table(finals))
    report.picture(records, folder.path / "curves.png", f"{source.source}: {args.hidden} hidden features, batch "
                   f"{args.batch}, Adam at {args.learning_rate:g} for all")  # fmt: skip
    folder.write("samples.txt", "\n\n".join(samples) + "\n")
    console.print("\n\n".join(samples), markup=False, highlight=False)
    console.print(f"\nwritten to {folder.path}: curves.png, metrics.jsonl, samples.txt, checkpoints", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    try:
        run(options.parse(argv))
    except BadInput as error:
        print(f"char_lm.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
