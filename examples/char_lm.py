"""Character language models, each at its own best learning rate: what does normalization do?

    python examples/char_lm.py                        the demo: four models, the Python language reference
    python examples/char_lm.py                        again: resumes after a kill, with the same numbers
    python examples/char_lm.py --data ../shared/data/ptb --steps 5000 --hidden 512 --out runs/ptb
    python examples/char_lm.py --out runs/ptb --resume
    python examples/char_lm.py --help

Each model tries all learning rates for some steps, and is then trained at its own best with several seeds. The models
run on all cores in parallel. Each reads one-hot characters and predicts the next one. Gradients reach back one window
(truncated back-propagation); the carry passes from window to window. The model is in
``char_lm_support/model.py``, its training in ``training.py``. Needs the extra jaxnorm[examples].
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
from char_lm_support import options, pictures, report, text, training, workers
from char_lm_support.errors import BadInput
from char_lm_support.lock import alone_in
from char_lm_support.run_folder import RunFolder
from char_lm_support.summary import Summary, summarize
from rich.console import Console


def train(args: argparse.Namespace, source: text.Text, folder: RunFolder, console: Console) -> dict[str, int]:
    """Trains the unfinished models, with a progress bar for each; returns the exit codes of models that failed."""
    total = training.steps_in_all(args)
    with report.progress_bars(console) as bars:
        tasks = {name: bars.add_task(name, total=total, doing="waits") for name in args.models}

        def heard(name: str, number: int, doing: str) -> None:
            bars.update(tasks[name], completed=number, doing=doing)

        def ended(name: str) -> None:
            bars.update(tasks[name], completed=total, doing=report.result(summarize(name, args, folder)))

        missing = []
        for name in args.models:
            if summarize(name, args, folder):
                ended(name)
            else:
                missing.append(name)
        if not args.smoke:
            return workers.train_all(missing, args, source, folder, heard, ended)
        for name in missing:
            training.train_model(name, args, source, folder, lambda *said, name=name: heard(name, *said))
            ended(name)
        return {}


def show(
    summaries: list[Summary], args: argparse.Namespace, source: text.Text, folder: RunFolder, console: Console
) -> None:
    """Makes the table, pictures, metrics and samples of the finished models."""
    console.print(report.table(summaries))
    edges = [found.model for found in summaries if found.rate in (min(found.swept), max(found.swept))]
    if edges:
        console.print(f"The best rate of {', '.join(edges)} lies at an end of those tried: give more with "
                      "--learning-rates.", highlight=False)  # fmt: skip
    about = f"{source.title}: {args.hidden} hidden features, batch {args.batch}"
    with folder.replaced("curves.png") as file:
        pictures.save(pictures.curves(summaries, about), file)
    with folder.replaced("rates.png") as file:
        pictures.save(pictures.rates(summaries, f"{about}\nafter {args.sweep_steps} steps, 1 seed"), file)
    folder.write("metrics.jsonl", "".join(json.dumps(line) + "\n" for found in summaries for line in found.records))
    samples = "\n\n".join(f"--- {found.model} ---\n{found.sample}" for found in summaries)
    folder.write("samples.txt", samples + "\n")
    console.print(samples, markup=False, highlight=False)
    console.print(f"\nwritten to {folder.path}: curves.png, rates.png, metrics.jsonl, samples.txt, checkpoints",
                  highlight=False)  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Trains and shows all models; returns the exit code."""
    begun = time.monotonic()
    # A smoke run spends its time in the compiler, so the compiler may hurry.
    jax.config.update("jax_disable_most_optimizations", args.smoke)
    source = text.load(args.data, args.held_out, args.limit)
    needed = args.passage * args.window + 1
    if len(source.train) < needed or len(source.valid) < 2:
        raise BadInput(f"{source.source}: too short: training has {len(source.train)} characters, one passage takes "
                       f"{needed}; validation {len(source.valid)}, at least 2. Give more text, or smaller --passage "
                       "and --window.")  # fmt: skip
    console = Console()
    with alone_in(Path(args.out)):
        folder = RunFolder(args, source.sha256)
        console.print(source.describe(), highlight=False)
        failed = train(args, source, folder, console)
        summaries = [found for name in args.models if (found := summarize(name, args, folder))]
        if summaries:
            show(summaries, args, source, folder, console)
    console.print(f"{time.monotonic() - begun:.0f} seconds in all", highlight=False)
    for name, code in failed.items():
        print(f"char_lm.py: the process of {name} ended with exit code {code}. The same command goes on.",
              file=sys.stderr)  # fmt: skip
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    try:
        return run(options.parse(argv))
    except BadInput as error:
        print(f"char_lm.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("char_lm.py: stopped. The same command goes on.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
