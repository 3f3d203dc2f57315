"""The core of decorrelated batch normalization and IterNorm: covariances of feature groups, and their statistics."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax.numpy as jnp
from jax import lax

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Bool, DTypeLike, Float
from jaxnorm.norms.affine_norm import HasAffine, HasAxisName, HasEpsilon, HasFeatureAxis
from jaxnorm.norms.base import Stats, TrainsByMeasuring
from jaxnorm.norms.core.moments import (
    apply_affine,
    average,
    centered,
    full_mask,
    masked,
    spread,
    statistics_dtype,
    to_running,
    toward,
)
from jaxnorm.norms.core.named_axes import NamedAxes, across
from jaxnorm.norms.core.spec import DEFAULT

__all__ = ["WhiteningStats"]


Running: TypeAlias = Literal["matrix", "covariance"]
"""The matrices that running statistics average: whitening matrices of batches, or covariances."""


class WhiteningStats(NamedTuple):
    """The mean of F features, a matrix (d, d) for each of their G groups, and the number of measured rows.

    The matrix is the whitening matrix or the biased covariance; see the field ``running`` of the specs.
    """

    mean: Float[Array, " F"]
    matrix: Float[Array, "G d d"]
    count: Float[Array, "..."]  # type: ignore[assignment]  # shadows tuple.count, which nobody calls here


class WhiteningSpec(HasFeatureAxis, HasEpsilon, HasAffine, HasAxisName, TrainsByMeasuring, abstract=True):
    """Parameters, statistics and checks of both specs.

    Attributes:
      momentum: weight of the old running statistics; the published code has 0.9.
    """

    passed = ("where", "stats")
    statistics = "stats"
    feature_axis: int = DEFAULT
    epsilon: float = DEFAULT
    momentum: float = 0.9
    running: Running = DEFAULT

    def __post_init__(self) -> None:
        spec: Any = self
        name = type(self).__name__
        if spec.group_size is not None:
            validate.positive_int(name, "group_size", spec.group_size)
        super().__post_init__()
        validate.in_range(name, "momentum", self.momentum, 0.0, 1.0)
        validate.choice(name, "running", self.running, ("matrix", "covariance"))

    def initial_stats(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Stats:
        """Mean 0, the identity matrix for each group, count 0."""
        spec: Any = self
        features = shape[0]
        size = spec.group_size or features
        matrix = jnp.broadcast_to(jnp.eye(size, dtype=dtype), (features // size, size, size))
        return WhiteningStats(jnp.zeros(features, dtype), matrix, jnp.zeros((), dtype))

    def update_running(self, running: Stats, measured: Stats) -> Stats:
        """Moves the running statistics toward the measured ones, if any; there are no rows for time steps."""
        weight = 1.0 - self.momentum
        mean, matrix, n = map(to_running, measured, running)
        by_group = jnp.broadcast_to(n, (matrix.shape[0],)) > 0
        seen = jnp.repeat(by_group, matrix.shape[-1])
        return WhiteningStats(
            jnp.where(seen, toward(running.mean, mean, weight), running.mean),
            jnp.where(spread(by_group, matrix), toward(running.matrix, matrix, weight), running.matrix),
            running.count + jnp.max(n),
        )

    def check_site(self, caller: str) -> None:
        """Rejects every site: matrices between features have no layout by gates and time steps."""
        raise ValueError(
            f"{caller}: {self!r} cannot be used inside a cell, whose statistics have gates, features and time steps, "
            "not matrices. Use BatchNorm()."
        )


def whiten(
    name: str,
    x: Float[Array, "..."],
    scale: Float[Array, " F"] | None,
    bias: Float[Array, " F"] | None,
    stats: WhiteningStats | None,
    inverse_root: Callable[[Array], Array],
    *,
    group_size: int | None,
    feature_axis: int,
    epsilon: float,
    running: Running,
    where: Bool[Array, "..."] | None,
    axis_name: NamedAxes | None,
) -> tuple[Float[Array, "..."], WhiteningStats]:
    """Subtracts the mean and multiplies by ``inverse_root(covariance + epsilon)``, both measured or given."""
    validate.floating(name, "x", x)
    validate.epsilon(name, epsilon)
    validate.choice(name, "running", running, ("matrix", "covariance"))
    feature = validate.one_axis(name, feature_axis, x.ndim, "feature_axis")
    mask = full_mask(name, x, where)
    features = x.shape[feature]
    size = features if group_size is None else validate.positive_int(name, "group_size", group_size)
    if features % size:
        raise ValueError(
            f"{name}: group_size={size} must divide the number of features F = {features} (axis {feature_axis} of x "
            f"with shape {x.shape}). Choose a divisor of F."
        )
    groups = features // size
    data = masked(x.astype(statistics_dtype(x.dtype)), mask)
    moved = jnp.moveaxis(data, feature, -1)
    rows = moved.reshape(-1, groups, size)
    real = None if mask is None else _whole_rows(jnp.moveaxis(mask, feature, -1), moved.shape, groups)
    rows = masked(rows, real)
    if stats is None:
        mean, rows, count = centered(rows, real, (0,), axis_name)
        covariance = _covariance(rows, count, axis_name)
        covariance = covariance + epsilon * jnp.eye(size, dtype=covariance.dtype)[None]
        matrix = inverse_root(covariance)
        stats = WhiteningStats(
            mean.reshape(features), matrix if running == "matrix" else covariance, count.reshape(count.shape[1:2])
        )
        if count.size == 1:
            stats = stats._replace(count=count.reshape(()))
    else:
        validate.shape(
            name, "stats.matrix", stats.matrix.shape, (groups, size, size), "(G, d, d)", "Same features and groups?"
        )
        mean = stats.mean.astype(rows.dtype).reshape(1, groups, size)
        matrix = stats.matrix.astype(rows.dtype)
        matrix = matrix if running == "matrix" else inverse_root(matrix)
        rows = masked(rows - mean, real)
    y = jnp.einsum("ngi,gij->ngj", rows, matrix, precision=lax.Precision.HIGHEST)
    y = jnp.moveaxis(y.reshape(moved.shape), -1, feature)
    y = apply_affine(name, y, scale, bias, (feature,))
    if real is not None:
        kept = jnp.broadcast_to(real, rows.shape).reshape(moved.shape)
        y = masked(y, jnp.moveaxis(kept, -1, feature))
    return y.astype(x.dtype), stats


def _whole_rows(mask: Array, shape: tuple[int, ...], groups: int) -> Array:
    """Makes a mask (N, G or 1, 1): a row of a group is real if all its features are real."""
    if mask.shape[-1] == 1:
        return jnp.broadcast_to(mask, (*shape[:-1], 1)).reshape(-1, 1, 1)
    whole = jnp.broadcast_to(mask, shape).reshape(-1, groups, shape[-1] // groups)
    return jnp.all(whole, axis=-1, keepdims=True)


def _covariance(deviation: Array, count: Array, axis_name: NamedAxes | None) -> Array:
    """The biased covariance (G, d, d) of centered rows."""
    products = jnp.einsum("ngi,ngj->gij", deviation, deviation, precision=lax.Precision.HIGHEST)
    return average(across(products, axis_name), count[0][..., None])
