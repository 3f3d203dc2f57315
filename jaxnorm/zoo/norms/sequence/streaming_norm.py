"""Streaming normalization: gathers statistics, and their gradients, between and over weight updates."""

from dataclasses import field, replace
from functools import partial
from typing import Any, TypeAlias, final

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.reverse_mode import for_reverse_mode
from jaxnorm._base.typing import Array, Axis, Bool, DTypeLike, Float
from jaxnorm.norms.base import Params, Stats
from jaxnorm.norms.core import moments as statistics
from jaxnorm.norms.core import running as running_statistics
from jaxnorm.norms.core.axes import batch_axes
from jaxnorm.norms.core.moments import (
    Moments,
    full_mask,
    masked,
    merge,
    normalize,
    ratio,
)
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.zoo.norms.batch._running_in_training import RunningInTraining

__all__ = ["StreamingNorm", "StreamingStats", "streaming_norm"]


class StreamingStats(NamedTuple):
    """Running statistics of :class:`StreamingNorm`.

    ``long`` is the moving average over weight updates, and ``short`` holds the statistics of all data since the last
    one. ``gradient_long`` and ``gradient_short`` are the same averages of the gradients with respect to the statistics:
    ``mean`` for the mean, ``var`` for the variance, ``count`` for the number of elements.
    """

    long: Moments
    short: Moments
    gradient_long: Moments
    gradient_short: Moments


def streaming_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    stats: StreamingStats,
    weights: tuple[float, float] = (0.5, 0.5),
    backward_weights: tuple[float, float, float] = (0.5, 0.5, 0.0),
    axis: Axis | None = None,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
) -> tuple[Float[Array, "..."], Moments]:
    r"""Normalizes each feature in training with a mixture of long-term and short-term statistics, at any batch size.

    .. math::
       s = a_1 s_{long} + a_2 s_{short}, \qquad
       y = \text{scale} \cdot \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \text{bias}, \qquad s = (\mu, \sigma^2)

    where :math:`s_{short}` are the statistics of all data since the last weight update, including x, and
    :math:`s_{long}` is their moving average over weight updates. The backward pass replaces the gradient :math:`g` of
    the loss with respect to s by a gradient that is gathered in the same way:

    .. math:: \hat g = b_1 g_{long} + b_2 g_{short} + b_3 g

    and propagates it to x as in batch normalization. With ``a = (0, 1)``, ``b = (0, 0, 1)`` and one call per weight
    update it is batch normalization.

    Args:
      x: data of any shape; a batch of one works too.
      scale: one factor for each feature, as in :func:`jaxnorm.batch_norm`. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      stats: running statistics, as :class:`StreamingNorm` makes and updates them.
      weights: :math:`a_1, a_2`, of the long and short statistics; they sum to 1.
      backward_weights: :math:`b_1, b_2, b_3`, of the long, the short and the present gradient.
      axis: the axes to reduce; None means all but the last.
      epsilon: added to the variance, inside the root.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.

    Returns:
      The normalized array, in shape and dtype like ``x`` (the arithmetic is done in at least float32), and the
      Moments of this call, for :meth:`StreamingNorm.accumulate` or :meth:`StreamingNorm.update_running`.

    Raises:
      TypeError: an array is not floating, or ``where`` not boolean.
      ValueError: a weight is out of range, the weights of the statistics do not sum to 1, or shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> stats = jaxnorm.zoo.StreamingNorm().initial_stats((1,))  # long: mean 0, variance 1; short: nothing yet
      >>> x = jnp.array([[3.0], [5.0]])  # mean 4, variance 1: the mixtures are 2 and 1
      >>> y, measured = jaxnorm.zoo.streaming_norm(x, stats=stats, weights=(0.5, 0.5), epsilon=0.0)
      >>> y.tolist(), measured.mean.tolist()
      ([[1.0], [3.0]], [4.0])

    Notes:
      Squares overflow float32 if data are more than about 1e19 away from their mean.
      For ``stats``, jax.grad does not return a derivative but the gradients that the backward pass gathers, weighted by
      the number of elements; pass them to :meth:`StreamingNorm.correct`. Several calls within one loss (the steps of a
      sequence) add up; the backward pass of each call uses its own gradient and the ones gathered before this loss. If
      you do not differentiate with respect to running statistics, as in the Flax modules, the long gradient stays zero.
      It supports only reverse mode, and has no ``axis_name``: a custom backward pass cannot gather over mapped axes.
      We worked from a re-implementation, not from the paper. We assume the following. Statistics are mean and biased
      variance, each averaged. The short ones are exact over all elements. The long ones start with mean 0 and variance
      1, their gradients with 0. A gradient is averaged over calls with the number of elements as weight, so the loss
      should be a mean. And :math:`\hat g` reaches x through the statistics of this call in full, without the factor
      :math:`a_2`, so if all statistics agree, x gets the gradient of batch normalization.

    Reference:
      Q. Liao, K. Kawaguchi, T. Poggio, "Streaming Normalization", 2016, arXiv:1610.06160.
    """
    validate.floating("streaming_norm", "x", x)
    validate.epsilon("streaming_norm", epsilon)
    _check_weights("streaming_norm", weights, backward_weights)
    axes = batch_axes("streaming_norm", x.ndim, axis)
    mask = full_mask("streaming_norm", x, where)
    measured = statistics.moments(x, axis=axes, where=mask)
    mean = measured.mean
    validate.shape(
        "streaming_norm", "stats", stats.long.mean.shape, mean.shape, "(*F)", "Are they of the same normalizer?"
    )
    own = measured._replace(count=jnp.broadcast_to(measured.count, mean.shape))
    known: StreamingStats = jax.tree.map(lambda leaf: leaf.astype(mean.dtype), stats)
    how = tuple(weights), tuple(backward_weights)
    # The custom backward pass has no forward mode; for_reverse_mode raises a clear error for it.
    mixed = _mixed(how, *for_reverse_mode(_FORWARD_MODE, (own, known)))
    y = normalize(masked(x, mask), Moments(*mixed, own.count), scale, bias, axis=axes, epsilon=epsilon)
    return masked(y, mask), measured


_How: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
"""The static options: the weights of the statistics, and the weights of their gradients."""

_FORWARD_MODE = (
    "streaming_norm: its backward pass is no derivative, so there is none in forward mode (jax.jvp, jax.linearize, "
    "jax.jacfwd). Use reverse mode, such as jax.grad."
)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mixed(how: _How, own: Moments, stats: StreamingStats) -> tuple[Array, Array]:
    """Returns the mean and variance to normalize with."""
    a_long, a_short = how[0]
    short = merge(stats.short, own)  # the short statistics include this call
    return a_long * stats.long.mean + a_short * short.mean, a_long * stats.long.var + a_short * short.var


def _mixed_forward(how: _How, own: Moments, stats: StreamingStats) -> tuple[tuple[Array, Array], Any]:
    return _mixed(how, own, stats), (own.count, stats)


def _mixed_backward(
    how: _How, kept: tuple[Array, StreamingStats], g: tuple[Array, Array]
) -> tuple[Moments, StreamingStats]:
    """Returns the streamed gradients for this call's statistics, and for the running ones the gradients to gather."""
    b_long, b_short, b_own = how[1]
    count, stats = kept
    share = ratio(count, stats.gradient_short.count + count)

    def streamed(long: Array, short: Array, own: Array) -> Array:
        return b_long * long + b_short * (short + share * (own - short)) + b_own * own

    long, short = stats.gradient_long, stats.gradient_short
    through = Moments(streamed(long.mean, short.mean, g[0]), streamed(long.var, short.var, g[1]), jnp.zeros_like(count))
    nothing = jax.tree.map(jnp.zeros_like, stats)
    gathered = Moments(count * g[0], count * g[1], count)
    return through, nothing._replace(gradient_short=gathered)


_mixed.defvjp(_mixed_forward, _mixed_backward)


def _check_weights(caller: str, weights: tuple[float, ...], backward_weights: tuple[float, ...]) -> None:
    for name, values, size in (("weights", weights, 2), ("backward_weights", backward_weights, 3)):
        if len(values) != size:
            raise ValueError(f"{caller}: {name} must be {size} numbers, got {values!r}.")
        for value in values:
            validate.in_range(caller, name, value, 0.0, 1.0)
    if abs(sum(weights) - 1.0) > 1e-6:
        raise ValueError(f"{caller}: weights must be 1 together, got {weights!r}. Pass (a, 1 - a).")


@final
class StreamingNorm(RunningInTraining):
    r"""The spec of :func:`streaming_norm`, with the rules by which its running statistics move.

    The defaults are for feed-forward networks (:meth:`feedforward`); for recurrent networks use :meth:`recurrent`.

    Attributes:
      momentum: :math:`k_1`, weight of the old long statistics at a weight update.
      backward_momentum: :math:`k_3`, weight of the old long gradients at a weight update.

    Example:
      One example at a time, several for each weight update:

      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.StreamingNorm(backward_weights=(0.25, 0.5, 0.25))
      >>> params, running = norm.init((2,)), norm.initial_stats((2,))
      >>> def loss(params, running, x):
      ...     y, measured = norm.train(params, x, running)
      ...     return jnp.mean((y - 1.0) ** 2), measured
      >>> gradient = jax.grad(loss, argnums=(0, 1), has_aux=True)
      >>> sums = jax.tree.map(jnp.zeros_like, params)
      >>> for x in jnp.array([[[1.0, 4.0]], [[3.0, 8.0]]]):  # a batch of one, twice
      ...     (slopes, gathered), measured = gradient(params, running, x)
      ...     sums = jax.tree.map(jnp.add, sums, slopes)
      ...     running = norm.correct(norm.accumulate(running, measured), gathered)
      >>> params = jax.tree.map(lambda p, s: p - 0.1 * s / 2, params, sums)  # the weight update
      >>> running.short.mean.tolist(), running.short.var.tolist()
      ([2.0, 6.0], [1.0, 4.0])
      >>> running = norm.update(running)  # the short statistics go into the long ones
      >>> [round(float(value), 3) for value in (*running.long.mean, *running.long.var)], running.short.count.tolist()
      ([0.6, 1.8, 1.0, 1.9], [0.0, 0.0])
      >>> y, _ = norm(params, x, running)  # inference: by the long statistics

    Note:
      Treat each time step of a sequence as one call; all steps share one set of statistics. Carry ``running`` through
      the loop over steps with ``accumulate``, and differentiate with respect to the initial ``running`` of the loop.
      The loop of this library's cells does not carry running statistics in training, so no site accepts this spec.
    """

    function = staticmethod(streaming_norm)
    passed = ("where", "stats")
    statistics = "stats"
    axis: Axis | None = field(default=DEFAULT, kw_only=False)
    epsilon: float = DEFAULT
    weights: tuple[float, float] = DEFAULT
    backward_weights: tuple[float, float, float] = DEFAULT
    momentum: float = 0.7
    backward_momentum: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "weights", tuple(self.weights))
        object.__setattr__(self, "backward_weights", tuple(self.backward_weights))
        _check_weights("StreamingNorm", self.weights, self.backward_weights)
        for name in ("momentum", "backward_momentum"):
            validate.in_range("StreamingNorm", name, getattr(self, name), 0.0, 1.0)

    @classmethod
    def feedforward(cls, **changes: Any) -> "StreamingNorm":
        """The values for feed-forward networks: a = (.5, .5), b = (.5, .5, 0), both momenta .7."""
        return replace(cls(weights=(0.5, 0.5), backward_weights=(0.5, 0.5, 0.0)), **changes)

    @classmethod
    def recurrent(cls, **changes: Any) -> "StreamingNorm":
        """The values for recurrent networks: a = (.7, .3), b = (.7, 0, .3), both momenta .7."""
        return replace(cls(weights=(0.7, 0.3), backward_weights=(0.7, 0.0, 0.3)), **changes)

    def initial_stats(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Stats:
        """Long statistics with mean 0 and variance 1, empty short statistics, and gradients 0."""
        zeros = jnp.zeros(shape, dtype)
        nothing = Moments(zeros, zeros, zeros)
        once = nothing._replace(count=jnp.zeros((), dtype))
        return StreamingStats(self.initial_moments(shape, dtype), nothing, once, nothing)

    def __call__(
        self,
        params: Params,
        x: Float[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Normalizes with the long statistics, for inference; for training call :meth:`train`."""
        return super().__call__(params, x, None if stats is None else stats.long, where)[0], stats

    def accumulate(self, running: StreamingStats, measured: Moments) -> StreamingStats:
        """Adds the statistics of a call (or of several, on a leading axis) to the short ones; no gradient flows."""
        return running._replace(short=running_statistics.update_running(running.short, measured, momentum=None))

    def correct(self, running: StreamingStats, gradient: StreamingStats) -> StreamingStats:
        """Adds the gathered gradients: the gradient of a loss with respect to the running statistics."""
        short, (mean, var, count) = running.gradient_short, gradient.gradient_short
        total = short.count + count

        def average(old: Array, gathered: Array) -> Array:
            return old + (gathered - count * old) / jnp.maximum(total, 1.0)

        return running._replace(gradient_short=Moments(average(short.mean, mean), average(short.var, var), total))

    def update(self, running: StreamingStats) -> StreamingStats:
        r"""At a weight update: :math:`s_{long} \leftarrow k_1 s_{long} + (1 - k_1) s_{short}`, and resets short.

        It does the same for the gradients, with :math:`k_3`. A feature without measurements does not change.
        """
        long, short, of_long, of_short = running
        long = running_statistics.update_running(long, short, momentum=self.momentum)
        of_long = running_statistics.update_running(of_long, of_short, momentum=self.backward_momentum)
        return StreamingStats(
            long, jax.tree.map(jnp.zeros_like, short), of_long, jax.tree.map(jnp.zeros_like, of_short)
        )

    def update_running(self, running: Stats, measured: Stats) -> Stats:
        """A weight update after one call: :meth:`accumulate`, then :meth:`update`. Call :meth:`correct` before it."""
        return self.update(self.accumulate(running, measured))
