"""Batch normalization."""

import dataclasses
from typing import final

from jaxnorm import _validate
from jaxnorm._typing import Array, Axis, AxisName, Bool, Float
from jaxnorm.norms import base
from jaxnorm.norms.base import Params, Stats
from jaxnorm.norms.core.batch_base import BatchSpec
from jaxnorm.norms.core.moments import Moments, aligned_affine, feature_last_axes, full_mask, masked, normalize
from jaxnorm.norms.core.reduction import Extent
from jaxnorm.norms.core.standardize import standardize_batch


def batch_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    moments: Moments | None = None,
    axis: Axis | None = None,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
) -> tuple[Float[Array, "..."], Moments]:
    r"""Normalizes each feature over the batch, or by given statistics.

    .. math::
       \mu = \frac1m \sum_i x_i, \qquad \sigma^2 = \frac1m \sum_i (x_i - \mu)^2, \qquad
       y = \text{scale} \cdot \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \text{bias}

    where i runs over the m elements of ``axis`` (over those with ``where`` True only, and over all members of
    ``axis_name``). In training leave ``moments`` out: the gradient flows through the batch statistics, nothing is
    updated, and what was measured is returned for :func:`jaxnorm.fold`. For inference pass running or population
    statistics as ``moments``.

    Args:
      x: data of any shape.
      scale: one factor for each feature: an array with the shape of ``x`` along the axes that are kept (or the last
        of them), or with as many axes as ``x`` (conditional normalization). None means one.
      bias: summand, shaped like ``scale``. None means zero.
      moments: statistics to normalize with; None measures them from ``x``.
      axis: the axes over which statistics are taken; None means all but the last.
      epsilon: added to the variance, inside the root.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.
      axis_name: name or names of mapped axes (``vmap``, ``shard_map``) that the batch spans; members may hold
        different numbers of real elements, also none.

    Returns:
      The normalized array, in shape and dtype like ``x`` (the arithmetic is done in at least float32), and the
      Moments that were measured, or those that were passed in.

    Raises:
      TypeError: an array is not floating, or ``where`` not boolean.
      ValueError: shapes do not fit, an axis is out of range, or ``axis_name`` is not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> y, measured = jaxnorm.batch_norm(jnp.array([[1.0], [3.0]]), epsilon=0.0)
      >>> y.tolist(), measured.mean.tolist(), measured.var.tolist()
      ([[-1.0], [1.0]], [2.0], [1.0])

    Notes:
      A constant feature and a batch of one give ``bias``, a batch without a real element gives zero, with
      finite gradients. With ``epsilon=0`` that is so in training, the gradient of x being zero there; with a variance
      of zero among ``moments`` it is 0/0. A gradient keeps x, the statistics and the scale.

    Reference:
      S. Ioffe, C. Szegedy, "Batch Normalization", 2015, arXiv:1502.03167, Algorithm 1.
    """
    _validate.floating("batch_norm", "x", x)
    _validate.epsilon("batch_norm", epsilon)
    axes = feature_last_axes("batch_norm", axis, x.ndim)
    mask = full_mask("batch_norm", x, where)
    if moments is not None:
        y = normalize(masked(x, mask), moments, scale, bias, axis=axes, epsilon=epsilon)
        return masked(y, mask), moments
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    affine = aligned_affine("batch_norm", scale, bias, x, kept)
    y, measured = standardize_batch(x, Extent(axes, axis_name), *affine, where=mask, epsilon=epsilon)
    return y.astype(x.dtype), measured


@final
@dataclasses.dataclass(frozen=True)
class BatchNorm(BatchSpec):
    r"""The spec of :func:`batch_norm`, with the rule by which its running statistics move.

    Attributes:
      axis: the axes over which statistics are taken; None means all but the last. Scale, bias and running statistics
        have the shape of the data along the others.
      epsilon: added to the variance, inside the root.
      momentum: weight of the old running statistics, as in Flax (0.9 here is PyTorch's 0.1); None for the exact
        average over everything seen.
      ddof: 0 folds the biased variance (Flax, Keras), 1 the one corrected by m/(m-1) (PyTorch).
      debias: whether new values weigh at least their share of all that was seen, so that the start values 0 and 1 leave
        with the first batch, see :func:`jaxnorm.fold`. The presets of cells have it.
      use_scale: whether there is a scale.
      use_bias: whether there is a bias.
      scale_init: initial value of the scale.
      bias_init: initial value of the bias.
      axis_name: name or names of mapped axes that the batch spans.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.BatchNorm(momentum=0.5)
      >>> params, running = norm.init((1,)), norm.initial_stats((1,))
      >>> y, measured = norm(params, jnp.array([[1.0], [3.0]]))  # training: measures
      >>> running = norm.fold(running, measured)  # after the step
      >>> y, _ = norm(params, jnp.array([[1.0], [3.0]]), running)  # inference: uses
      >>> y.round(2).tolist()
      [[0.0], [2.0]]

    Notes:
      The defaults are those of Flax, so that running statistics move as they do there, and, with ``ddof=1``, as in
      PyTorch: after k batches the start values still have the weight 0.99\ :sup:`k`. ``momentum=0.9, debias=True`` is
      what the presets of cells take.
    """

    axis: Axis | None = None
    _: dataclasses.KW_ONLY
    epsilon: float = 1e-5
    momentum: float | None = 0.99
    ddof: int = 0
    debias: bool = False
    use_scale: bool = True
    use_bias: bool = True
    scale_init: float = 1.0
    bias_init: float = 0.0
    axis_name: AxisName | None = None

    def __call__(
        self,
        params: Params,
        x: Float[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Applies :func:`batch_norm`; returns the output and the measured (or the given) Moments."""
        scale, bias = base.affine_of(params, "BatchNorm")
        return batch_norm(
            x,
            scale,
            bias,
            moments=stats,
            axis=self.axis,
            epsilon=self.epsilon,
            where=where,
            axis_name=self.axis_name,
        )
