"""One run: a trial trained with one rate and one seed."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.harness.checkpoints import Checkpoints
from experiments.harness.claim import Scale, Trial, scalar


class State(NamedTuple):
    """What a run is at one step."""

    params: Any
    optimizer: Any
    memory: Any


class Outcome(NamedTuple):
    """What a run gave."""

    curve: dict[str, list[float | None]]
    diverged: int | None
    test: dict[str, float]
    parameters: int
    state: State


class Trainer:
    """A trial and its compiled step, which all rates and seeds share."""

    def __init__(self, trial: Trial, scale: Scale) -> None:
        self.trial, self.scale = trial, scale
        self._compiled: Any = None

    def _update(self, state: State, batch: Any, key: jax.Array, rate: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        trial = self.trial

        def objective(params: Any) -> tuple[jax.Array, Any]:
            return trial.loss(params, state.memory, batch, key)

        (loss, told), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, optimizer = trial.optimizer(rate).update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        if trial.project is not None:
            params = trial.project(params, told.memory)
        metrics = {"train_loss": loss, "gradient_norm": optax.tree.norm(gradient), **told.metrics}
        return State(params, optimizer, told.memory), metrics

    def run(
        self,
        *,
        rate: float,
        seed: int,
        steps: int,
        final: bool,
        checkpoints: Checkpoints,
        told: Callable[[int], None],
    ) -> Outcome:
        """Trains from the newest checkpoint of this run, or from the beginning. ``told(step)`` hears of progress."""
        trial = self.trial
        which = {"rate": rate, "seed": seed, "steps": steps}
        key = jax.random.key(seed)
        params, memory = trial.init(jax.random.fold_in(key, 2**31 - 1))
        state = State(params, trial.optimizer(rate).init(params), memory)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
        curve: dict[str, list[float | None]] = {}
        first, seconds = 0, 0.0
        # On CPUs a run has one core and one thread: what else the machine does then costs it no seconds.
        clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
        found = checkpoints.restore(state, which)
        if found is not None:
            state, about = found
            curve, first, seconds = about["curve"], about["step"], about["seconds"]
        else:
            _note(curve, step=0, seconds=0.0, train_loss=math.nan, gradient_norm=math.nan)
            _note(curve, **scalar(trial.evaluate(params, memory)))
        evaluations = min(self.scale.evaluations, steps)
        diverged = None
        sums: dict[str, float] = {}
        for number in range(first + 1, steps + 1):
            batch, step_key = trial.batch(seed, number - 1), jax.random.fold_in(key, number)
            rate_now = jnp.float32(rate * trial.schedule((number - 1) / steps))
            if self._compiled is None:  # here, so that the seconds of training are those of training alone
                lowered = jax.jit(self._update, donate_argnums=0).lower(state, batch, step_key, rate_now)
                self._compiled = lowered.compile()
            begun = clock()
            state, metrics = self._compiled(state, batch, step_key, rate_now)
            now = scalar(metrics)  # waits for the step
            seconds += clock() - begun
            for name, value in now.items():
                sums[name] = sums.get(name, 0.0) + value
            if not (math.isfinite(now["train_loss"]) and math.isfinite(now["gradient_norm"])):
                diverged = number
                break
            if number * evaluations // steps > (number - 1) * evaluations // steps:  # evenly, the last step among them
                since = number - int(curve["step"][-1] or 0)
                _note(curve, step=number, seconds=seconds, **{name: value / since for name, value in sums.items()})
                _note(curve, **scalar(trial.evaluate(state.params, state.memory)))
                sums = {}
                checkpoints.save(number, state, {"which": which, "curve": curve, "step": number, "seconds": seconds})
            told(number)
        tested = final and trial.test is not None and diverged is None
        test = scalar(trial.test(state.params, state.memory)) if tested and trial.test is not None else {}
        test = {name: value for name, value in test.items() if math.isfinite(value)}
        return Outcome(curve, diverged, test, parameters, state)


def _note(curve: dict[str, list[float | None]], **figures: float) -> None:
    """Adds figures to a curve; what is no number becomes None, since JSON has no word for it."""
    for name, value in figures.items():
        curve.setdefault(name, []).append(value if np.isfinite(value) else None)
