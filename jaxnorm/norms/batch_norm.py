"""Batch normalization."""

from collections.abc import Callable
from dataclasses import field, replace
from functools import partial
from typing import Any, final

from jaxnorm._base import norm_keywords, validate
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.typing import Array, Axis, AxisIndexGroups, AxisName, Bool, Float, Real
from jaxnorm.norms.affine_norm import HasAxisName
from jaxnorm.norms.base import Params, Stats
from jaxnorm.norms.core.axes import batch_axes, refuse_reduced
from jaxnorm.norms.core.batch_base import BatchSpec
from jaxnorm.norms.core.moments import Moments, aligned_affine, full_mask, masked, normalize
from jaxnorm.norms.core.named_axes import named_axes
from jaxnorm.norms.core.reduction import Reduction
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.norms.core.standardize import Standardization, standardize_again, standardize_and_keep, standardize_batch


@answers_keywords(norm_keywords.BATCH_NORM)
def batch_norm(
    x: Real[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    moments: Moments | None = None,
    axis: Axis | None = None,
    feature_axis: Axis | None = None,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> tuple[Float[Array, "..."], Moments]:
    r"""Normalizes each feature over the batch, or with given statistics.

    .. math::
       \mu = \frac1m \sum_i x_i, \qquad \sigma^2 = \frac1m \sum_i (x_i - \mu)^2, \qquad
       y = \text{scale} \cdot \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \text{bias}

    where i runs over the m elements of ``axis`` (over those with ``where`` True only, and over all members of
    ``axis_name``). In training omit ``moments``: the gradient flows through the batch statistics. The function updates
    nothing; it returns the measured statistics for :func:`jaxnorm.update_running`. For inference pass running or
    population statistics as ``moments``.

    Args:
      x: data of any shape.
      scale: one factor for each feature: an array with the shape of ``x`` along the axes that remain (or the last
        of them), or with as many axes as ``x`` (conditional normalization). None means one.
      bias: summand, shaped like ``scale``. None means zero.
      moments: statistics to normalize with; None measures them from ``x``.
      axis: the axes to reduce, as numbers or a slice; None means all but ``feature_axis``. Flax and Keras name the axis
        of the features there, so leave their ``axis=-1`` out.
      feature_axis: the axes that are not reduced, in place of ``axis``: 1 for channels in (N, F, height, width). None
        means the last, or all that ``axis`` leaves.
      epsilon: added to the variance, inside the root.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.
      axis_name: name or names of mapped axes (``vmap``, ``shard_map``) that the batch spans; members may hold
        different numbers of real elements, or none.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      The normalized array, with the shape and dtype of ``x`` (the arithmetic is done in at least float32), and the
      measured Moments, or the ones that were passed in.

    Raises:
      TypeError: ``x`` is not real, another array not floating, or ``where`` not boolean.
      ValueError: shapes do not fit, an axis is out of range, ``axis`` and ``feature_axis`` do not fit, or
        ``axis_name`` is not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> y, measured = jaxnorm.batch_norm(jnp.array([[1.0], [3.0]]), epsilon=0.0)
      >>> y.tolist(), measured.mean.tolist(), measured.var.tolist()
      ([[-1.0], [1.0]], [2.0], [1.0])

    Notes:
      A feature that is constant over the batch, and a batch of one, give ``bias``, with finite gradients. A batch
      without a real element gives zero. In training this holds with ``epsilon=0`` too, and the gradient of x is zero
      there. But with ``epsilon=0`` and a variance of zero in ``moments`` the result is 0/0. The backward pass keeps x,
      the statistics and the scale.

    Reference:
      S. Ioffe, C. Szegedy, "Batch Normalization", 2015, arXiv:1502.03167, Algorithm 1.
    """
    x = validate.real("batch_norm", "x", x)
    validate.epsilon("batch_norm", epsilon)
    named = named_axes("batch_norm", axis_name, axis_index_groups)
    axes = batch_axes("batch_norm", x.ndim, axis, feature_axis)
    mean = None if moments is None else moments.mean
    refuse_reduced("batch_norm", x.shape, axis, axes, scale=scale, bias=bias, **{"moments.mean": mean})
    mask = full_mask("batch_norm", x, where)
    if moments is not None:
        y = normalize(masked(x, mask), moments, scale, bias, axis=axes, epsilon=epsilon)
        return masked(y, mask), moments
    rule = Standardization(Reduction(axes, named), epsilon)
    y, measured = standardize_batch(rule, x, *_aligned(x, scale, bias, axes), where=mask)
    return y.astype(x.dtype), measured


def _aligned(x: Array, scale: Array | None, bias: Array | None, axes: tuple[int, ...]) -> Any:
    """Scale and bias with as many axes as the data."""
    return aligned_affine("batch_norm", scale, bias, x, tuple(a for a in range(x.ndim) if a not in axes))


@final
class BatchNorm(BatchSpec, HasAxisName):
    r"""The spec of :func:`batch_norm`; its fields are its keywords, and those of :func:`jaxnorm.update_running`.

    Scale, bias and running statistics have the shape of the data along the axes that are not reduced.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.BatchNorm(momentum=0.5)
      >>> params, running = norm.init((1,)), norm.initial_stats((1,))
      >>> y, measured = norm(params, jnp.array([[1.0], [3.0]]))  # training: measures
      >>> running = norm.update_running(running, measured)  # after the step
      >>> y, _ = norm(params, jnp.array([[1.0], [3.0]]), running)  # inference: uses
      >>> y.round(2).tolist()
      [[0.0], [2.0]]

    Notes:
      The defaults are Flax's, so running statistics move as they do in Flax and, with ``ddof=1``, as in PyTorch: after
      k batches the initial values still have the weight 0.99\ :sup:`k`. The presets of cells use
      ``momentum=0.9, debias=True``.
    """

    function = staticmethod(batch_norm)
    axis: Axis | None = field(default=DEFAULT, kw_only=False)
    feature_axis: Axis | None = DEFAULT
    epsilon: float = DEFAULT
    momentum: float | None = DEFAULT
    ddof: int = DEFAULT
    debias: bool = DEFAULT
    adds_bias_last = True

    def normalize_and_keep(self, params: Params, x: Array, where: Array | None = None) -> tuple[Array, Stats]:
        """Normalizes in training; the moments hold all that ``normalize_again`` needs of the batch."""
        return self._over_batch(standardize_and_keep, params, x, where)

    def normalize_again(self, params: Params, x: Array, kept: Stats, where: Array | None = None) -> tuple[Array, Stats]:
        """Normalizes with moments that an earlier call kept of ``x``, and differentiates as if it measured."""
        return self._over_batch(partial(standardize_again, kept=kept), params, x, where)

    def _over_batch(
        self, function: Callable[..., tuple[Array, Any]], params: Any, x: Array, where: Array | None
    ) -> tuple[Array, Stats]:
        """Runs a function of ``core.standardize`` for a cell, which has checked everything."""
        axes = batch_axes("BatchNorm", x.ndim, self.axis, self.feature_axis)
        reduction = Reduction(axes, named_axes("BatchNorm", self.axis_name, self.axis_index_groups))
        affine = _aligned(x, params.scale, params.bias, axes)
        y, moments = function(
            Standardization(reduction, self.epsilon), x, *affine, where=full_mask("BatchNorm", x, where)
        )
        return y.astype(x.dtype), moments

    def over_gates(self) -> "BatchNorm":
        """The same for features on the last two axes."""
        return replace(self, feature_axis=(-2, -1))
