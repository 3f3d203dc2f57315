"""Batch normalization with a scale and a bias for each class."""

import dataclasses
from typing import final

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Axis, AxisIndexGroups, AxisName, Bool, DTypeLike, Float, Integer
from jaxnorm.norms import base
from jaxnorm.norms.base import Key, Params, Stats
from jaxnorm.norms.batch_norm import BatchNorm, batch_norm
from jaxnorm.norms.core.axes import batch_axes
from jaxnorm.norms.core.moments import Moments
from jaxnorm.norms.core.spec import keywords_of

__all__ = ["ConditionalBatchNorm", "conditional_batch_norm"]


def conditional_batch_norm(
    x: Float[Array, "..."],
    labels: Integer[Array, "..."],
    scale: Float[Array, "K ..."] | None = None,
    bias: Float[Array, "K ..."] | None = None,
    *,
    moments: Moments | None = None,
    axis: Axis | None = None,
    feature_axis: Axis | None = None,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> tuple[Float[Array, "..."], Moments]:
    r"""Normalizes each feature over the batch, then scales and shifts each example by the row of its class.

    .. math:: y_i = \text{scale}_{c(i)} \cdot \frac{x_i - \mu}{\sqrt{\sigma^2 + \epsilon}} + \text{bias}_{c(i)}

    The statistics are the ones of :func:`jaxnorm.batch_norm`, over all classes together. If your scales and biases are
    not rows of a table, but for example outputs of a network, pass them to :func:`jaxnorm.batch_norm` itself, as arrays
    with as many axes as ``x``.

    Args:
      x: data; its leading axes are the axes of ``labels``.
      labels: class of each example, from 0 to K - 1 (others are clipped); its axes are the leading axes of ``x``.
      scale: a table with one row of factors for each of the K classes; a row has the shape of ``x`` along the axes that
        are not reduced. None means one.
      bias: a table of summands, shaped like ``scale``. None means zero.
      moments: statistics to normalize with; None measures them from ``x``.
      axis: the axes to reduce; None means all but ``feature_axis``.
      feature_axis: the axes that are not reduced, in place of ``axis``; None means the last.
      epsilon: added to the variance, inside the root.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.
      axis_name: name or names of mapped axes that the batch spans.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      The normalized array, in shape and dtype like ``x`` (the arithmetic is done in at least float32), and the
      Moments that were measured or passed in.

    Raises:
      TypeError: an array is not floating, ``labels`` not of integers, or ``where`` not boolean.
      ValueError: shapes do not fit, or ``axis_name`` is not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> x, labels = jnp.array([[1.0], [3.0]]), jnp.array([1, 0])
      >>> y, _ = jaxnorm.zoo.conditional_batch_norm(x, labels, jnp.array([[5.0], [2.0]]), epsilon=0.0)
      >>> y.tolist()
      [[-2.0], [5.0]]

    Reference:
      H. de Vries et al., "Modulating early visual processing by language", 2017, arXiv:1707.00683. In their
      form a table changes a scale of one and a bias of zero: ``scale=1 + table``. The rows for classes come from
      V. Dumoulin et al. 2017, who use them for instance normalization.
    """
    validate.floating("conditional_batch_norm", "x", x)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"conditional_batch_norm: labels must be integers, got {labels.dtype}. Pass class numbers from 0 to K - 1."
        )
    validate.shape(
        "conditional_batch_norm",
        "labels",
        labels.shape,
        x.shape[: labels.ndim],
        "the first axes of x",
        "Give one class for each example.",
    )
    axes = batch_axes("conditional_batch_norm", x.ndim, axis, feature_axis)
    if any(a not in axes for a in range(labels.ndim)):
        raise ValueError(
            f"conditional_batch_norm: labels with {labels.ndim} axes reach features of x, whose statistics are taken "
            f"over axes {axes}. Its axes are those of the examples, which come first and are reduced."
        )
    kept_shape = tuple(size for a, size in enumerate(x.shape) if a not in axes)

    def rows(name: str, table: Array | None) -> Array | None:
        if table is None:
            return None
        hint = "A table has a row for each class."
        validate.shape("conditional_batch_norm", name, table.shape[1:], kept_shape, "(features)", hint)
        shape = tuple(size if a < labels.ndim or a not in axes else 1 for a, size in enumerate(x.shape))
        return table.at[labels].get(mode="clip").reshape(shape)

    return batch_norm(
        x,
        rows("scale[0]", scale),
        rows("bias[0]", bias),
        moments=moments,
        axis=axes,
        epsilon=epsilon,
        where=where,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
    )


@final
@dataclasses.dataclass(frozen=True)
class ConditionalBatchNorm:
    """The spec of :func:`conditional_batch_norm`. Its call takes labels, so it is not a ``Normalizer`` for a site.

    Attributes:
      num_classes: number of classes, and of rows of scale and bias.
      norm: the batch normalization; its options, including the initial scale and bias, apply to every class.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.ConditionalBatchNorm(10, jaxnorm.BatchNorm(momentum=0.9, epsilon=2e-5))
      >>> params, running = norm.init((4,)), norm.initial_stats((4,))
      >>> y, measured = norm(params, jnp.ones((3, 4)), jnp.array([7, 0, 7]))
      >>> running = norm.update_running(running, measured)
      >>> params.scale.shape, y.shape, running.mean.shape
      ((10, 4), (3, 4), (4,))

    Note:
      Epsilon and momentum of the example come from published code for classes. In a Flax module, use
      ``Norm(BatchNorm(use_scale=False, use_bias=False))`` and scale by an embedding of the labels.
    """

    num_classes: int
    norm: BatchNorm = BatchNorm()

    def __post_init__(self) -> None:
        validate.positive_int("ConditionalBatchNorm", "num_classes", self.num_classes)

    def init(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32, *, key: Key | None = None) -> Params:
        """``Affine(scale, bias)``: tables with a row of the given shape for each class."""
        one = self.norm.init(shape, dtype, key=key)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.num_classes, *leaf.shape)), one)

    def initial_stats(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Stats:
        """The initial statistics of the batch normalization: mean 0, variance 1, count 0."""
        return self.norm.initial_stats(shape, dtype)

    def __call__(
        self,
        params: Params,
        x: Float[Array, "..."],
        labels: Integer[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Applies :func:`conditional_batch_norm`; returns the output and the measured (or given) Moments."""
        scale, bias = base.affine_of(params, "ConditionalBatchNorm")
        options = keywords_of(self.norm, conditional_batch_norm)
        return conditional_batch_norm(x, labels, scale, bias, moments=stats, where=where, **options)

    def update_running(self, running: Stats, measured: Stats) -> Stats:
        """Updates the statistics by the rule of the batch normalization."""
        return self.norm.update_running(running, measured)
