"""Character language models side by side: what does normalization do?

    python examples/char_lm.py                                  the demo: four models, the Python language reference
    python examples/char_lm.py --data ../shared/data/ptb --steps 5000 --hidden 512
    python examples/char_lm.py --resume                         goes on after a kill, to the same numbers
    python examples/char_lm.py --help

Each model reads one-hot characters and predicts the next one. Gradients reach back one window (truncated
back-propagation); the carry is handed on from window to window. The model is in ``char_lm_support/model.py``.
Needs the extra jaxnorm[examples].
"""

import argparse
import inspect
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from char_lm_support import options, report, run_folder, text
from char_lm_support.errors import BadInput
from char_lm_support.model import LanguageModel

import jaxnorm


def make_cell(preset: str, args: argparse.Namespace) -> jaxnorm.Cell:
    """A model by its name; one with statistics for each time step gets a row for each step of a window."""
    build = getattr(jaxnorm, preset, None) or getattr(jaxnorm.zoo, preset)
    per_step = "max_steps" in inspect.signature(build).parameters
    # The momentum is that of recurrent batch normalization on Penn Treebank.
    return build(args.hidden, max_steps=args.window, momentum=0.95) if per_step else build(args.hidden)


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
    data = {"train": jnp.asarray(train_ids), "valid": text.in_windows(valid_ids, args.window, args.batch)}
    if len(test_ids) > 1:
        data["test"] = text.in_windows(test_ids, args.window, args.batch)
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
