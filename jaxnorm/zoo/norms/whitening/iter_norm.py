"""IterNorm: whitening by Newton's iteration."""

import operator
from dataclasses import field
from functools import partial
from typing import final

import jax.numpy as jnp
from jax import lax

from jaxnorm._base.typing import Array, AxisIndexGroups, AxisName, Bool, Float
from jaxnorm.norms.core.named_axes import named_axes
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.zoo.norms.whitening import _whitening
from jaxnorm.zoo.norms.whitening._whitening import Running, WhiteningSpec, WhiteningStats

__all__ = ["IterNorm", "iter_norm"]


def iter_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    stats: WhiteningStats | None = None,
    group_size: int | None = None,
    iterations: int = 5,
    feature_axis: int = -1,
    epsilon: float = 1e-5,
    running: Running = "matrix",
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> tuple[Float[Array, "..."], WhiteningStats]:
    r"""Removes most of the correlations between features over the batch, with a few Newton iterations.

    .. math:: \Sigma = \frac1m \sum_n (x_n - \mu)(x_n - \mu)^\top + \epsilon I, \qquad
       \Sigma_N = \Sigma / \mathrm{tr}\,\Sigma, \qquad P_0 = I, \qquad
       P_k = \tfrac12 (3 P_{k-1} - P_{k-1}^3 \Sigma_N)

    .. math:: y_n = \text{scale} \cdot \frac{P_T}{\sqrt{\mathrm{tr}\,\Sigma}} (x_n - \mu) + \text{bias}

    The matrix tends to the one of :func:`decorrelated_batch_norm` as T grows, and needs only matrix products. In
    training omit ``stats``: the gradient flows through mean and covariance.

    Args:
      x: data of any shape; all axes but the feature axis are the batch.
      scale: one factor per feature, or an array with as many axes as ``x``. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      stats: statistics to normalize with; None measures them from ``x``.
      group_size: d, the number of consecutive features to whiten together, a divisor of F; None means all.
      iterations: T; 0 only divides by the root of the trace.
      feature_axis: the feature axis.
      epsilon: added to the variances (the diagonal of the covariance).
      running: whether the statistics hold the whitening matrix, as published, or the covariance.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients. A row of a group counts as real if all its features are real;
        the output is zero in all other rows.
      axis_name: name or names of mapped axes (``vmap``, ``shard_map``) that the batch spans.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      The whitened array, in shape and dtype like ``x`` (the arithmetic is done in at least float32), and the
      measured statistics, or the ones that were passed in.

    Raises:
      TypeError: an array is not floating, or ``where`` not boolean.
      ValueError: ``group_size`` does not divide the features, shapes do not fit, or ``axis_name`` is not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm, numpy as np
      >>> x = jnp.array([[2.0, 2.0], [-2.0, -2.0], [1.0, -1.0], [-1.0, 1.0]])
      >>> y, measured = jaxnorm.zoo.iter_norm(x, iterations=9)
      >>> np.asarray(y.T @ y / 4).round(3) + 0.0  # their covariance
      array([[1., 0.],
             [0., 1.]], dtype=float32)

    Notes:
      Squares overflow float32 if data are more than about 1e19 away from their mean.
      The published T = 5 does not whiten fully: directions of small variance stay below one. Many more iterations do
      not help: if variances differ by orders of magnitude, the iteration finally diverges in finite precision. Constant
      features, a batch of one and an empty batch have finite values and gradients. The published code adds epsilon in
      its layer for images but forgets it in its layer for vectors; to match the latter, pass 0.

    Reference:
      L. Huang, Y. Zhou, F. Zhu, L. Liu, L. Shao, "Iterative Normalization", 2019, arXiv:1904.03441.
    """
    named = named_axes("iter_norm", axis_name, axis_index_groups)
    return _whitening.whiten(
        "iter_norm",
        x,
        scale,
        bias,
        stats,
        partial(_inverse_root, _iterations("iter_norm", iterations)),
        group_size=group_size,
        feature_axis=feature_axis,
        epsilon=epsilon,
        running=running,
        where=where,
        axis_name=named,
    )


def _iterations(caller: str, iterations: int) -> int:
    number = operator.index(iterations)
    if number < 0:
        raise ValueError(f"{caller}: iterations must be zero or more, got {iterations!r}. The published number is 5.")
    return number


def _inverse_root(iterations: int, covariance: Float[Array, "G d d"]) -> Float[Array, "G d d"]:
    def product(a: Array, b: Array) -> Array:
        result: Array = jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
        return result

    trace = jnp.trace(covariance, axis1=-2, axis2=-1)[..., None, None]
    # Without epsilon a constant group has trace zero, and nothing to whiten; its output is zero.
    nothing = trace == 0
    trace = jnp.where(nothing, jnp.ones((), trace.dtype), trace)
    normalized = covariance / trace
    p = jnp.broadcast_to(jnp.eye(covariance.shape[-1], dtype=covariance.dtype), covariance.shape)
    for _ in range(iterations):
        p = 1.5 * p - 0.5 * product(product(product(p, p), p), normalized)
    return p * jnp.where(nothing, 0.0, lax.rsqrt(trace))


@final
class IterNorm(WhiteningSpec):
    """The spec of :func:`iter_norm`; its fields are its keywords, and the momentum of running statistics.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.IterNorm(2, momentum=0.5)
      >>> params, running = norm.init((4,)), norm.initial_stats((4,))
      >>> y, measured = norm(params, jnp.ones((3, 4)))
      >>> norm.update_running(running, measured).mean.tolist(), running.matrix.shape
      ([0.5, 0.5, 0.5, 0.5], (2, 2, 2))
    """

    function = staticmethod(iter_norm)
    group_size: int | None = field(default=DEFAULT, kw_only=False)
    iterations: int = DEFAULT

    def __post_init__(self) -> None:
        super().__post_init__()
        _iterations("IterNorm", self.iterations)
