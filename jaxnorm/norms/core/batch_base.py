"""The base class of batch-norm specs, which take the statistics of each feature over the batch axes."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp

from jaxnorm._base.typing import DTypeLike
from jaxnorm.norms.affine_norm import HasAffine, HasEpsilon, NormSpec
from jaxnorm.norms.base import Stats, TrainsByMeasuring
from jaxnorm.norms.core import running as running_statistics
from jaxnorm.norms.core.axes import batch_axes
from jaxnorm.norms.core.moments import Moments, initial_moments
from jaxnorm.norms.core.spec import keywords_of


class BatchStatistics(NormSpec, TrainsByMeasuring, abstract=True):
    """Shapes and running statistics for specs with a field ``axis``, and perhaps ``momentum``, ``ddof``, ``debias``.

    These three have the defaults of :func:`jaxnorm.update_running`.
    """

    rule: ClassVar[Callable[..., Any] | None] = staticmethod(running_statistics.update_running)

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the data along the axes that are not reduced."""
        spec: Any = self
        reduced = batch_axes(type(self).__name__, len(shape), spec.axis, getattr(spec, "feature_axis", None))
        return tuple(size for a, size in enumerate(shape) if a not in reduced)

    def initial_stats(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Stats:
        """Mean 0, variance 1, count 0: inference before any training (nearly) leaves the data unchanged."""
        return initial_moments(shape, dtype)

    def update_running(self, running: Stats, measured: Stats) -> Stats:
        """Applies :func:`jaxnorm.update_running` with the spec's momentum (and ``ddof`` and ``debias``)."""
        rule = running_statistics.update_running
        return rule(running, measured, **keywords_of(self, rule))

    def check_site(self, caller: str) -> None:
        """Accepts only ``axis=None`` (all axes but the last)."""
        if getattr(self, "axis", None) is not None or getattr(self, "feature_axis", None) not in (None, -1, (-1,)):
            raise ValueError(
                f"{caller}: {self!r} cannot be used inside a cell, where the batch is all axes but the last. "
                "Leave axis at None."
            )


class BatchSpec(HasEpsilon, HasAffine, BatchStatistics, abstract=True):
    """Batch statistics, with epsilon, scale and bias.

    Attributes:
      mean_init: the running mean before any data.
      var_init: the running variance before any data.
    """

    mean_init: float = 0.0
    var_init: float = 1.0

    def initial_stats(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Stats:
        """The initial mean and variance of the spec, and count 0; inference (nearly) leaves data as they are."""
        return self.initial_moments(shape, dtype)

    def initial_moments(
        self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32, count_shape: tuple[int, ...] = ()
    ) -> Moments:
        """Moments with ``mean_init``, ``var_init`` and count 0."""
        return initial_moments(shape, dtype, count_shape, mean=self.mean_init, var=self.var_init)
