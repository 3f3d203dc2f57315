"""Plots of the analysis; they import matplotlib on use."""

from collections.abc import Sequence
from typing import Any

import jax

from jaxnorm.analysis.activations import ActivationStatistics


def plot_activation_statistics(
    statistics: ActivationStatistics, *, levels: Sequence[float] = (15.0, 50.0, 85.0), title: str = ""
) -> Any:
    """Draws the percentiles of the outputs and of each entry of the carry, and the gradient norms, against the step.

    The two outermost levels bound a band; the levels between are lines. The gradient norms appear as their mean over
    the real examples of each step, on a logarithmic axis. Steps without a real example are omitted.

    Args:
      statistics: from :func:`activation_statistics`.
      levels: the levels of that call.
      title: a line above the picture.

    Returns:
      A matplotlib Figure without a window, for ``figure.savefig("activations.png")``.

    Raises:
      ImportError: matplotlib is not installed.
      ValueError: the number of ``levels`` differs from the number of percentiles.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxnorm import analysis, gru
      >>> cell = gru(4)
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> found = analysis.activation_statistics(cell, params, jnp.ones((5, 2, 3)))
      >>> figure = analysis.plot_activation_statistics(found)
      >>> [axes.get_ylabel() for axes in figure.axes]
      ['outputs', 'carry.h']
    """
    try:
        import matplotlib.figure
    except ImportError:
        raise ImportError(
            "plot_activation_statistics: matplotlib is not installed. Install it with the extra 'examples': "
            "pip install 'jaxnorm[examples]'."
        ) from None
    if len(levels) != statistics.outputs.shape[-1]:
        raise ValueError(
            f"plot_activation_statistics: levels must name {statistics.outputs.shape[-1]} percentiles, got {levels!r}. "
            "Pass those that activation_statistics was called with."
        )
    entries = jax.tree_util.tree_leaves_with_path(statistics.carry)
    panels = {"outputs": statistics.outputs}
    panels |= {"carry" + jax.tree_util.keystr(path): entry for path, entry in entries}
    norms: Any = statistics.gradient_norms
    has_gradients = not isinstance(norms, tuple)
    count = len(panels) + has_gradients
    figure = matplotlib.figure.Figure(figsize=(7.0, 1.0 + 2.0 * count), layout="constrained")
    every = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    shown = [step for step, real in enumerate(statistics.real.tolist()) if real]
    order = sorted(range(len(levels)), key=lambda place: levels[place])
    for axes, (label, values) in zip(every, panels.items(), strict=False):
        table = values.tolist()
        curves = [[table[step][place] for step in shown] for place in order]
        axes.fill_between(shown, curves[0], curves[-1], alpha=0.25, linewidth=0.0)
        for place, curve in zip(order, curves, strict=True):
            axes.plot(shown, curve, linewidth=1.0, label=f"{levels[place]:g} %")
        axes.set_ylabel(label)
    every[0].legend(fontsize="small")
    if has_gradients:
        # Masked steps have gradient zero.
        sums, real = norms.reshape(norms.shape[0], -1).sum(axis=1).tolist(), statistics.real.tolist()
        every[-1].plot(shown, [sums[step] / real[step] for step in shown], linewidth=1.0)
        every[-1].set_yscale("log")
        every[-1].set_ylabel("norm of dL/dh")
    every[-1].set_xlabel("step")
    figure.suptitle(title)
    return figure
