"""The base class of batch-norm specs, which take the statistics of each feature over the batch axes."""

import dataclasses
from typing import Any, NoReturn

import jax.numpy as jnp

from jaxnorm import _validate
from jaxnorm._typing import DTypeLike
from jaxnorm.norms import base
from jaxnorm.norms.base import HasAffine, Stats, TrainsByMeasuring
from jaxnorm.norms.core import running as running_statistics
from jaxnorm.norms.core.moments import feature_last_axes, initial_moments


class BatchSpec(HasAffine, TrainsByMeasuring):
    """Parameters, statistics and checks for specs with fields like ``axis``, ``epsilon``, ``momentum``, ``use_scale``.

    A spec without ``ddof`` accumulates the variance as measured. A spec without ``axis_name`` reduces over no devices.
    """

    def __post_init__(self) -> None:
        spec: Any = self
        name, fields = type(self).__name__, {field.name for field in dataclasses.fields(spec)}
        if getattr(spec, "axis", None) is not None:
            object.__setattr__(self, "axis", base.normalize_axis(name, spec.axis))
        if isinstance(getattr(spec, "axis_name", None), list):
            object.__setattr__(self, "axis_name", tuple(spec.axis_name))
        if "epsilon" in fields:
            _validate.epsilon(name, spec.epsilon)
        if "momentum" in fields:
            base.check_running_rule(name, spec.momentum, getattr(spec, "ddof", 0))

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the data along the axes that are not reduced."""
        spec: Any = self
        reduced = feature_last_axes(type(self).__name__, spec.axis, len(shape))
        return tuple(size for a, size in enumerate(shape) if a not in reduced)

    def initial_stats(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Stats:
        """Mean 0, variance 1, count 0: inference before any training (nearly) leaves the data unchanged."""
        return initial_moments(shape, dtype)

    def update_running(self, running: Stats, measured: Stats) -> Stats:
        """Applies :func:`jaxnorm.update_running` with the spec's momentum (and ``ddof`` and ``debias``)."""
        spec: Any = self
        rule = {name: getattr(spec, name) for name in ("ddof", "debias") if hasattr(spec, name)}
        return running_statistics.update_running(running, measured, momentum=spec.momentum, **rule)

    def check_site(self, caller: str) -> None:
        """Accepts only ``axis=None`` (all axes but the last)."""
        spec: Any = self
        if getattr(spec, "axis", None) is not None:
            raise ValueError(
                f"{caller}: {self!r} cannot be used inside a cell, where the batch is all axes but the last. "
                "Leave axis at None."
            )


def refuse_site(caller: str, spec: object) -> None:
    """Raises ValueError for normalizers that need running statistics in training, since a cell does not pass any."""
    raise ValueError(
        f"{caller}: {spec!r} cannot be used inside a cell: it looks at running statistics in training, and a cell "
        "measures. Use BatchNorm()."
    )


def refuse_measuring(spec: object) -> NoReturn:
    """Raises ValueError for a call without statistics, for normalizers that need running ones in training."""
    name = type(spec).__name__
    raise ValueError(
        f"{name}: stats is None, but this normalizer looks at running statistics in training too. Call "
        "train(params, x, running) with running = initial_stats(shape) or what update_running gave; for inference pass "
        "stats."
    )
