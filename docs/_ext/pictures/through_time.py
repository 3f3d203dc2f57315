"""Activations and gradients through time of four cells with random weights."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jaxnorm as jn
from pictures.style import Theme

STEPS, BATCH, INPUTS, HIDDEN = 100, 32, 16, 64
FACTORS = {"¼": 0.25, "1": 1.0, "4": 4.0}
"""What the recurrent kernel is multiplied by."""
CELLS = {
    "LSTM": jn.lstm(HIDDEN),
    "LN-LSTM": jn.ln_lstm(HIDDEN),
    "BN-LSTM": jn.bn_lstm(HIDDEN, max_steps=STEPS),
    "GRU": jn.gru(HIDDEN),
}
LEAST = 1e-16
"""The smallest gradient that the picture shows."""


class Run(NamedTuple):
    """A cell over a sequence of noise; the loss is a random projection of the last h."""

    outputs: Any
    """h of all steps, (T, B, H)."""
    gradients: Any
    """The norm of the loss's gradient with respect to h at each step, (T,)."""


@functools.partial(jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})  # compiles sooner
def run(cell: Any, params: Any, xs: Any, direction: Any) -> Run:
    """Runs a cell over inputs; the loss is the product of the last h with ``direction`` (B, H)."""

    def loss(changes: Any) -> tuple[Any, Any]:
        def one(carry: Any, given: Any) -> tuple[Any, Any]:
            x, change = given
            carry, _ = jn.step(cell, params, carry, x)
            counted = isinstance(carry, jn.CountedCarry)
            state = carry.carry if counted else carry
            state = state._replace(h=state.h + change)
            return (carry._replace(carry=state) if counted else state), state.h

        _, hs = jax.lax.scan(one, cell.initial_carry((BATCH,)), (xs, changes))
        return jnp.sum(direction * hs[-1]), hs

    gradient, hs = jax.grad(loss, has_aux=True)(jnp.zeros((STEPS, BATCH, HIDDEN)))
    return Run(hs, jnp.linalg.norm(gradient.reshape(STEPS, -1), axis=1))


@functools.cache
def runs() -> dict[str, dict[str, Run]]:
    """All runs, by cell and factor."""
    numbers = np.random.default_rng(0)
    xs = numbers.normal(size=(STEPS, BATCH, INPUTS)).astype(np.float32)
    direction = numbers.normal(size=(BATCH, HIDDEN)).astype(np.float32)
    direction /= np.linalg.norm(direction)
    found: dict[str, dict[str, Run]] = {}
    for name, cell in CELLS.items():
        params = cell.init(jax.random.key(0), INPUTS)
        found[name] = {}
        for word, factor in FACTORS.items():
            scaled = params._replace(recurrent=factor * params.recurrent)
            found[name][word] = jax.tree.map(np.asarray, run(cell, scaled, xs, direction))
    return found


def activations(theme: Theme) -> Figure:
    """A map of h for each cell: a row a feature, a column a step."""
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    colors = "RdBu_r" if theme.name == "light" else "berlin"
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    for panel, (name, found) in zip(panels.flat, runs().items(), strict=True):
        shown = panel.imshow(
            found["1"].outputs[:, 0, :32].T, aspect="auto", interpolation="nearest", vmin=-0.8, vmax=0.8, cmap=colors
        )
        panel.set_title(name, size=10)
        panel.tick_params(length=2)
        panel.spines[:].set_visible(False)
    for panel in panels[:, 0]:
        panel.set_ylabel("feature of h")
    for panel in panels[1]:
        panel.set_xlabel("step t")
    bar = figure.colorbar(shown, ax=panels, shrink=0.7, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_ticks([-0.8, -0.4, 0, 0.4, 0.8])
    return figure


def gradients(theme: Theme) -> Figure:
    """The norm of the gradient with respect to h at each step, for three sizes of the recurrent kernel."""
    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    for panel, (name, found) in zip(panels.flat, runs().items(), strict=True):
        for (word, one), color, dash in zip(found.items(), theme.series[1:], ("--", "-", ":"), strict=True):
            values = np.where(one.gradients > LEAST, one.gradients, np.nan)
            panel.plot(range(1, STEPS + 1), values, dash, color=color, lw=1.8, label=f"{word} × U")
        panel.set_title(name, size=10)
        panel.set_yscale("log")
        panel.set_ylim(LEAST, 1e7)
        panel.set_yticks([1e-15, 1e-10, 1e-5, 1, 1e5])
        panel.minorticks_off()
        panel.grid(color=theme.muted, alpha=0.25, lw=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[:, 0]:
        panel.set_ylabel(r"norm of $\partial L / \partial h_t$")
    for panel in panels[1]:
        panel.set_xlabel("step t")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure
