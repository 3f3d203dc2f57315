"""Batch normalization with the mean absolute deviation, the largest one, or the k largest ones."""

import math
from dataclasses import field
from functools import partial
from typing import Literal, TypeAlias, final

import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Axis, AxisIndexGroups, AxisName, Bool, Float
from jaxnorm.norms.affine_norm import HasAxisName
from jaxnorm.norms.core.batch_base import BatchSpec
from jaxnorm.norms.core.moments import Moments, sum_over
from jaxnorm.norms.core.named_axes import NamedAxes, named_axes
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.zoo.norms.batch._deviation import scaled_batch_norm
from jaxnorm.zoo.norms.batch._maximum import largest_sum_over, maximum_over

__all__ = ["LpBatchNorm", "lp_batch_norm"]


Deviation: TypeAlias = Literal["l1", "l_infinity", "top_k"]
_DEVIATIONS = ("l1", "l_infinity", "top_k")
_L1 = math.sqrt(math.pi / 2.0)
_LARGEST = (1.0 + math.sqrt(math.pi * math.log(4.0))) / math.sqrt(8.0)


def lp_batch_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    deviation: Deviation = "l1",
    k: int = 10,
    moments: Moments | None = None,
    axis: Axis | None = None,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> tuple[Float[Array, "..."], Moments]:
    r"""Normalizes each feature over the batch, with absolute deviations from the mean instead of squared ones.

    .. math::
       y = \text{scale} \cdot \frac{x - \mu}{s + \epsilon} + \text{bias}, \qquad
       s_{L1} = \sqrt{\tfrac{\pi}{2}} \, \operatorname{mean}_i |x_i - \mu|, \qquad
       s_{L\infty} = C_n \max_i |x_i - \mu|, \qquad
       s_{top\,k} = C_n \operatorname{mean}_{k\ \text{largest}} |x_i - \mu|, \qquad
       C_n = \frac{1 + \sqrt{\pi \ln 4}}{\sqrt{8 \ln n}}

    where i runs over the n elements of ``axis`` (over those with ``where`` True only, and over all members of
    ``axis_name``). The constants make s an estimate of the standard deviation of normal data.

    Args:
      x: data of any shape.
      scale: one factor for each feature, as in :func:`jaxnorm.batch_norm`. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      deviation: the form of s: "l1", "l_infinity" or "top_k".
      k: the number of largest deviations in "top_k"; all of them if there are fewer than k.
      moments: statistics to normalize with; None measures them from ``x``.
      axis: the axes to reduce; None means all but the last.
      epsilon: added to s.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.
      axis_name: name or names of mapped axes that the batch spans.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      The normalized array, in shape and dtype like ``x`` (the arithmetic is done in at least float32), and the
      Moments that were measured or passed in. Their ``var`` holds :math:`s^2`, the estimate of the variance, so that
      :func:`jaxnorm.update_running`, :func:`jaxnorm.population` and others treat it as a variance.

    Raises:
      TypeError: an array is not floating, ``where`` not boolean, or k not an integer.
      ValueError: an unknown word, shapes that do not fit, an axis out of range, or ``axis_name`` not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> x = jnp.array([[0.0], [2.0], [4.0]])
      >>> y, measured = jaxnorm.zoo.lp_batch_norm(x, epsilon=0.0)  # the mean absolute deviation is 4/3
      >>> y[:, 0].round(3), measured.var.round(2)
      (Array([-1.197,  0.   ,  1.197], dtype=float32), Array([2.79], dtype=float32))

    Notes:
      A feature that is constant over the batch, and a batch of one, give ``bias``, with finite gradients, even
      with ``epsilon=0``. A batch without a real element gives zero. For one element we use :math:`C_2`.
      For normal data, :math:`C_n \max` is 35 to 45 percent too large for n from 32 to 65536, and with
      k = 10, s is 0.87 to 1.32 of the standard deviation, so outputs do not have variance one. The derivative of the
      maximum is split equally among all elements that attain it. The equations have no epsilon. The published code adds
      it to s, as we do; in training it averages the inverse of s, whereas we average its square.

    Reference:
      E. Hoffer, R. Banner, I. Golan, D. Soudry, "Norm Matters", 2018, arXiv:1803.01814;
      the constants come from the authors' code.
    """
    validate.choice("lp_batch_norm", "deviation", deviation, _DEVIATIONS)
    named = named_axes("lp_batch_norm", axis_name, axis_index_groups)
    k = validate.positive_int("lp_batch_norm", "k", k)
    return scaled_batch_norm(
        "lp_batch_norm",
        x,
        scale,
        bias,
        estimate=partial(_estimate, deviation=deviation, k=k, axis_name=named),
        moments=moments,
        axis=axis,
        epsilon=epsilon,
        where=where,
        axis_name=named,
    )


def _estimate(
    data: Array,
    where: Array | None,
    axes: tuple[int, ...],
    count: Array,
    *,
    deviation: Deviation,
    k: int,
    axis_name: NamedAxes | None,
) -> Array:
    absolute = jnp.abs(data)
    one = jnp.ones((), count.dtype)
    if deviation == "l1":
        return _L1 * sum_over(absolute, axes, axis_name) / jnp.maximum(count, one)
    factor = _LARGEST / jnp.sqrt(jnp.log(jnp.maximum(count, 2.0 * one)))
    if deviation == "l_infinity":
        return factor * maximum_over(absolute, where, axes, axis_name)
    total, size = largest_sum_over(absolute, k, axes, axis_name)
    return factor * total / jnp.maximum(jnp.minimum(count, size), one)


@final
class LpBatchNorm(BatchSpec, HasAxisName):
    """The spec of :func:`lp_batch_norm`; its fields are its keywords, and those of its update rule.

    Attributes:
      momentum: weight of the old running statistics; None for the average over all data seen, which pools the
        estimates as if they were variances.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.LpBatchNorm(deviation="l_infinity")
      >>> y, measured = norm(norm.init((1,)), jnp.array([[1.0], [3.0]]))
      >>> bool(jnp.isclose(measured.var[0], (1 + (jnp.pi * jnp.log(4.0)) ** 0.5) ** 2 / (8 * jnp.log(2.0))))
      True
    """

    function = staticmethod(lp_batch_norm)
    axis: Axis | None = field(default=DEFAULT, kw_only=False)
    deviation: Deviation = DEFAULT
    k: int = DEFAULT
    epsilon: float = DEFAULT
    momentum: float | None = DEFAULT
    debias: bool = DEFAULT

    def __post_init__(self) -> None:
        super().__post_init__()
        validate.choice("LpBatchNorm", "deviation", self.deviation, _DEVIATIONS)
        validate.positive_int("LpBatchNorm", "k", self.k)
