"""What a claim is: everything that is written down before it runs."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax

from experiments.harness.measures import Measure
from experiments.harness.records import Run

SCALES = ("small", "paper", "smoke")


class Scale(SimpleNamespace):
    """The sizes of one scale. Every scale has ``steps``, ``evaluations`` and ``batch``; the rest is the claim's own."""

    steps: int
    evaluations: int
    batch: int


class Loss(NamedTuple):
    """What a loss function returns beside the loss itself."""

    memory: Any
    """What passes to the next step: running statistics, carries."""
    metrics: Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One arm of a claim on its data, ready to be trained with any learning rate and seed.

    All functions are pure. ``memory`` is a tree of arrays that passes from step to step beside the params.
    """

    init: Callable[[jax.Array], tuple[Any, Any]]
    """``init(key) -> (params, memory)``."""
    batch: Callable[[int, int], Any]
    """``batch(seed, step)``: a tree of arrays; the same in every arm."""
    loss: Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, Loss]]
    """``loss(params, memory, batch, key) -> (loss, Loss)``."""
    evaluate: Callable[[Any, Any], Mapping[str, Any]]
    """``evaluate(params, memory)``: figures of the validation data, scalars."""
    test: Callable[[Any, Any], Mapping[str, Any]] | None = None
    """``test(params, memory)``: figures of the test data. It is called once, after the last step of a final run."""
    artifacts: Callable[[Any, Any], Mapping[str, Any]] | None = None
    """``artifacts(params, memory)``: arrays for pictures, kept of the first seed."""
    optimizer: Callable[[Any], optax.GradientTransformation] = lambda rate: optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(rate)
    )
    """``optimizer(rate)``; the rate is a traced scalar, so that all rates share one compilation."""
    schedule: Callable[[float], float] = lambda share: 1.0
    """``schedule(share)``: what the rate is multiplied by once this share of the run is done, from 1 at 0 on."""
    steps: int | None = None
    """The length of a final run where the arm does not take that of the scale."""
    project: Callable[[Any, Any], Any] | None = None
    """``project(params, memory)``: what becomes of the params after each update."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrast:
    """The one comparison that answers a claim: a figure, two arms, a direction, a margin of indifference."""

    measure: Measure
    """The figure of one arm and one seed, from its runs (one run, or one a rate where all rates are kept). It also
    chooses rates in the sweep."""
    unit: str
    """What the figure is, in words."""
    arm: str
    baseline: str
    margin: float
    """Differences within it count as equal."""
    better: Literal["lower", "higher"] = "lower"
    claimed: Literal["better", "equal", "not better"] = "better"
    """What the paper says of ``arm`` beside ``baseline``."""
    relative: Callable[[Sequence[Run], Sequence[Run]], float] | None = None
    """The figure where it depends on the baseline: from the runs of an arm, and those of the baseline with the same
    seed. ``measure`` then chooses rates and nothing else."""

    or_best_of: tuple[str, ...] = ()
    """Further arms: of these and ``arm`` the one with the best mean is compared."""

    @property
    def title(self) -> str:
        """What is compared with what."""
        arms = "; ".join((self.arm, *self.or_best_of))
        return f"{f'best of ({arms})' if self.or_best_of else arms} minus {self.baseline}"

    @property
    def expectation(self) -> str:
        """What the paper says of it."""
        return f"claimed: {self.claimed} ({self.better} is better); margin {self.margin:g}"

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that have to be there."""
        return self.arm, *self.or_best_of, self.baseline

    def figures(self, runs: Mapping[str, Mapping[int, Sequence[Run]]]) -> dict[str, dict[int, float]]:
        """The figure by arm and seed, from the final runs by arm and seed."""
        if self.relative is None:
            return {arm: {seed: self.measure(own) for seed, own in seeds.items()} for arm, seeds in runs.items()}
        baseline = runs[self.baseline]
        return {
            arm: {seed: self.relative(own, baseline[seed]) for seed, own in seeds.items() if seed in baseline}
            for arm, seeds in runs.items()
        }

    def differences(self, figures: Mapping[str, Mapping[int, float]]) -> list[float]:
        """``arm - baseline`` for each seed that all have; ``figures`` by arm and seed."""
        seeds = sorted(set.intersection(*(set(figures[arm]) for arm in self.arms)))
        sign = 1 if self.better == "lower" else -1
        arm = min((self.arm, *self.or_best_of), key=lambda arm: sign * sum(figures[arm][seed] for seed in seeds))
        return [figures[arm][seed] - figures[self.baseline][seed] for seed in seeds]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreement:
    """Answers a claim that is calculated: the figure counts what differs from the paper, and has to be zero."""

    measure: Measure
    unit: str
    arms: tuple[str, ...]
    """The arms that the paper speaks of; others are description."""
    margin: float = 0.0
    better: Literal["lower", "higher"] = "lower"
    claimed: Literal["better", "equal", "not better"] = "equal"

    @property
    def title(self) -> str:
        """What is compared with what."""
        return "; ".join(self.arms)

    @property
    def expectation(self) -> str:
        """What the paper says of it."""
        return "claimed: none"

    def figures(self, runs: Mapping[str, Mapping[int, Sequence[Run]]]) -> dict[str, dict[int, float]]:
        """The figure by arm and seed, from the final runs by arm and seed."""
        return {arm: {seed: self.measure(own) for seed, own in seeds.items()} for arm, seeds in runs.items()}

    def differences(self, figures: Mapping[str, Mapping[int, float]]) -> list[float]:
        """The sum over the arms, for each seed that all have."""
        shared = set.intersection(*(set(figures[arm]) for arm in self.arms))
        return [sum(figures[arm][seed] for arm in self.arms) for seed in sorted(shared)]


def _nothing_to_train(arm: Any, scale: Scale, data: Any) -> Trial:
    raise TypeError("this claim is calculated: it has no trial to train")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of a paper, and how it is put to the test."""

    number: int
    name: str
    claim: str
    source: str
    published: str
    arms: Mapping[str, Any]
    """By name: what tells the arms apart; ``build`` knows what it means."""
    rates: Sequence[float] | Mapping[str, Sequence[float]]
    """Learning rates of the sweep, rising; of all arms or by arm."""
    seeds: int
    contrast: Contrast | Agreement
    scales: Mapping[str, Scale]
    smaller: str
    """What is smaller at the small scale than in the paper, or otherwise different."""
    load: Callable[[Any, Scale], Any]
    """``load(folder, scale)``: the data; ``folder`` is None where only what is installed may be read."""
    build: Callable[[Any, Scale, Any], Trial] = _nothing_to_train
    """``build(arm, scale, data)``."""
    calculate: Callable[[Any, Scale, Any, int], Mapping[str, float]] | None = None
    """``calculate(arm, scale, data, seed)``: figures of the arm, where there is nothing to train."""
    seeds_by_arm: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Arms that are only described may do with fewer seeds."""
    smoke_arms: tuple[str, ...] = ()
    """The arms of a smoke run, of a claim with so many that all would take minutes to compile; none means all."""
    sweep_seed: int = 1000
    extensions: int = 2
    """How often the sweep of an arm is extended when its best rate lies at an edge."""
    every_rate: bool = False
    """Whether each seed runs with each rate, in place of a sweep."""
    curve: str = "valid_loss"
    """The figure of ``evaluate`` that the picture shows."""
    curve_label: str = "validation loss"
    pictures: Callable[[Sequence[Run], Any], Mapping[str, Any]] | None = None
    """``pictures(runs, artifacts)``: further figures (matplotlib) by file name."""
    axes: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    """Arms by the words at the axis: the picture has a row of each kind, where their figures differ or are too many."""
    also: Mapping[str, Measure] = dataclasses.field(default_factory=dict)
    """Further figures of a final run, for the table: description only."""
    undecidable: str = ""
    """What the small scale cannot decide, and what would."""
    looked_at: str = ""
    """Where the outcome is not the paper's: what was looked at to find out why, and what was found."""

    def rates_of(self, arm: str) -> tuple[float, ...]:
        """The rates where the sweep of an arm begins."""
        return tuple(self.rates[arm] if isinstance(self.rates, Mapping) else self.rates)

    def arms_of(self, scale: str) -> tuple[str, ...]:
        """The arms that run where the user names none."""
        return self.smoke_arms if scale == "smoke" and self.smoke_arms else tuple(self.arms)

    def seeds_of(self, arm: str, asked: int | None = None) -> range:
        """The seeds of an arm's final runs."""
        return range(self.seeds_by_arm.get(arm, self.seeds) if asked is None else asked)


def scalar(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Figures as Python floats."""
    return {name: float(np.asarray(value)) for name, value in metrics.items()}
