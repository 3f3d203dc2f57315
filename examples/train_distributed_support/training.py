"""A run from its newest checkpoint to its end."""

import argparse
import json
import math
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from char_lm_support.errors import BadInput
from char_lm_support.lock import alone_in

from . import batches, corpus, mesh, notice, options, processes, programs
from .checkpoints import Checkpoints, Progress
from .folder import Folder
from .model import LanguageModel, State, make_cells
from .report import Report

GO_ON = "The same command goes on with a later --stop-at, or without it."


class Lost(Exception):  # noqa: N818 - an end, not a mistake
    """Another process ended, or cannot be reached."""


def load(args: argparse.Namespace) -> tuple[corpus.Corpus, LanguageModel]:
    """The text, and the model for it."""
    text = corpus.load(args.data, args.unit, args.held_out, args.limit, args.vocabulary)
    needed = args.passage * args.window + 1
    if len(text.train) < needed or len(text.valid) < 2:
        raise BadInput(f"{text.about}: too short: one passage takes {needed}, validation 2. Give more text, or smaller "
                       "--passage and --window.")  # fmt: skip
    dtype = jnp.bfloat16 if args.precision == "bf16" else jnp.float32
    cells = make_cells(args.cell, args.hidden, args.layers, args.precision, args.window, args.passage)
    fields = "features batch window passage accumulate steps learning_rate warmup decay clip save"
    given = {name: getattr(args, name) for name in fields.split()}
    return text, LanguageModel(cells=cells, symbols=len(text.symbols), dtype=dtype, **given)


def check_mesh(args: argparse.Namespace, sizes: dict[str, int]) -> None:
    """Refuses a batch, or kernels, that devices cannot share evenly."""
    if args.batch // args.accumulate % sizes["data"]:
        parts = f" in {args.accumulate} parts" if args.accumulate > 1 else ""
        even = args.accumulate * sizes["data"]
        raise BadInput(f"--batch {args.batch}{parts}: cannot be spread evenly over data={sizes['data']} devices. Make "
                       f"it a multiple of {even}, or give another --mesh.")  # fmt: skip
    for name in ("hidden", "features"):
        size = getattr(args, name)
        if size % sizes["model"]:
            raise BadInput(f"--{name} {size}: cannot be spread evenly over model={sizes['model']} devices. Make it a "
                           f"multiple of {sizes['model']}, or give another --mesh.")  # fmt: skip


class Trainer:
    """The compiled programs of a run on a mesh, and its text."""

    def __init__(self, args: argparse.Namespace, text: corpus.Corpus, model: LanguageModel, grid: jax.sharding.Mesh):
        self.args, self.text, self.model = args, text, model
        self._rows, whole = mesh.spread_batch(grid), mesh.everywhere(grid)
        self.shardings = model.shardings(grid)
        self.init = jax.jit(model.init, out_shardings=self.shardings)
        self._step = jax.jit(model.train_step, donate_argnums=0, out_shardings=(self.shardings, whole))
        self._evaluate = jax.jit(model.evaluate, out_shardings=whole)
        self._sample = jax.jit(model.sample, static_argnums=0, out_shardings=whole)
        self._rows_of_windows = jax.sharding.NamedSharding(grid, jax.sharding.PartitionSpec(None, "data"))
        self._valid = tuple(map(self._spread_windows, batches.streams(text.valid, args.window, args.batch)))
        self.batches = batches.training_batches(
            text.train, batches.own_rows(self._rows, args.batch), batch=args.batch, window=args.window,
            passage=args.passage, seed=args.seed,
        )  # fmt: skip

    def _spread_windows(self, array: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(array.shape, self._rows_of_windows, lambda index: array[index])

    def like(self) -> State:
        """The shapes of a state, and where its parts lie."""
        shapes = jax.eval_shape(self.model.init, jax.random.key(0))
        return jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), shapes, self.shardings
        )

    def step(self, state: State) -> tuple[State, float, float]:
        """One step: the new state, the loss in bits a symbol, and the norm of the gradient."""
        shape = (self.args.batch, self.args.window + 1)
        ids = jax.make_array_from_process_local_data(self._rows, next(self.batches), shape)
        state, metrics = self._step(state, ids)
        return state, float(metrics.bits), float(metrics.gradient_norm)  # waits for the step

    def evaluate(self, state: State) -> float:
        return float(self._evaluate(state.params, state.stats, *self._valid))

    def sample(self, state: State) -> str:
        """Every process takes part, since weights may be spread over all of them."""
        first, key = jnp.int32(self.text.first), jax.random.key(self.args.seed)
        temperature = jnp.float32(self.args.temperature)
        drawn = self._sample(self.args.sample, state.params, state.stats, first, temperature, key)
        return self.text.decode(np.asarray(drawn))


def run(args: argparse.Namespace) -> None:
    """The whole job of one process."""
    text, model = load(args)
    folder, speaks = Folder(args.out), jax.process_index() == 0
    config = {**options.configuration(args), "text_sha256": text.sha256}
    config["data"] = args.data and str(Path(args.data).resolve())  # to be found from anywhere
    processes.agree(json.dumps({**options.shared(args), "text": text.sha256}, sort_keys=True))
    with ExitStack() as until_the_end:
        with processes.together("the checks"):
            if speaks:
                until_the_end.enter_context(alone_in(folder.path))
            stored = None if args.overwrite else folder.stored()
            if stored is not None:
                folder.check_same(config)
            sizes = mesh.choose_axes(args.mesh, (stored or {}).get("last_mesh"), jax.device_count())
            check_mesh(args, sizes)
            if args.export and speaks:
                programs.check_place(args.export)
        grid = mesh.make_mesh(sizes, jax.devices())
        with processes.together("the beginning"):  # nobody looks for a run any more
            if speaks:
                folder.begin({**config, "last_mesh": sizes}, overwrite=args.overwrite)
        with Report(args.steps) as report:
            report.say(f"{text.about}\nprocesses: {jax.process_count()}, devices: {jax.device_count()} "
                       f"({jax.devices()[0].device_kind}), mesh: {mesh.describe(grid)}")  # fmt: skip
            try:
                state = _train(Trainer(args, text, model, grid), folder, report)
                if args.export:
                    _export(args.export, model, text, state, report)
            except jax.errors.JaxRuntimeError as error:
                if jax.process_count() == 1:
                    raise
                raise Lost(str(error)) from error


def _train(trainer: Trainer, folder: Folder, report: Report) -> State | None:
    """Steps until all are made; None if this process was told to end before."""
    args = trainer.args
    checkpoints = Checkpoints(folder.checkpoints)
    found = checkpoints.restore(trainer.like())
    if found is None:
        state, done = trainer.init(jax.random.key(args.seed)), Progress(trainer.batches.get_state(), [], 0.0)
    else:
        state, done = found
        trainer.batches.set_state(done.data)
        report.say(f"goes on after step {int(state.step)}")
    if jax.process_index() == 0:
        folder.keep_metrics(int(state.step))
    if args.stop_at is not None and args.stop_at <= int(state.step) < args.steps:
        checkpoints.close()
        report.say(f"nothing to do: step {int(state.step)} is made, and --stop-at says {args.stop_at}. {GO_ON}")
        return None
    with notice.heard() as told_to_end:
        for number in range(int(state.step) + 1, args.steps + 1):
            begun = time.perf_counter()
            state, bits, norm = trainer.step(state)
            done = Progress(trainer.batches.get_state(), [*done.bits, bits], done.seconds + time.perf_counter() - begun)
            report.show(number, bits)
            if not math.isfinite(bits):
                raise BadInput(f"the loss is no number any more at step {number}. Lower --learning-rate or --clip.")
            last = number == args.steps
            shows, evaluates, saves = (
                last or number % every == 0 for every in (args.log_every, args.eval_every, args.checkpoint_every)
            )
            if shows or evaluates:
                rate = float(trainer.model.schedule(number - 1))
                record = {"step": number, "bits": float(np.mean(done.bits)), "gradient_norm": norm,
                          "learning_rate": rate, "seconds": done.seconds}  # fmt: skip
                if evaluates:
                    record["valid_bits"] = trainer.evaluate(state)
                done.bits.clear()
                if jax.process_index() == 0:
                    folder.add_metrics(record)
                report.say(_line(record, args))
            stop = not last and (number == args.stop_at or told_to_end(number))
            if saves or stop:
                checkpoints.save(number, state, done)
            if stop:
                checkpoints.close()
                why = GO_ON if number == args.stop_at else "The same command goes on."
                report.say(f"stopped after step {number}, as it was told. {why}")
                return None
    checkpoints.close()
    sample = trainer.sample(state)
    if jax.process_index() == 0:
        folder.write("sample.txt", sample + "\n")
    report.say(f"---\n{sample}\n---\nwritten to {folder.path}: metrics.jsonl, sample.txt, checkpoints")
    return state


def _export(path: str, model: LanguageModel, text: corpus.Corpus, state: State | None, report: Report) -> None:
    """Process 0 writes the weights of all."""
    if state is None:
        report.say(f"{path} is not written yet: it is made of the weights after the last step.")
        return
    whole = processes.gather(state)
    with processes.together("the export"):
        if jax.process_index() == 0:
            programs.write(path, model, text, whole)
    report.say(f"written: {path}")


def _line(record: dict[str, Any], args: argparse.Namespace) -> str:
    speed = args.batch * args.window * record["step"] / record["seconds"]
    valid = record.get("valid_bits")
    held_out = "" if valid is None else f", held out {valid:.4f}"
    if valid is not None and args.unit == "word":
        held_out += f" (perplexity {2**valid:.1f})"
    return (f"step {record['step']}: {record['bits']:.4f} bits a {args.unit}{held_out}, gradient "
            f"{record['gradient_norm']:.2f}, {speed:,.0f} {args.unit}s/s")  # fmt: skip
