"""Batch normalization with moving averages, in training too."""

from dataclasses import field
from typing import final

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Axis, AxisIndexGroups, AxisName, Bool, Float
from jaxnorm.norms.affine_norm import HasAxisName
from jaxnorm.norms.core import moments as statistics
from jaxnorm.norms.core.axes import batch_axes, refuse_reduced
from jaxnorm.norms.core.moments import (
    Moments,
    align,
    full_mask,
    masked,
    normalize,
    spread,
    statistics_dtype,
)
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.zoo.norms.batch._running_in_training import RunningInTraining

__all__ = ["MomentumBatchNorm", "momentum_batch_norm"]


def momentum_batch_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    running: Moments,
    momentum: float = 0.9,
    through_batch: bool = True,
    axis: Axis | None = None,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> tuple[Float[Array, "..."], Moments]:
    r"""Normalizes each feature with moving averages that include this batch.

    .. math::
       \mu = b \, \mu_r + (1 - b) \, \mu_B, \qquad \sigma^2 = b \, \sigma^2_r + (1 - b) \, \sigma^2_B, \qquad
       y = \text{scale} \cdot \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \text{bias}

    with running statistics r, statistics B of the batch and momentum b. These are the averages that
    :func:`jaxnorm.update_running` computes. For separate statistics of each time step of sequences (T, B, F), use
    ``axis=1`` and running statistics of shape (T, F).

    Args:
      x: data of any shape.
      scale: one factor for each feature, as in :func:`jaxnorm.batch_norm`. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      running: running statistics before this batch; no gradient flows into them.
      momentum: weight of the running statistics.
      through_batch: whether the gradient flows through the batch statistics; otherwise they are constants.
      axis: the axes to reduce; None means all but the last.
      epsilon: added to the variance, inside the root.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.
      axis_name: name or names of mapped axes that the batch spans.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      The normalized array, in shape and dtype like ``x`` (the arithmetic is done in at least float32), and the
      Moments of the batch. Update the running statistics with the same momentum.

    Raises:
      TypeError: an array is not floating, or ``where`` not boolean.
      ValueError: momentum is out of range, shapes do not fit, or ``axis_name`` is not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> running = jaxnorm.Moments(jnp.array([4.0]), jnp.array([3.0]), jnp.array(2.0))
      >>> x = jnp.array([[1.0], [3.0]])  # mean 2, variance 1: the averages are 3 and 2
      >>> y, measured = jaxnorm.zoo.momentum_batch_norm(x, running=running, momentum=0.5, epsilon=0.0)
      >>> y[:, 0].round(3), measured.mean.tolist()
      (Array([-1.414,  0.   ], dtype=float32), [2.0])

    Notes:
      Squares overflow float32 if data are more than about 1e19 away from their mean.
      With momentum 0 it is batch normalization, and with 1 it is inference. If nothing is measured, only the running
      statistics count.

    Reference:
      S. Glinskis, "Final Project", 2017, a course report: character models with moving averages, b = 0.9. That
      training used these averages is our conclusion from the losses in the report. For averages in inference only, use
      ``BatchNorm(momentum=0.9)``; in cells it has them for each step too.
    """
    validate.floating("momentum_batch_norm", "x", x)
    validate.epsilon("momentum_batch_norm", epsilon)
    validate.in_range("momentum_batch_norm", "momentum", momentum, 0.0, 1.0)
    axes = batch_axes("momentum_batch_norm", x.ndim, axis)
    refuse_reduced("momentum_batch_norm", x.shape, axis, axes, scale=scale, bias=bias)
    mask = full_mask("momentum_batch_norm", x, where)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    running = Moments(*(lax.stop_gradient(leaf).astype(statistics_dtype(x.dtype)) for leaf in running))
    old_mean = align(running.mean, x.ndim, kept)
    validate.broadcastable("momentum_batch_norm", "running.mean", old_mean.shape, x.shape)
    # We work relative to the running mean: a mean far from zero loses digits, the distance of two means does not.
    data = masked(x.astype(old_mean.dtype) - old_mean, mask)
    moved = statistics.moments(data, axis=axes, where=mask, axis_name=axis_name, axis_index_groups=axis_index_groups)
    seen = jnp.broadcast_to(spread(moved.count, moved.mean) > 0, moved.mean.shape)
    measured = moved._replace(mean=jnp.where(seen, running.mean + moved.mean, 0.0))
    batch = moved if through_batch else jax.tree.map(lax.stop_gradient, moved)
    mixed = Moments(
        (1.0 - momentum) * batch.mean,
        jnp.where(seen, momentum * running.var + (1.0 - momentum) * batch.var, running.var),
        batch.count,
    )
    y = normalize(data, mixed, scale, bias, axis=axes, epsilon=epsilon)
    return masked(y, mask).astype(x.dtype), measured


@final
class MomentumBatchNorm(RunningInTraining, HasAxisName):
    """The spec of :func:`momentum_batch_norm`; it uses running statistics in training, so call ``train``.

    Attributes:
      momentum: weight of the old running statistics, in training and in ``update_running``.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.MomentumBatchNorm(momentum=0.5)
      >>> params, running = norm.init((1,)), norm.initial_stats((1,))
      >>> x = jnp.array([[1.0], [3.0]])
      >>> y, measured = norm.train(params, x, running)
      >>> running = norm.update_running(running, measured)
      >>> bool(jnp.allclose(y, norm(params, x, running)[0]))  # training used these averages
      True
    """

    function = staticmethod(momentum_batch_norm)
    axis: Axis | None = field(default=DEFAULT, kw_only=False)
    epsilon: float = DEFAULT
    momentum: float = DEFAULT
    through_batch: bool = DEFAULT

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.momentum is None:
            raise ValueError(
                "MomentumBatchNorm: momentum must be a number in [0.0, 1.0], got None. The report has 0.9."
            )
