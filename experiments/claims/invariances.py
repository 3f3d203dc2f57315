"""Invariances: which changes of weights and data a normalized layer does not show.

Claim: table 1, eighteen cells: batch, weight and layer normalization, each under six changes.
Source: Ba, Kiros, Hinton, Layer Normalization, 2016, section 5.1 and table 1. (The text there calls all three
invariant to re-scaling of the data; the table does not.) RMSNorm: Zhang, Sennrich 2019. Further rows: their equations.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax

import jaxnorm as jn
from experiments.harness import measures
from experiments.harness.claim import Agreement, Claim, Scale
from experiments.harness.records import Run

TITLES = tuple(field.replace("_re", " re-").replace("_", " ") for field in jn.analysis.PerChange._fields)
EPSILON = 1e-12  # the papers have none


def of_kernel(spec: Any) -> Callable[[Any, Any], Any]:
    """A layer whose kernel is normalized, with gain 1."""
    return lambda kernel, xs: xs @ spec(jn.weight_norms.KernelParams(kernel, None))


def of_spectrum(kernel: Any, xs: Any) -> Any:
    """A layer whose kernel has spectral norm 1."""
    spec = jn.SpectralNorm(iterations=1)
    params, state = spec.init(kernel, jax.random.key(0))
    state = jax.lax.fori_loop(0, 2000, lambda _, state: spec.advance(params, state), state)
    return xs @ spec(params, state)


# Layer, answers (yes and no, in the order of the table), and whether its training cases are sequences.
ARMS: dict[str, tuple[Any, str, bool]] = {
    "batch normalization": (jn.BatchNorm(epsilon=EPSILON), "ynyyyn", False),
    "weight normalization": (of_kernel(jn.WeightNorm()), "ynynnn", False),
    "layer normalization": (jn.LayerNorm(epsilon=EPSILON), "yynyny", False),
    "RMSNorm": (jn.RMSNorm(epsilon=EPSILON), "ynnyny", False),
    "pRMSNorm": (jn.RMSNorm(fraction=0.25, epsilon=EPSILON), "ynnyny", False),
    "group normalization": (jn.GroupNorm(4, epsilon=EPSILON), "yynyny", False),
    "instance normalization": (jn.InstanceNorm(epsilon=EPSILON), "ynyyyy", True),
    "weight standardization": (of_kernel(jn.WeightStandardization(epsilon=EPSILON)), "ynynnn", False),
    "spectral normalization": (of_spectrum, "ynnnnn", False),
    "none": (jn.Identity(), "nnnnnn", False),
}
IN_TABLE = ("batch normalization", "weight normalization", "layer normalization")


def calculate(arm: tuple[Any, str, bool], scale: Scale, data: Any, seed: int) -> dict[str, float]:
    """The largest change of an output, relative to the largest output, and how many answers are not the paper's."""
    layer, answers, sequences = arm
    batch = (scale.batch, scale.positions) if sequences else (scale.batch,)
    with jax.enable_x64(True):
        found = jn.analysis.invariances(
            layer,
            in_features=scale.inputs,
            out_features=scale.outputs,
            batch_shape=batch,
            tolerance=1e-6,
            key=jax.random.key(seed),
        )
    differing = sum(holds != (answer == "y") for holds, answer in zip(found.holds, answers, strict=True))
    return {"differing": differing, **dict(zip(TITLES, found.violation, strict=True))}


def table(runs: Sequence[Run], artifacts: Any = None) -> dict[str, Any]:
    """Table 1 and its further rows, as measured: the largest violation over seeds, up to 1e-6, counts as none."""
    import matplotlib
    from matplotlib.figure import Figure

    arms = [arm for arm in ARMS if any(run.arm == arm for run in runs)]
    figure = Figure(figsize=(6.2, 0.3 * len(arms) + 0.8), layout="constrained")
    panel = figure.subplots()
    for row, arm in enumerate(arms):
        for column, title in enumerate(TITLES):
            holds = max(run.test[title] for run in runs if run.arm == arm) <= 1e-6
            panel.barh(row, 0.94, left=column - 0.47, height=0.86, color="#2b7cbc" if holds else "#737d88",
                       alpha=1.0 if holds else 0.15, linewidth=0)  # fmt: skip
            panel.text(column, row, "yes" if holds else "no", ha="center", va="center", fontsize=9,
                       color="#ffffff" if holds else matplotlib.rcParams["text.color"])  # fmt: skip
    panel.set_xlim(-0.5, len(TITLES) - 0.5)
    panel.set_ylim(len(arms) - 0.5, -0.5)
    panel.set_xticks(range(len(TITLES)), [title.replace(" ", "\n") for title in TITLES], fontsize=8.5)
    panel.set_yticks(range(len(arms)), arms, fontsize=9)
    panel.xaxis.tick_top()
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    return {"table.png": figure}


CLAIM = Claim(
    number=16,
    name="invariances",
    claim="Batch, weight and layer normalization are invariant to what table 1 says, and to nothing else in it",
    source="Ba, Kiros, Hinton 2016, table 1; further rows: Zhang, Sennrich 2019 (RMSNorm), and the equations",
    published="batch: all but matrix re-centering and single cases; weight: matrix and vector re-scaling; layer: all "
    "but vector re-scaling and data re-centering",
    arms=ARMS,
    rates=(),
    seeds=5,
    contrast=Agreement(
        measure=measures.given("differing", math.nan), unit="cells that differ from the table", arms=IN_TABLE
    ),
    scales={
        "small": Scale(steps=0, evaluations=0, batch=64, inputs=32, outputs=64, positions=16),
        "paper": Scale(steps=0, evaluations=0, batch=128, inputs=784, outputs=1000, positions=16),
        "smoke": Scale(steps=0, evaluations=0, batch=8, inputs=5, outputs=16, positions=4),
    },
    smaller="nothing: random weights and data, double precision, one draw per seed; a cell counts as invariant up "
    "to 1e-6",
    load=lambda folder, scale: None,
    calculate=calculate,
    pictures=table,
    also={title: measures.given(title, math.nan) for title in TITLES},
)
