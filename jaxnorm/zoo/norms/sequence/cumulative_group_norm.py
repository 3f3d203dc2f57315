"""Cumulative group normalization: statistics of all steps up to now, as streams need them."""

from dataclasses import field
from typing import final

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Axis, Bool, Float, Real
from jaxnorm.norms.affine_norm import HasAffine, HasEpsilon
from jaxnorm.norms.base import Params, Stateless, Stats
from jaxnorm.norms.core.axes import group_axes, in_groups
from jaxnorm.norms.core.moments import (
    apply_affine,
    average,
    count_over,
    full_mask,
    masked,
    rounded_average,
    statistics_dtype,
)
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.zoo.norms.sequence._prefix_sums import first_steps, next_step, prefix_sums, previous

__all__ = ["CumulativeGroupNorm", "CumulativeStats", "cumulative_group_norm"]


class CumulativeStats(NamedTuple):
    """Statistics of all steps so far, for each example and group: the mean is ``origin + shift``.

    The origin is a mean near the data, which stays the same. So a mean far from zero keeps its digits over many steps.
    """

    origin: Float[Array, "..."]
    shift: Float[Array, "..."]
    var: Float[Array, "..."]
    count: Float[Array, "..."]  # type: ignore[assignment]  # shadows tuple.count, which nobody calls here


def cumulative_group_norm(
    xs: Real[Array, "T *B F"],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    num_groups: int = 1,
    axis: Axis = -1,
    memory: CumulativeStats | None = None,
    reset: Bool[Array, "T ..."] | None = None,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
) -> tuple[Float[Array, "T *B F"], CumulativeStats]:
    r"""Normalizes groups of features of each step with statistics of this step and all steps before it.

    .. math::
       \mu_{t,g} = \frac{1}{n} \sum_{s \le t} \sum_{i \in g} x_{s,i}, \qquad
       \sigma^2_{t,g} = \frac{1}{n} \sum_{s \le t} \sum_{i \in g} (x_{s,i} - \mu_{t,g})^2, \qquad
       y_{t,i} = \text{scale}_i \cdot \frac{x_{t,i} - \mu_{t,g(i)}}{\sqrt{\sigma^2_{t,g(i)} + \epsilon}} + \text{bias}_i

    for each example, where n is the number of elements in the sums. No step sees a later one. One group is cumulative
    layer normalization, as many groups as features are cumulative instance normalization.

    The ``memory`` holds the statistics so far. If you pass it to the next call, a sequence in pieces, down to single
    steps, gives the same result as the whole sequence. A new sequence starts without memory.

    Args:
      xs: a sequence, time first and features last.
      scale: one factor per feature (not per group), or an array with as many axes as ``xs``. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      num_groups: number of groups; must divide F. -1 means one for each feature.
      axis: the axes that share statistics within a step: the last, and those of positions, if there are any.
      memory: the second result of the previous call; None at the start of a sequence.
      reset: True where a new sequence begins, (T, \*B); statistics before that step are forgotten.
      epsilon: added to the variance, inside the root. With 0, constant steps give ``bias``.
      where: True on real data, broadcastable to ``xs``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.

    Returns:
      A sequence of the shape and dtype of ``xs`` (the arithmetic is done in at least float32), and the memory,
      CumulativeStats of shape (\*B, G).

    Raises:
      TypeError: an array is not floating, or ``where`` or ``reset`` not boolean.
      ValueError: ``num_groups`` does not divide the features, ``axis`` lacks the last axis or has the first, or the
        memory, ``reset`` or another shape does not fit.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> xs = jnp.array([[-1.0, 1.0], [3.0, 5.0]])  # two steps, two features
      >>> ys, memory = jaxnorm.zoo.cumulative_group_norm(xs, epsilon=0.0)
      >>> ys.round(2).tolist()[0], bool(jnp.allclose(ys[1], (xs[1] - 2.0) / 5.0**0.5))
      ([-1.0, 1.0], True)
      >>> (memory.origin + memory.shift).tolist(), memory.var.tolist(), memory.count.tolist()
      ([2.0], [5.0], [4.0])

    Notes:
      Sums are taken relative to the mean of the first real step, and the variance is a sum of squares, so nothing
      cancels: at an offset of 1e4 deviations outputs keep an error below 1e-5, step by step too. Squares overflow
      float32 if data are more than about 1e19 apart. With ``reset`` the sums take time that grows with the square of
      the number of steps in a call. Same computation in training and inference.

    Reference:
      Y. Luo, N. Mesgarani, "Conv-TasNet", 2019, arXiv:1809.07454, cumulative layer normalization; with the groups of
      Y. Wu, K. He, "Group Normalization", 2018, arXiv:1803.08494.
    """
    caller = "cumulative_group_norm"
    xs = validate.real(caller, "xs", xs)
    validate.epsilon(caller, epsilon)
    if xs.ndim < 2:
        raise ValueError(
            f"{caller}: xs must have a time axis first and a feature axis last, got shape {xs.shape}. "
            "For a single step add a time axis: xs[None]."
        )
    axes, feature, groups = group_axes(caller, xs.shape, num_groups, axis, -1)
    if 0 in axes:
        raise ValueError(f"{caller}: axis={axis} must not name the time axis 0, over which statistics grow anyway.")
    mask = full_mask(caller, xs, where)
    data, members, axes = in_groups(masked(xs.astype(statistics_dtype(xs.dtype)), mask), mask, groups, axes, feature)
    steps, from_mean = _measure_steps(data, members, axes)
    begins = None if reset is None else _check_reset(caller, reset, xs.shape, axes, steps.count.ndim)
    origin, so_far = _accumulate(_prepend(caller, memory, steps), begins)
    # The step's own rounded mean, relative to the mean of all steps.
    shift = (steps.origin - origin[1:]) - so_far.shift[1:]
    square = so_far.var[1:] + jnp.asarray(epsilon, data.dtype)
    still = square == 0
    inverse = jnp.where(still, 0.0, lax.rsqrt(jnp.where(still, jnp.ones((), square.dtype), square)))
    y = masked(from_mean + jnp.expand_dims(shift, axes), members) * jnp.expand_dims(inverse, axes)
    y = apply_affine(caller, y.reshape(xs.shape), scale, bias, (feature,))
    return masked(y, mask).astype(xs.dtype), jax.tree.map(lambda leaf: leaf[-1], so_far)


def _measure_steps(data: Array, members: Array | None, axes: tuple[int, ...]) -> tuple[CumulativeStats, Array]:
    """Measures each step by itself, with the rounded mean as origin; returns the deviations from it as well."""
    count = count_over(data, members, axes, None)
    origin = lax.stop_gradient(rounded_average(jnp.sum(data, axis=axes, keepdims=True), count))
    from_mean = masked(data - origin, members)
    shift = average(jnp.sum(from_mean, axis=axes, keepdims=True), count)
    square = jnp.sum(jnp.square(masked(from_mean - shift, members)), axis=axes, keepdims=True)
    measured = CumulativeStats(origin, shift, average(square, count), jnp.broadcast_to(count, origin.shape))
    return jax.tree.map(lambda leaf: jnp.squeeze(leaf, axes), measured), from_mean


def _accumulate(steps: CumulativeStats, begins: Array | None) -> tuple[Array, CumulativeStats]:
    """Statistics of all steps up to each step: of the sequence that began at the last reset."""
    count = steps.count
    start = None if begins is None else first_steps(begins)
    following = next_step(count > 0)
    first = following[:1] if start is None else jnp.take_along_axis(following, start, axis=0)
    origin = lax.stop_gradient(jnp.take_along_axis(steps.origin, first, axis=0))
    origin = jnp.broadcast_to(origin, count.shape)
    shift = jnp.where(count > 0, (steps.origin - origin) + steps.shift, 0.0)
    total = prefix_sums(count, start)
    mean = average(prefix_sums(count * shift, start), total)
    # A variance grows by squares alone (Welford): that of the step, and that between its mean and the mean before.
    between = average(previous(total, start) * count, total) * jnp.square(shift - previous(mean, start))
    var = average(prefix_sums(count * steps.var + between, start), total)
    return origin, CumulativeStats(origin, mean, var, total)


def _prepend(caller: str, memory: CumulativeStats | None, steps: CumulativeStats) -> CumulativeStats:
    """Puts the memory before the first step: it is like a step with the statistics of all steps before."""
    if memory is None:
        memory = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), steps)
    for name, leaf, like in zip(CumulativeStats._fields, memory, steps, strict=True):
        validate.shape(caller, f"memory.{name}", leaf.shape, like.shape[1:], "(*B, G)", "Same batch and groups?")
    return CumulativeStats(*(jnp.concatenate([m[None].astype(s.dtype), s]) for m, s in zip(memory, steps, strict=True)))


def _check_reset(caller: str, reset: Array, shape: tuple[int, ...], axes: tuple[int, ...], ndim: int) -> Array:
    """Checks the resets, and gives them the axes of statistics with the memory before the first step."""
    validate.boolean(caller, "reset", reset)
    expected = shape[: min(*axes, len(shape) - 1)]
    validate.shape(caller, "reset", reset.shape, shape[: reset.ndim], "(T, *B)", "Lay it out like xs.")
    if not 0 < reset.ndim <= len(expected):
        raise ValueError(f"{caller}: reset must have the shape (T, *B) = {expected}, got {reset.shape}.")
    wide = reset.reshape(reset.shape + (1,) * (ndim - reset.ndim))
    return jnp.concatenate([jnp.zeros_like(wide[:1]), wide])


@final
class CumulativeGroupNorm(HasEpsilon, HasAffine, Stateless):
    """The spec of :func:`cumulative_group_norm`, for whole sequences (T, ..., F); :meth:`stream` accepts pieces.

    Its fields are the keywords.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.CumulativeGroupNorm()  # one group: cumulative layer normalization
      >>> params, xs = norm.init((2,)), jnp.array([[-1.0, 1.0], [3.0, 5.0], [2.0, 2.0]])
      >>> whole, _ = norm(params, xs)
      >>> first, memory = norm.stream(params, xs[:2])
      >>> rest, memory = norm.stream(params, xs[2:], memory)
      >>> bool(jnp.allclose(whole, jnp.concatenate([first, rest])))
      True
    """

    function = staticmethod(cumulative_group_norm)
    passed = ("where", "memory", "reset")
    num_groups: int = field(default=DEFAULT, kw_only=False)
    axis: Axis = DEFAULT

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The number of features."""
        return shape[-1:]

    def stream(
        self,
        params: Params,
        xs: Real[Array, "T *B F"],
        memory: CumulativeStats | None = None,
        where: Bool[Array, "..."] | None = None,
        reset: Bool[Array, "T ..."] | None = None,
    ) -> tuple[Float[Array, "T *B F"], CumulativeStats]:
        """Normalizes a piece of a sequence; also returns the memory for the next piece."""
        return self.apply(cumulative_group_norm, params, xs, memory=memory, where=where, reset=reset)

    def __call__(
        self,
        params: Params,
        x: Real[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Applies :func:`cumulative_group_norm` to a whole sequence; there are no statistics to return."""
        return self.stream(params, x, None, where)[0], ()

    def check_site(self, caller: str) -> None:
        """Rejects every site: a step of a cell sees no other step."""
        raise ValueError(
            f"{caller}: {self!r} cannot be used inside a cell, where a normalizer sees one step at a time. Use "
            "LayerNorm() or GroupNorm(axis=-1)."
        )
