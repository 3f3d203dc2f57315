"""Batch normalization of whole sequences: statistics of each time step, or of all real steps together."""

from dataclasses import field
from typing import final

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.typing import AnyArray, Array, AxisIndexGroups, AxisName, Bool, DTypeLike, Float, Int, Integer, Real
from jaxnorm.norms.affine_norm import HasAxisName
from jaxnorm.norms.base import Stats
from jaxnorm.norms.batch_norm import batch_norm
from jaxnorm.norms.core.batch_base import BatchSpec
from jaxnorm.norms.core.moments import Moments, apply_affine, full_mask, masked, normalize
from jaxnorm.norms.core.named_axes import named_axes
from jaxnorm.norms.core.reduction import Reduction
from jaxnorm.norms.core.rows import lay_in_order
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.norms.core.standardize import Standardization, standardize_batch

__all__ = ["FrameWiseBatchNorm", "frame_wise_batch_norm", "sequence_wise_batch_norm"]


def frame_wise_batch_norm(
    xs: Real[Array, "T *B F"],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    moments: Moments | None = None,
    start: int | Int[Array, ""] = 0,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> tuple[Float[Array, "T *B F"], Moments]:
    r"""Normalizes each feature of each time step over the batch; all steps share scale and bias.

    .. math::
       \mu_{t,k} = \frac1m \sum_i x_{t,i,k}, \qquad \sigma^2_{t,k} = \frac1m \sum_i (x_{t,i,k} - \mu_{t,k})^2, \qquad
       y_{t,i,k} = \text{scale}_k \frac{x_{t,i,k} - \mu_{t,k}}{\sqrt{\sigma_{t,k}^2 + \epsilon}} + \text{bias}_k

    Args:
      xs: sequences, time first and features last.
      scale: one factor for each feature, or an array with as many axes as ``xs``. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      moments: statistics to normalize with, one row per step; all later steps use the last row. None measures them.
      start: index of the first step within its sequence; use it with ``moments`` and a sequence in pieces.
      epsilon: added to the variance, inside the root.
      where: True on real data, broadcastable to ``xs``: ``(t < lengths)[:, :, None]`` for padded batches. Masked
        elements may hold anything, NaN included; they reach neither statistics, outputs nor gradients, and the output
        is zero there.
      axis_name: name or names of mapped axes that the batch spans.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      The normalized array, in shape and dtype like ``xs`` (the arithmetic is done in at least float32), and the
      measured Moments, one row per step, or the Moments that were passed in.

    Raises:
      TypeError: ``xs`` is not real, another array not floating, or ``where`` not boolean.
      ValueError: shapes do not fit, or ``axis_name`` is not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> xs = jnp.array([[[1.0], [3.0]], [[10.0], [30.0]]])  # two steps of a batch of two
      >>> ys, rows = jaxnorm.zoo.frame_wise_batch_norm(xs, epsilon=0.0)
      >>> ys[:, :, 0].tolist(), rows.mean.tolist()
      ([[-1.0, 1.0], [-1.0, 1.0]], [[2.0], [20.0]])

    Notes:
      No step depends on a later one, as language models need. A step that no sequence reaches has count zero.

    Reference:
      C. Laurent, G. Pereyra, P. Brakel, Y. Zhang, Y. Bengio, "Batch Normalized Recurrent Neural Networks", 2015,
      arXiv:1510.01378, frame-wise normalization.
    """
    xs = validate.real("frame_wise_batch_norm", "xs", xs)
    validate.epsilon("frame_wise_batch_norm", epsilon)
    named = named_axes("frame_wise_batch_norm", axis_name, axis_index_groups)
    if xs.ndim < 2:
        raise ValueError(
            f"frame_wise_batch_norm: xs must have a time and a feature axis, (T, *B, F), got shape {xs.shape}."
        )
    mask = full_mask("frame_wise_batch_norm", xs, where)
    if moments is None:

        def each(x_t: Array, where_t: Array | None) -> tuple[Array, Moments]:
            rule = Standardization(Reduction(tuple(range(x_t.ndim - 1)), named), epsilon)
            return standardize_batch(rule, x_t, where=where_t)

        every = None if mask is None else jnp.broadcast_to(mask, (xs.shape[0], *mask.shape[1:]))
        y, measured = jax.vmap(each)(xs, every)
        y = apply_affine("frame_wise_batch_norm", y, scale, bias, (0, xs.ndim - 1))
        return masked(y, mask).astype(xs.dtype), measured
    step = jnp.asarray(start, jnp.int32) + jnp.arange(xs.shape[0], dtype=jnp.int32)
    row = jnp.minimum(step, moments.mean.shape[0] - 1)
    rows = Moments(moments.mean[row], moments.var[row], moments.count[row])
    y = normalize(masked(xs, mask), rows, scale, bias, axis=tuple(range(1, xs.ndim - 1)), epsilon=epsilon)
    return masked(y, mask), moments


def sequence_wise_batch_norm(
    xs: Real[Array, "T *B F"],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    lengths: Integer[AnyArray, "*B"],
    moments: Moments | None = None,
    epsilon: float = 1e-5,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> tuple[Float[Array, "T *B F"], Moments]:
    r"""Normalizes each feature over all real steps of all sequences together.

    .. math::
       n = \sum_i T_i, \qquad \mu_k = \frac1n \sum_i \sum_{t < T_i} x_{t,i,k}, \qquad
       \sigma^2_k = \frac1n \sum_i \sum_{t < T_i} (x_{t,i,k} - \mu_k)^2

    It is :func:`jaxnorm.batch_norm` with the mask ``t < lengths``. As a spec use ``BatchNorm()``, and call it with this
    mask as ``where``.

    Args:
      xs: padded sequences, time first and features last.
      scale: one factor for each feature. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      lengths: the number of real steps of each sequence; later steps are padding and may hold anything.
      moments: statistics to normalize with; None measures them from ``xs``.
      epsilon: added to the variance, inside the root; code from the authors' group has 1e-6.
      axis_name: name or names of mapped axes that the batch spans.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      The normalized array, zero in the padding, and the Moments that were measured or passed in.

    Raises:
      TypeError: ``xs`` is not real, another array not floating.
      ValueError: shapes do not fit, or ``axis_name`` is not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> xs = jnp.array([[[1.0], [3.0]], [[5.0], [99.0]]])  # the second sequence has one step
      >>> ys, measured = jaxnorm.zoo.sequence_wise_batch_norm(xs, lengths=jnp.array([2, 1]))
      >>> measured.mean.tolist(), measured.count.tolist(), ys[1, 1].tolist()
      ([3.0], 3.0, [0.0])

    Reference:
      C. Laurent, G. Pereyra, P. Brakel, Y. Zhang, Y. Bengio, "Batch Normalized Recurrent Neural Networks", 2015,
      arXiv:1510.01378, sequence-wise normalization.
    """
    xs = validate.real("sequence_wise_batch_norm", "xs", xs)
    hint = "lengths has the batch axes of xs."
    validate.shape("sequence_wise_batch_norm", "lengths", lengths.shape, xs.shape[1:-1], "(*B)", hint)
    time = jnp.arange(xs.shape[0], dtype=lengths.dtype).reshape(-1, *(1,) * lengths.ndim)
    where = (time < lengths[None])[..., None]
    return batch_norm(
        xs,
        scale,
        bias,
        moments=moments,
        epsilon=epsilon,
        where=where,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
    )


@final
class FrameWiseBatchNorm(BatchSpec, HasAxisName):
    """The spec of :func:`frame_wise_batch_norm`; its fields are its keywords, and those of its update rule.

    Attributes:
      max_steps: number of rows of running statistics; all later steps use the last one.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.FrameWiseBatchNorm(max_steps=2, momentum=0.0)
      >>> xs = jnp.array([[[1.0], [3.0]], [[10.0], [30.0]]])  # time, batch, features
      >>> ys, rows = norm(norm.init((1,)), xs)
      >>> norm.update_running(norm.initial_stats((1,)), rows).mean.tolist()
      [[2.0], [20.0]]

    Note:
      In a cell, a site does the same: the input site of ``bn_lstm(H, max_steps=...)``, or ``BatchNorm()``.
    """

    function = staticmethod(frame_wise_batch_norm)
    passed = ("where", "moments", "start")
    max_steps: int = field(kw_only=False)
    epsilon: float = DEFAULT
    momentum: float | None = DEFAULT
    ddof: int = DEFAULT
    debias: bool = DEFAULT

    def __post_init__(self) -> None:
        super().__post_init__()
        validate.positive_int("FrameWiseBatchNorm", "max_steps", self.max_steps)

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The number of features."""
        return shape[-1:]

    def initial_stats(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Stats:
        """Mean 0, variance 1, count 0, in ``max_steps`` rows."""
        return self.initial_moments((self.max_steps, *shape), dtype, (self.max_steps,))

    def update_running(self, running: Stats, measured: Stats) -> Stats:
        """Applies :func:`jaxnorm.update_running`, step t to row t; the last row pools all later steps."""
        return super().update_running(running, lay_in_order(measured, self.max_steps))

    def check_site(self, caller: str) -> None:
        """Rejects every site: a cell sees one step at a time, and keeps per-step statistics itself."""
        raise ValueError(
            f"{caller}: {self!r} cannot be used inside a cell. Use BatchNorm(), and the cell's max_steps for "
            "statistics of each time step."
        )
