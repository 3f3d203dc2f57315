"""Batch renormalization, and the schedule of its limits."""

import math
from dataclasses import field
from typing import final

import jax.numpy as jnp
from jax import lax

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Axis, AxisIndexGroups, AxisName, Bool, Float, Int, Shaped
from jaxnorm.norms.affine_norm import HasAxisName
from jaxnorm.norms.base import Params, Stats
from jaxnorm.norms.core import moments as statistics
from jaxnorm.norms.core import running as running_statistics
from jaxnorm.norms.core.axes import batch_axes, refuse_reduced
from jaxnorm.norms.core.moments import Moments, align, apply_affine, full_mask, masked, spread
from jaxnorm.norms.core.named_axes import named_axes
from jaxnorm.norms.core.reduction import Reduction
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.norms.core.standardize import Standardization, standardize_batch
from jaxnorm.zoo.norms.batch._running_in_training import RunningInTraining

__all__ = ["BatchRenorm", "batch_renorm", "renorm_limits"]


def renorm_limits(
    step: int | Int[Array, ""],
    *,
    start: int = 5_000,
    r_end: int = 40_000,
    d_end: int = 25_000,
    r_max: float = 3.0,
    d_max: float = 5.0,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""Computes the limits of batch renormalization at a training step: they start at batch normalization, then relax.

    .. math::
       r(t) = 1 + (r_{max} - 1) \, c\!\left(\frac{t - start}{r_{end} - start}\right), \qquad
       d(t) = d_{max} \, c\!\left(\frac{t - start}{d_{end} - start}\right), \qquad c(a) = \min(\max(a, 0), 1)

    Args:
      step: the training step, a Python number or a traced integer.
      start: up to this step the limits are 1 and 0.
      r_end: from this step on, the first limit is ``r_max``.
      d_end: from this step on, the second limit is ``d_max``.
      r_max: the final value of the first limit.
      d_max: the final value of the second limit.

    Returns:
      The two limits; pass them as ``r_max`` and ``d_max`` to :func:`batch_renorm`.

    Raises:
      ValueError: an end is not after ``start``, or a final value is out of range.

    Example:
      >>> import jaxnorm
      >>> [tuple(float(limit) for limit in jaxnorm.zoo.renorm_limits(step)) for step in (0, 15_000, 50_000)]
      [(1.0, 0.0), (1.5714285373687744, 2.5), (3.0, 5.0)]

    Reference:
      S. Ioffe, "Batch Renormalization", 2017, arXiv:1702.03275, section 4. The defaults are the values given
      there, which we read in an excerpt. That the limits grow linearly is our reading of "gradually".
    """
    _check_limits("renorm_limits", r_max, d_max)
    for name, end in (("r_end", r_end), ("d_end", d_end)):
        if end <= start:
            raise ValueError(f"renorm_limits: {name} must lie after start={start}, got {end}. Pass a later step.")
    now = jnp.asarray(step, jnp.result_type(float))

    def share(end: int) -> Array:
        return jnp.clip((now - start) / (end - start), 0.0, 1.0)

    return 1.0 + (r_max - 1.0) * share(r_end), d_max * share(d_end)


def batch_renorm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    running: Moments,
    r_max: float | int | Shaped[Array, ""] = 3.0,
    d_max: float | int | Shaped[Array, ""] = 5.0,
    axis: Axis | None = None,
    epsilon: float = 1e-3,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> tuple[Float[Array, "..."], Moments]:
    r"""Normalizes each feature over the batch in training, and corrects the result toward running statistics.

    .. math::
       \sigma_B = \sqrt{\operatorname{var}_B + \epsilon}, \qquad
       r = \operatorname{clip}(\sigma_B / \sigma, 1/r_{max}, r_{max}), \qquad
       d = \operatorname{clip}((\mu_B - \mu) / \sigma, -d_{max}, d_{max}), \qquad
       y = \text{scale} \cdot \left(\frac{x - \mu_B}{\sigma_B} \, r + d\right) + \text{bias}

    where :math:`\mu, \sigma` are the running mean and standard deviation. No gradient flows through r and d. Without
    limits (``r_max`` and ``d_max`` infinite) the output equals that of inference; limits of 1 and 0 give batch
    normalization. Inference is ``batch_norm(x, scale, bias, moments=running, epsilon=epsilon)``.

    Args:
      x: data of any shape.
      scale: one factor for each feature, as in :func:`jaxnorm.batch_norm`. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      running: running statistics, as :meth:`BatchRenorm.update_running` makes them;
        :math:`\sigma^2 = \text{var} + \epsilon`.
      r_max: the largest factor, a number or a traced array of at least 1; see :func:`renorm_limits`.
      d_max: the largest shift, a number or a traced array of at least 0.
      axis: the axes to reduce; None means all but the last.
      epsilon: added to the variance, inside the root.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.
      axis_name: name or names of mapped axes that the batch spans.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      The normalized array, in shape and dtype like ``x`` (the arithmetic is done in at least float32), and the
      Moments that were measured, for :meth:`BatchRenorm.update_running`.

    Raises:
      TypeError: an array is not floating, or ``where`` not boolean.
      ValueError: a limit is out of range, shapes do not fit, an axis is out of range, or ``axis_name`` is not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> running = jaxnorm.Moments(jnp.array([1.0]), jnp.array([4.0]), jnp.array(9.0))
      >>> x = jnp.array([[2.0], [6.0]])  # mean 4, deviation 2: r = 1 and d = 3/2
      >>> y, measured = jaxnorm.zoo.batch_renorm(x, running=running, r_max=3.0, d_max=1.0, epsilon=0.0)
      >>> y.tolist()
      [[0.0], [2.0]]

    Notes:
      A feature that is constant over the batch, and a batch of one, give ``scale * d + bias``, with finite gradients.
      If data are more than about 1e19 away from their mean, their variance is infinite in float32, and r and d are at
      their limits.

    Reference:
      S. Ioffe, "Batch Renormalization", 2017, arXiv:1702.03275, Algorithm 1.
    """
    validate.floating("batch_renorm", "x", x)
    validate.epsilon("batch_renorm", epsilon)
    named = named_axes("batch_renorm", axis_name, axis_index_groups)
    _check_limits("batch_renorm", r_max, d_max)
    axes = batch_axes("batch_renorm", x.ndim, axis)
    refuse_reduced("batch_renorm", x.shape, axis, axes, scale=scale, bias=bias)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    mask = full_mask("batch_renorm", x, where)
    x_hat, measured = standardize_batch(Standardization(Reduction(axes, named), epsilon), x, where=mask)
    dtype = x_hat.dtype
    var, old_mean, old_var = (
        align(leaf.astype(dtype), x.ndim, kept) for leaf in (measured.var, running.mean, running.var)
    )
    validate.broadcastable("batch_renorm", "running.mean", old_mean.shape, x.shape)
    small = jnp.asarray(epsilon, dtype)
    sigma, old_sigma = jnp.sqrt(var + small), jnp.sqrt(old_var + small)
    # We average the difference of the data, since the measured mean is rounded and far from zero that error matters.
    number = statistics.count_over(x, mask, axes, named)
    moved = statistics.average(statistics.sum_over(masked(x.astype(dtype) - old_mean, mask), axes, named), number)
    r_limit, d_limit = jnp.asarray(r_max, dtype), jnp.asarray(d_max, dtype)
    r = lax.stop_gradient(jnp.clip(sigma / old_sigma, 1.0 / r_limit, r_limit))
    d = lax.stop_gradient(jnp.clip(moved / old_sigma, -d_limit, d_limit))
    y = x_hat * r + d
    y = apply_affine("batch_renorm", y, scale, bias, kept)
    return masked(y, mask).astype(x.dtype), measured


@final
class BatchRenorm(RunningInTraining, HasAxisName):
    r"""The spec of :func:`batch_renorm`; it uses running statistics in training, so call ``train``.

    Attributes:
      momentum: weight of the old running mean and standard deviation.
      r_max: the largest factor; infinite for no limit. ``train`` accepts another value, which may be traced.
      d_max: the largest shift; infinite for no limit. ``train`` accepts another value, which may be traced.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.BatchRenorm(epsilon=0.0)
      >>> params, running = norm.init((1,)), norm.initial_stats((1,))
      >>> limits = dict(zip(("r_max", "d_max"), jaxnorm.zoo.renorm_limits(0)))  # at first: batch normalization
      >>> y, measured = norm.train(params, jnp.array([[2.0], [6.0]]), running, **limits)
      >>> running = norm.update_running(running, measured)  # after the step
      >>> y.tolist(), running.mean.round(3), running.var.round(4)
      ([[-1.0], [1.0]], Array([0.04], dtype=float32), Array([1.0201], dtype=float32))

    Note:
      As in the paper, the moving averages are averages of the mean and the standard deviation. But the statistics of
      all normalizers hold a variance. So ``update_running`` averages :math:`\sqrt{\text{var} + \epsilon}` and stores
      the square of the average minus epsilon; inference then divides by the average. Fresh statistics (variance 1)
      mean a deviation of :math:`\sqrt{1 + \epsilon}`; the paper starts with 1. A training step sees the averages from
      before that step.
    """

    function = staticmethod(batch_renorm)
    axis: Axis | None = field(default=DEFAULT, kw_only=False)
    epsilon: float = DEFAULT
    momentum: float = DEFAULT
    r_max: float = DEFAULT
    d_max: float = DEFAULT

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_limits("BatchRenorm", self.r_max, self.d_max)
        if self.momentum is None:
            raise ValueError("BatchRenorm: momentum must be a number in [0.0, 1.0], got None. The paper has 0.99.")

    def train(
        self,
        params: Params,
        x: Float[Array, "..."],
        running: Stats,
        where: Bool[Array, "..."] | None = None,
        *,
        r_max: float | int | Shaped[Array, ""] | None = None,
        d_max: float | int | Shaped[Array, ""] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Applies :func:`batch_renorm`; if a limit is None, the spec's limit applies."""
        limits = {name: limit for name, limit in (("r_max", r_max), ("d_max", d_max)) if limit is not None}
        return self.apply(batch_renorm, params, x, running=running, where=where, **limits)

    def update_running(self, running: Stats, measured: Stats) -> Stats:
        """Updates the averages of mean and standard deviation; entries with count zero do not change."""
        measured = running_statistics.pool_parts(running, measured)

        def with_deviation(m: Moments) -> Moments:
            return m._replace(var=jnp.sqrt(m.var + jnp.asarray(self.epsilon, m.var.dtype)))

        folded = running_statistics.update_running(
            with_deviation(running), with_deviation(measured), momentum=self.momentum
        )
        var = jnp.maximum(jnp.square(folded.var) - jnp.asarray(self.epsilon, folded.var.dtype), 0.0)
        return folded._replace(var=jnp.where(spread(measured.count, var) > 0, var, running.var))


def _check_limits(caller: str, r_max: object, d_max: object) -> None:
    """Checks limits that are Python numbers; traced limits are the caller's responsibility."""
    for name, value, low in (("r_max", r_max, 1.0), ("d_max", d_max, 0.0)):
        if isinstance(value, int | float):
            validate.in_range(caller, name, float(value), low, math.inf)
