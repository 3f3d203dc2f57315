"""One model: a sweep of learning rates, then the best of them with every seed. A kill costs no number."""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxnorm

from . import text
from .checkpoints import Checkpoints, Progress
from .model import LanguageModel, State, make_cell
from .run_folder import Run, RunFolder
from .summary import best_rate, swept_bits

POPULATION_BATCHES = 16  # passages of each stream from which population statistics are taken
Tell = Callable[[int, str], None]
"""Hears how many steps a model has made in all, and what it does."""


class Program:
    """A function that is compiled once, for the shapes of its first call, and knows how long that took."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self._compiled = jax.jit(function), None
        self.seconds = 0.0

    def compile(self, *args: Any) -> Any:
        if self._compiled is None:
            begun = time.perf_counter()
            self._compiled = self._function.lower(*args).compile()
            self.seconds = time.perf_counter() - begun
        return self._compiled

    def __call__(self, *args: Any) -> Any:
        return self.compile(*args)(*args)

    @property
    def mebibytes(self) -> float:
        """The memory that a call takes, by XLA's account."""
        memory = self._compiled.memory_analysis()
        return (memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes) / 2**20


class Trainer:
    """The programs and the texts that all runs of a model share."""

    def __init__(self, name: str, args: argparse.Namespace, source: text.Text, folder: RunFolder) -> None:
        self.name, self.args, self.folder = name, args, folder
        self.vocabulary = source.vocabulary
        train, valid, test = (text.encode(part, self.vocabulary) for part in source[1:])
        self.train_text = jnp.asarray(train)
        self.valid = text.in_windows(valid, args.window, args.batch)
        self.test = text.in_windows(test, args.window, args.batch) if len(test) > 1 else None
        model = LanguageModel(make_cell(name, args.hidden, args.window), len(self.vocabulary), args.batch, args.window,
                              args.passage)  # fmt: skip
        self.init, self.step, self.measure = map(Program, (model.init, model.train_step, model.measure))
        self.evaluate, self.evaluate_test = Program(model.evaluate), Program(model.evaluate)
        self.sample = Program(partial(model.sample, args.characters))

    def compile_seconds(self) -> float:
        return sum(program.seconds for program in vars(self).values() if isinstance(program, Program))

    def run(self, run: Run, tell: Callable[[int, float], None]) -> dict[str, Any]:
        """Trains from the newest checkpoint on, and returns what came of it; at once if the run has ended before."""
        if ended := self.folder.result(self.name, run):
            return ended
        compiled_before = self.compile_seconds()
        # Seed k of the final runs draws from number k + 1; number 0 is the sweep's alone.
        key = jax.random.fold_in(jax.random.key(self.args.seed), 0 if run.seed is None else run.seed + 1)
        train_key, population_key, sample_key = jax.random.split(key, 3)
        checkpoints = self.folder.checkpoints(self.name, run)
        state, done = self._train(run, self.init(train_key), checkpoints, tell)
        result = {"records": done.records}
        if run.seed is not None:
            result |= self._outcome(state, done, population_key, sample_key)
        result["compile_seconds"] = self.compile_seconds() - compiled_before
        checkpoints.close(discard=run.seed is None)
        self.folder.finish(self.name, run, result)
        return result

    def _train(
        self, run: Run, state: State, checkpoints: Checkpoints, tell: Callable[[int, float], None]
    ) -> tuple[State, Progress]:
        """Steps until all are made, or the loss is no number any more."""
        args, final, rate = self.args, run.seed is not None, jnp.float32(run.rate)
        steps = args.steps if final else args.sweep_steps
        state, done = checkpoints.restore(state) or (state, Progress([], [], 0.0))
        self.step.compile(state, self.train_text, rate)
        for number in range(int(state.step) + 1, steps + 1):
            begun = time.perf_counter()
            state, bits, gradient_norm = self.step(state, self.train_text, rate)
            done.bits.append(float(bits))  # waits for the result
            done = done._replace(seconds=done.seconds + time.perf_counter() - begun)
            tell(number, done.bits[-1])
            diverged = not math.isfinite(done.bits[-1])
            if number == steps or diverged or (final and number % args.eval_every == 0):
                measured = {
                    "train_bpc": np.mean(done.bits),
                    "valid_bpc": self.evaluate(state.params, state.stats, *self.valid),
                    "gradient_norm": gradient_norm,
                }
                about = {"model": self.name, "phase": run.phase, **run._asdict()}
                figures = {key: _number(value) for key, value in measured.items()}
                done.records.append({**about, "step": number, **figures, "seconds": done.seconds})
                done.bits.clear()
            if diverged:
                break
            if number % args.checkpoint_every == 0 if number < steps else final:
                checkpoints.save(number, state, done)
        return state, done

    def _outcome(self, state: State, done: Progress, population_key: Any, sample_key: Any) -> dict[str, Any]:
        """What a final run says at its end, with population statistics where the model has some."""
        last, params, stats = done.records[-1], state.params, state.stats
        final = last | {
            "kind": "final",
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
            "ms_per_step": 1e3 * last["seconds"] / last["step"],
            "memory_mib": self.step.mebibytes,
        }
        if jax.tree.leaves(stats):
            keys = jax.random.split(population_key, POPULATION_BATCHES)
            # The average over batches, as in recurrent batch normalization (no m/(m-1)).
            stats = jaxnorm.population((self.measure(params, key, self.train_text) for key in keys), ddof=0)
            final["population_bpc"] = _number(self.evaluate(params, stats, *self.valid))
        if self.test is not None:
            final["test_bpc"] = _number(self.evaluate_test(params, stats, *self.test))
        first = jnp.int32(self.vocabulary.index("\n") if "\n" in self.vocabulary else self.train_text[0])
        drawn = self.sample(params, stats, first, jnp.float32(self.args.temperature), sample_key)
        return {"final": final, "sample": "".join(self.vocabulary[k] for k in drawn)}


def steps_in_all(args: argparse.Namespace) -> int:
    """How many steps each model makes."""
    return len(args.learning_rates) * args.sweep_steps + args.seeds * args.steps


def train_model(name: str, args: argparse.Namespace, source: text.Text, folder: RunFolder, tell: Tell) -> None:
    """Makes all runs of a model that have not ended yet; the folder holds what came of them."""
    tell(0, "compiles")
    trainer, before = Trainer(name, args, source, folder), 0

    def one(run: Run, steps: int) -> dict[str, Any]:
        nonlocal before
        result = trainer.run(run, lambda number, bits: tell(before + number, f"{run.describe()}: {bits:.3f} bpc"))
        before += steps
        return result

    swept = {rate: one(Run(rate), args.sweep_steps) for rate in args.learning_rates}
    best = best_rate(swept_bits(swept))
    for seed in range(args.seeds):
        one(Run(best, seed), args.steps)


def _number(value: Any) -> float | None:
    """For JSON, which has no word for a number that is none."""
    return float(value) if np.isfinite(value) else None
