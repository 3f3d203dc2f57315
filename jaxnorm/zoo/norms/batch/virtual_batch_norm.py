"""Batch normalization with a reference batch and the example itself."""

from dataclasses import field
from typing import final

import jax.numpy as jnp
from jax import lax

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Axis, Bool, Float
from jaxnorm.norms.affine_norm import HasAxisName
from jaxnorm.norms.base import Params, Stats
from jaxnorm.norms.batch_norm import batch_norm
from jaxnorm.norms.core import moments as statistics
from jaxnorm.norms.core.axes import batch_axes
from jaxnorm.norms.core.batch_base import BatchSpec
from jaxnorm.norms.core.moments import Moments, align, full_mask, masked, merge, normalize, spread
from jaxnorm.norms.core.spec import DEFAULT

__all__ = ["VirtualBatchNorm", "virtual_batch_norm"]


def virtual_batch_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    reference: Moments,
    axis: Axis | None = None,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    r"""Normalizes each example with the statistics of a reference batch plus this example.

    .. math::
       \mu = \frac{n \mu_r + e_1}{n + 1}, \qquad
       \sigma^2 = \frac{n m_2 + e_2}{n + 1} - \mu^2, \qquad
       y = \text{scale} \cdot \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \text{bias}

    where :math:`\mu_r, m_2` are the means of the data and of their squares in the reference batch of n examples, and
    :math:`e_1, e_2` the same means of the example (over its positions, if it has any). The output of one example does
    not depend on the others.

    Args:
      x: data with examples on the first axis.
      scale: one factor for each feature, as in :func:`jaxnorm.batch_norm`. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      reference: statistics of the reference batch at the same layer of the network, as :func:`jaxnorm.batch_norm`
        measures them; gradients flow into them.
      axis: the axes that the reference statistics reduced, including the first; None means all but the last.
      epsilon: added to the variance, inside the root.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.

    Returns:
      An array of the shape and dtype of ``x``; the arithmetic is done in at least float32.

    Raises:
      TypeError: an array is not floating, or ``where`` not boolean.
      ValueError: the first axis is not among ``axis``, or shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> _, reference = jaxnorm.batch_norm(jnp.array([[0.0], [2.0], [4.0]]))
      >>> y = jaxnorm.zoo.virtual_batch_norm(jnp.array([[2.0], [6.0]]), reference=reference, epsilon=0.0)
      >>> y.round(3)[:, 0]  # (6 - 3) / sqrt(5)
      Array([0.   , 1.342], dtype=float32)

    Notes:
      We compute the variance with :func:`jaxnorm.merge`, an equivalent form without a difference of squares. It weighs
      reference and example by their numbers of real elements: n to 1 if all examples have equally many. With an empty
      reference, only the statistics of the example count.

    Reference:
      T. Salimans et al., "Improved Techniques for Training GANs", 2016, arXiv:1606.03498; the equations follow
      the authors' code.
    """
    validate.floating("virtual_batch_norm", "x", x)
    validate.epsilon("virtual_batch_norm", epsilon)
    axes = batch_axes("virtual_batch_norm", x.ndim, axis)
    mask = full_mask("virtual_batch_norm", x, where)
    if 0 not in axes:
        raise ValueError(f"virtual_batch_norm: axis={axis} must contain 0, the axis of the examples. Move them there.")
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    inner = axes[1:]
    # Give every statistic the axes of x, so that both sides of merge have equal shapes.
    mean, deviation, count = statistics.centered(x, mask, inner, None)
    var = statistics.sum_over(jnp.square(deviation), inner, None) / jnp.maximum(count, jnp.ones((), count.dtype))
    own = Moments(mean, var, jnp.broadcast_to(count, mean.shape))

    def along(leaf: Array) -> Array:
        return jnp.broadcast_to(align(leaf.astype(mean.dtype), x.ndim, kept), mean.shape)

    validate.broadcastable(
        "virtual_batch_norm", "reference.mean", align(reference.mean, x.ndim, kept).shape, mean.shape
    )
    both = merge(Moments(*(along(leaf) for leaf in (*reference[:2], spread(reference.count, reference.mean)))), own)
    return masked(normalize(masked(x, mask), both, scale, bias, axis=axes, epsilon=epsilon), mask)


@final
class VirtualBatchNorm(BatchSpec, HasAxisName):
    """The spec of :func:`virtual_batch_norm`: measures a reference batch, and normalizes others with it.

    Attributes:
      axis_name: name or names of mapped axes that the reference batch spans.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.VirtualBatchNorm(epsilon=0.0)
      >>> params = norm.init((1,))
      >>> _, reference = norm(params, jnp.array([[0.0], [2.0], [4.0]]))  # the reference batch: plain batch norm
      >>> y, _ = norm(params, jnp.array([[2.0], [6.0]]), reference)
      >>> y.round(3)[:, 0]
      Array([0.   , 1.342], dtype=float32)

    Note:
      In training, pass the reference batch through the network too, at each step; gradients flow through its
      statistics. If a module keeps them (``update_running``), the latest reference batch replaces the previous one.
    """

    function = staticmethod(virtual_batch_norm)
    passed = ("where", "reference")
    axis: Axis | None = field(default=DEFAULT, kw_only=False)

    def __call__(
        self,
        params: Params,
        x: Float[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Applies batch normalization to the reference batch if ``stats`` is None, else :func:`virtual_batch_norm`."""
        if stats is None:
            return self.apply(batch_norm, params, x, where=where)
        return self.apply(virtual_batch_norm, params, x, reference=stats, where=where), stats

    def update_running(self, running: Stats, measured: Stats) -> Stats:
        """Replaces the old reference with the measured one, except where nothing was measured."""

        def latest(old: Array, new: Array, count: Array) -> Array:
            return jnp.where(spread(count, new) > 0, lax.stop_gradient(new).astype(old.dtype), old)

        count = measured.count
        one = count if count.ndim == running.count.ndim else jnp.max(count)
        return Moments(
            latest(running.mean, measured.mean, count),
            latest(running.var, measured.var, count),
            latest(running.count, one, one),
        )

    def check_site(self, caller: str) -> None:
        """Rejects every site: a cell cannot tell the reference batch from other batches."""
        raise ValueError(
            f"{caller}: {self!r} cannot be used inside a cell, where statistics are handed in for inference only. Use "
            "BatchNorm()."
        )
