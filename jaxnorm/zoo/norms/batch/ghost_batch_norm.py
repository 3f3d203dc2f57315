"""Batch normalization over parts of the batch."""

from dataclasses import field
from typing import final

import jax.numpy as jnp
from jax import lax

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Axis, Bool, Float
from jaxnorm.norms.base import Stats
from jaxnorm.norms.batch_norm import batch_norm
from jaxnorm.norms.core import running as running_statistics
from jaxnorm.norms.core.axes import batch_axes, refuse_reduced
from jaxnorm.norms.core.batch_base import BatchSpec
from jaxnorm.norms.core.moments import Moments, full_mask
from jaxnorm.norms.core.spec import DEFAULT

__all__ = ["GhostBatchNorm", "ghost_batch_norm"]


def ghost_batch_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    size: int,
    moments: Moments | None = None,
    axis: Axis | None = None,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
) -> tuple[Float[Array, "..."], Moments]:
    r"""Normalizes each feature over ghost batches: consecutive parts of the batch, each with its own statistics.

    .. math:: y_i = \text{scale} \cdot \frac{x_i - \mu_{g(i)}}{\sqrt{\sigma^2_{g(i)} + \epsilon}} + \text{bias}, \qquad
       g(i) = \lfloor i / \text{size} \rfloor

    with :math:`\mu_g, \sigma_g^2` as in :func:`jaxnorm.batch_norm`, over the examples of ghost batch g only.

    Args:
      x: data with examples on the first axis.
      scale: one factor for each feature, shared by all ghost batches, as in :func:`jaxnorm.batch_norm`. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      size: number of examples in a ghost batch; must divide the batch.
      moments: statistics to normalize with: of all data, or of each ghost batch on a leading axis. None measures them.
      axis: the axes to reduce, including the first; None means all but the last.
      epsilon: added to the variance, inside the root.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.

    Returns:
      The normalized array, in shape and dtype like ``x`` (the arithmetic is done in at least float32), and the
      measured Moments, with a leading axis of ghost batches (:meth:`GhostBatchNorm.update_running` handles this axis),
      or the Moments that were passed in.

    Raises:
      TypeError: an array is not floating, ``where`` not boolean, or size not an integer.
      ValueError: size does not divide the batch, the first axis is not reduced, or shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> x = jnp.array([[1.0], [3.0], [10.0], [30.0]])
      >>> y, parts = jaxnorm.zoo.ghost_batch_norm(x, size=2, epsilon=0.0)
      >>> y.tolist(), parts.mean.tolist()
      ([[-1.0], [1.0], [-1.0], [1.0]], [[2.0], [20.0]])

    Notes:
      Degenerate ghost batches behave like degenerate batches in :func:`jaxnorm.batch_norm`. There is no ``axis_name``:
      with several devices, the part on each device is already a ghost batch.

    Reference:
      E. Hoffer, I. Hubara, D. Soudry, "Train longer, generalize better", 2017, arXiv:1705.08741.
    """
    validate.floating("ghost_batch_norm", "x", x)
    validate.epsilon("ghost_batch_norm", epsilon)
    size = validate.positive_int("ghost_batch_norm", "size", size)
    axes = batch_axes("ghost_batch_norm", x.ndim, axis)
    refuse_reduced("ghost_batch_norm", x.shape, axis, axes, scale=scale, bias=bias)
    mask = full_mask("ghost_batch_norm", x, where)
    if 0 not in axes:
        raise ValueError(f"ghost_batch_norm: axis={axis} must contain 0, the axis of the examples. Move them there.")
    if moments is not None and moments.mean.ndim <= x.ndim - len(axes):
        return batch_norm(x, scale, bias, moments=moments, axis=axes, epsilon=epsilon, where=mask)
    if x.shape[0] % size:
        raise ValueError(
            f"ghost_batch_norm: size={size} must divide the number of examples, got x of shape {x.shape}. Choose a "
            "divisor of it, or pad the batch and mask the padding with where."
        )

    def cut(array: Array) -> Array:
        examples = (-1, 1) if array.shape[0] == 1 else (x.shape[0] // size, size)
        return array.reshape(*examples, *array.shape[1:])

    def stretch(param: Array | None) -> Array | None:
        return cut(param) if param is not None and param.ndim == x.ndim else param

    y, parts = batch_norm(
        cut(x),
        stretch(scale),
        stretch(bias),
        moments=moments,
        axis=tuple(a + 1 for a in axes),
        epsilon=epsilon,
        where=None if mask is None else cut(mask),
    )
    if moments is None and parts.count.ndim == 0:
        parts = parts._replace(count=jnp.broadcast_to(parts.count, parts.mean.shape[:1]))
    return y.reshape(x.shape), parts


@final
class GhostBatchNorm(BatchSpec):
    r"""The spec of :func:`ghost_batch_norm`; its fields are its keywords.

    Attributes:
      momentum: weight of the old running statistics, in [0, 1]; None for the exact average over all data seen,
        which merges the ghost batches.
      ddof: 0 accumulates the biased variance of each ghost batch, 1 the one corrected by its m/(m-1).

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.GhostBatchNorm(2, momentum=0.5)
      >>> y, parts = norm(norm.init((1,)), jnp.array([[1.0], [3.0], [10.0], [30.0]]))
      >>> norm.update_running(norm.initial_stats((1,)), parts).mean.tolist()  # 0, then 1, then 10.5
      [10.5]

    Note:
      ``update_running`` treats the G ghost batches like batches that arrive one after the other:
      :math:`r' = \rho^G r + (1 - \rho) \sum_i \rho^{G-1-i} m_i` with momentum :math:`\rho`. That is the paper's rule as
      we remember it. The running variance is therefore the variance within ghost batches.
    """

    function = staticmethod(ghost_batch_norm)
    size: int = field(kw_only=False)
    axis: Axis | None = field(default=DEFAULT, kw_only=False)
    epsilon: float = DEFAULT
    momentum: float | None = DEFAULT
    ddof: int = DEFAULT

    def __post_init__(self) -> None:
        super().__post_init__()
        validate.positive_int("GhostBatchNorm", "size", self.size)

    def update_running(self, running: Stats, measured: Stats) -> Stats:
        """Updates with one ghost batch after the other; ghost batches without a real element change nothing."""
        if self.momentum is None:
            return running_statistics.update_running(running, measured, momentum=None, ddof=self.ddof)
        mean, var, n = (lax.stop_gradient(leaf).astype(running.mean.dtype) for leaf in measured)
        rows = n.reshape(n.shape + (1,) * (mean.ndim - n.ndim))
        corrected = var * rows / jnp.maximum(rows - self.ddof, 1.0)
        total = running.count + jnp.sum(n.reshape(n.shape[0], -1).max(axis=1)).astype(running.count.dtype)
        return Moments(
            self._one_by_one(running.mean, mean, rows > 0),
            self._one_by_one(running.var, corrected, rows > self.ddof),
            total,
        )

    def _one_by_one(self, old: Array, new: Array, counted: Array) -> Array:
        """Computes in closed form the moving average after all nonempty rows, in their order."""
        # A row has the weight (1 - momentum) * momentum^j, where j is the number of nonempty rows after it.
        momentum = jnp.asarray(self.momentum, old.dtype)
        entered = jnp.cumsum(counted.astype(old.dtype), axis=0)
        weight = jnp.where(counted, (1.0 - momentum) * momentum ** (entered[-1:] - entered), 0.0)
        moved: Array = old * momentum ** entered[-1] + jnp.sum(weight * new, axis=0)
        return moved

    def check_site(self, caller: str) -> None:
        """Rejects every site: its statistics have an axis of ghost batches where a cell has the time axis."""
        raise ValueError(
            f"{caller}: {self!r} cannot be used inside a cell. Map the unrolled cell over parts of the batch with "
            "jax.vmap, and use BatchNorm()."
        )
