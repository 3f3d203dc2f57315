"""Power normalization: a quadratic mean over the batch, with a custom backward pass."""

from dataclasses import field
from functools import partial
from typing import Any, final

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.reverse_mode import for_reverse_mode
from jaxnorm._base.typing import Array, Bool, DTypeLike, Float
from jaxnorm.norms.affine_norm import HasAffine, HasEpsilon, HasFeatureAxis
from jaxnorm.norms.base import Params, Stats
from jaxnorm.norms.core.axes import group_axes, in_groups
from jaxnorm.norms.core.moments import apply_affine, count_over, full_mask, masked, spread, sum_over, to_running, toward
from jaxnorm.norms.core.reduction import Reduction
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.norms.core.standardize import Standardization, standardize

__all__ = ["PowerNorm", "PowerStats", "power_norm"]


class PowerStats(NamedTuple):
    """Running statistics of :class:`PowerNorm`.

    ``square`` is the running quadratic mean of each feature (phi), ``correction`` the sum that the backward pass has
    gathered (nu), and ``count`` the number of batches in both.
    """

    square: Float[Array, " F"]
    correction: Float[Array, " F"]
    count: Float[Array, "..."]  # type: ignore[assignment]  # shadows tuple.count, which nobody calls here


def power_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    stats: PowerStats | None = None,
    training: bool = False,
    num_groups: int = 1,
    feature_axis: int = -1,
    epsilon: float = 1e-5,
    backward_momentum: float = 0.9,
    warmup: int = 10000,
    where: Bool[Array, "..."] | None = None,
) -> tuple[Float[Array, "..."], PowerStats]:
    r"""Divides each feature by its root mean square over the batch, or by a running one; does not subtract a mean.

    First it divides each group of features in a row by its root mean square,
    :math:`\hat x = x / \sqrt{\mathrm{mean}_g(x^2) + \epsilon}`. Then, with the mean over the m rows of the batch,

    .. math:: q = \frac1m \sum_n \hat x_n^2, \qquad z = \frac{\hat x}{\sqrt{s + \epsilon}}, \qquad
       y = \text{scale} \cdot z + \text{bias}

    where s is q in the first ``warmup`` training steps, and the running :math:`\phi` afterwards and in inference. The
    backward pass of training is not the derivative of this. For an incoming gradient g of z it is

    .. math:: \tilde g = g - (1 - a) \, \nu \, z, \qquad \frac{\partial L}{\partial \hat x} :=
       \frac{\tilde g}{\sqrt{q + \epsilon}}, \qquad \nu \leftarrow \nu + \frac1m \sum_n \tilde g_n z_n

    with the running correction :math:`\nu` and the momentum a of the backward pass. Here q is always measured from the
    batch, even after the warm-up.

    Args:
      x: data of any shape; all axes but the feature axis are rows.
      scale: one factor per feature, or an array with as many axes as ``x``. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      stats: running statistics. None makes a first training step: it uses q and a correction of zero.
      training: with ``stats``, whether this is a training step, as above, or inference with ``stats.square``.
      num_groups: number of consecutive groups of features in the first division; -1 means one for each feature.
      feature_axis: the feature axis.
      epsilon: added to the quadratic means, inside the roots.
      backward_momentum: a, in [0, 1].
      warmup: number of training steps that normalize with batch statistics.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.

    Returns:
      The normalized array, in shape and dtype like ``x`` (the arithmetic is done in at least float32), and in training
      ``PowerStats(q, 0, 1)`` (count 0 without a real row), for :meth:`PowerNorm.update_running`; else ``stats``.

    Raises:
      TypeError: an array is not floating, or ``where`` not boolean.
      ValueError: ``num_groups`` does not divide the features, ``training`` lacks ``stats``, or shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> y, measured = jaxnorm.zoo.power_norm(jnp.array([[1.0, 0.0], [0.0, 2.0]]), epsilon=1e-12)
      >>> y.round(2).tolist(), measured.square.round(2).tolist()
      ([[1.409999966621399, 0.0], [0.0, 1.409999966621399]], [1.0, 1.0])

    Notes:
      In training, jax.grad returns for ``stats.correction`` the amount that the backward pass adds to it, not a
      derivative; :meth:`PowerNorm.correct` adds it. If you do not differentiate with respect to running statistics, as
      in the Flax modules, the correction stays zero, and so does that term of the backward pass.
      It supports only reverse mode, and has no ``axis_name``: a custom backward pass cannot gather over mapped axes.

    Reference:
      S. Shen, Z. Yao, A. Gholami, M. Mahoney, K. Keutzer, "PowerNorm", 2020, arXiv:2003.07845; we follow the published
      code.
    """
    validate.floating("power_norm", "x", x)
    validate.epsilon("power_norm", epsilon)
    validate.in_range("power_norm", "backward_momentum", backward_momentum, 0.0, 1.0)
    if training and stats is None:
        raise ValueError("power_norm: training=True needs the running statistics as stats. Leave it out without them.")
    _, feature, groups = group_axes("power_norm", x.shape, num_groups, feature_axis, feature_axis)
    mask = full_mask("power_norm", x, where)
    split, members, last = in_groups(x, mask, groups, (feature,), feature)
    rule = Standardization(Reduction(last), epsilon, center=False)
    data = standardize(rule, split, where=members).reshape(x.shape)
    rows = tuple(a for a in range(x.ndim) if a != feature)

    def lay(value: Array) -> Array:
        validate.shape(
            "power_norm", "stats", value.shape, (x.shape[feature],), "(F,)", "Are they of the same normalizer?"
        )
        return jnp.expand_dims(value.astype(data.dtype), rows)

    if stats is not None and not training:
        z, measured = masked(data * lax.rsqrt(lay(stats.square) + epsilon), mask), stats
    else:
        nothing = jnp.zeros((x.shape[feature],), data.dtype)
        phi, correction = (lay(nothing), lay(nothing)) if stats is None else (lay(stats.square), lay(stats.correction))
        by_batch = jnp.asarray(True) if stats is None else stats.count < warmup
        how = _How(rows, epsilon, 1.0 - backward_momentum)
        # The custom backward pass has no forward mode; this raises a clear error for it.
        data, correction = for_reverse_mode(_FORWARD_MODE, (data, correction))
        z, q, count = _scaled(how, data, mask, phi, correction, by_batch)
        some = (count > 0).astype(data.dtype)
        some = jnp.squeeze(some, rows) if count.shape[feature] != 1 else some.reshape(())
        measured = PowerStats(jnp.squeeze(q, rows), jnp.zeros_like(nothing), some)
    y = apply_affine("power_norm", z, scale, bias, (feature,))
    return masked(y, mask).astype(x.dtype), measured


class _How(NamedTuple):
    """The static options of the scaling: the row axes, epsilon, and the share 1 - a of the correction."""

    rows: tuple[int, ...]
    epsilon: float
    share: float


_FORWARD_MODE = (
    "power_norm: its backward pass is no derivative, so there is none in forward mode (jax.jvp, jax.linearize, "
    "jax.jacfwd). Use reverse mode, such as jax.grad."
)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scaled(
    how: _How, x: Array, where: Array | None, phi: Array, correction: Array, by_batch: Array
) -> tuple[Array, Array, Array]:
    """Returns z, the quadratic mean of the batch, and its number of rows."""
    count = count_over(x, where, how.rows, None)
    q = sum_over(jnp.square(masked(x, where)), how.rows, None) / jnp.maximum(count, jnp.ones((), count.dtype))
    z = masked(x * lax.rsqrt(jnp.where(by_batch, q, phi) + how.epsilon), where)
    return z, q, count


def _scaled_forward(
    how: _How, x: Array, where: Array | None, phi: Array, correction: Array, by_batch: Array
) -> tuple[tuple[Array, Array, Array], Any]:
    z, q, count = _scaled(how, x, where, phi, correction, by_batch)
    return (z, q, count), (z, q, count, where, correction)


def _scaled_backward(how: _How, kept: Any, gradients: tuple[Array, Array, Array]) -> tuple[Any, ...]:
    """The published backward pass; returns, as gradient of the correction, the amount to add to it."""
    z, q, count, where, correction = kept
    g = masked(gradients[0] - how.share * correction * z, where)
    growth = sum_over(g * z, how.rows, None) / jnp.maximum(count, jnp.ones((), count.dtype))
    return g * lax.rsqrt(q + how.epsilon), None, jnp.zeros_like(q), growth, None


_scaled.defvjp(_scaled_forward, _scaled_backward)


@final
class PowerNorm(HasFeatureAxis, HasEpsilon, HasAffine):
    """The spec of :func:`power_norm`, with the update rule for its running statistics.

    Attributes:
      momentum: weight of the old running quadratic mean; the published code has 0.9.
      warmup: number of training steps that normalize with batch statistics; all but the last average them exactly.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.PowerNorm()
      >>> params, running = norm.init((2,)), norm.initial_stats((2,))
      >>> def loss(params, running, x):
      ...     y, measured = norm.train(params, x, running)
      ...     return jnp.sum(y), measured
      >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
      >>> (_, growth), measured = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, running, x)
      >>> running = norm.correct(norm.update_running(running, measured), growth)
      >>> running.square.round(2).tolist(), running.correction.round(2).tolist(), running.count.tolist()
      ([1.0, 1.0], [0.7099999785423279, 0.7099999785423279], 1.0)
    """

    function = staticmethod(power_norm)
    passed = ("where", "stats", "training")
    num_groups: int = field(default=DEFAULT, kw_only=False)
    feature_axis: int = DEFAULT
    epsilon: float = DEFAULT
    momentum: float = 0.9
    backward_momentum: float = DEFAULT
    warmup: int = DEFAULT

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("momentum", "backward_momentum"):
            validate.in_range("PowerNorm", name, getattr(self, name), 0.0, 1.0)

    def initial_stats(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Stats:
        """Quadratic mean 1, correction 0, no batch."""
        return PowerStats(jnp.ones(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros((), dtype))

    def __call__(
        self,
        params: Params,
        x: Float[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Applies :func:`power_norm`: with batch statistics, as in a first training step, or with ``stats``."""
        return self.apply(power_norm, params, x, stats=stats, training=False, where=where)

    def train(
        self,
        params: Params,
        x: Float[Array, "..."],
        running: Stats,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """A training step: uses the batch in the warm-up and then ``running``, with the paper's backward pass."""
        return self.apply(power_norm, params, x, stats=running, training=True, where=where)

    def update_running(self, running: Stats, measured: Stats) -> Stats:
        r"""Updates the running quadratic mean; there are no rows for time steps.

        As in the published code, all warm-up steps t = 1, 2, ... except the last one start with
        :math:`\phi \leftarrow \phi (t-1)/t + q/t`. Then all steps make :math:`\phi \leftarrow a \phi + (1-a) q`.
        A feature without a real row in the batch does not change.
        """
        q, _, some = map(to_running, measured, running)
        step = running.count + 1.0
        average = toward(running.square, q, 1.0 / step.astype(q.dtype))
        # The last warm-up step normalizes with batch statistics, but does not average them.
        square = jnp.where(step < self.warmup, average, running.square)
        square = toward(square, q, 1.0 - self.momentum)
        square = jnp.where(spread(some, square) > 0, square, running.square)
        return PowerStats(square, running.correction, running.count + jnp.max(some))

    def correct(self, running: PowerStats, gradient: PowerStats) -> PowerStats:
        """Adds what the backward pass gathered: the gradient of a loss with respect to the running statistics."""
        return running._replace(correction=running.correction + gradient.correction)

    def check_site(self, caller: str) -> None:
        """Rejects every site: the statistics of a site are means and variances."""
        raise ValueError(
            f"{caller}: {self!r} cannot be used inside a cell, where statistics are means and variances. "
            "Use BatchNorm()."
        )
