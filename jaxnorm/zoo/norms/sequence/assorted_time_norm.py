"""Assorted-time normalization: layer normalization with statistics of the last few time steps."""

from dataclasses import field
from typing import final

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Bool, Float, Real
from jaxnorm.norms.affine_norm import HasAffine, HasEpsilon
from jaxnorm.norms.base import Params, Stateless, Stats
from jaxnorm.norms.core import moments as statistics
from jaxnorm.norms.core.moments import Moments, apply_affine, full_mask, masked, statistics_dtype
from jaxnorm.norms.core.spec import DEFAULT

__all__ = ["AssortedTimeNorm", "assorted_time_norm"]


def assorted_time_norm(
    xs: Real[Array, "T *B F"],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    steps: int = 25,
    memory: Moments | None = None,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
) -> tuple[Float[Array, "T *B F"], Moments]:
    r"""Normalizes the features of each step with statistics of this step and the steps before it.

    .. math::
       \mu_t = \frac1n \sum_{s=t-k+1}^{t} \sum_i x_{s,i}, \qquad
       \sigma_t^2 = \frac1n \sum_{s=t-k+1}^{t} \sum_i (x_{s,i} - \mu_t)^2, \qquad
       y_t = \text{scale} \cdot \frac{x_t - \mu_t}{\sqrt{\sigma_t^2 + \epsilon}} + \text{bias}

    for each example, where n is the number of elements in the sums: k steps, or fewer at the start of a sequence. With
    one step it is layer normalization. Gradients flow into the earlier steps.

    The ``memory`` holds the mean, variance and count of each of the last k - 1 steps. If you pass it to the next call,
    a sequence in pieces gives the same result as the whole sequence. A new sequence starts without memory.

    Args:
      xs: a sequence, time first and features last.
      scale: factor with the shape of the last axis of ``xs``, or with as many axes as ``xs``. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      steps: k, the number of steps that share statistics.
      memory: the second result of the previous call; None at the start of a sequence.
      epsilon: added to the variance, inside the root. With 0, constant steps give ``bias``.
      where: True on real data, broadcastable to ``xs``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.
        A masked step still counts as one of the k steps.

    Returns:
      A sequence of the shape and dtype of ``xs`` (the arithmetic is done in at least float32), and the memory, Moments
      of shape (k - 1, \*B) in time order, with count zero for steps before the start.

    Raises:
      TypeError: ``xs`` is not real, another array not floating, or ``where`` not boolean.
      ValueError: there is no time axis, ``steps`` is not positive, or the memory or another shape does not fit.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> xs = jnp.array([[-1.0, 1.0], [3.0, 5.0]])  # two steps, two features
      >>> ys, memory = jaxnorm.zoo.assorted_time_norm(xs, steps=2, epsilon=0.0)
      >>> ys.round(2).tolist()[0], bool(jnp.allclose(ys[1], (xs[1] - 2.0) / 5.0**0.5))
      ([-1.0, 1.0], True)
      >>> memory.mean.tolist(), memory.var.tolist()
      ([4.0], [1.0])

    Notes:
      Squares overflow float32 if data are more than about 1e19 away from their mean. A memory holds rounded
      means, so far from zero a sequence in pieces is less exact than a whole one.

    Reference:
      C. Pospisil, V. Zadorozhnyy, Q. Ye, "Assorted-Time Normalization for Sequence Models", 2022, arXiv:2209.14439.
    """
    xs = validate.real("assorted_time_norm", "x", xs)
    validate.epsilon("assorted_time_norm", epsilon)
    k = validate.positive_int("assorted_time_norm", "steps", steps)
    if xs.ndim < 2:
        raise ValueError(
            f"assorted_time_norm: xs must have a time axis first and a feature axis last, got shape {xs.shape}. "
            "For a single step add a time axis: xs[None]."
        )
    mask = full_mask("assorted_time_norm", xs, where)
    data = masked(xs.astype(statistics_dtype(xs.dtype)), mask)
    mean, deviation, count = statistics.centered(data, mask, (xs.ndim - 1,), None)
    var = statistics.average(jnp.sum(jnp.square(deviation), axis=-1, keepdims=True), count)
    own = Moments(*(leaf[..., 0] for leaf in (mean, var, jnp.broadcast_to(count, mean.shape))))
    from_mean = masked(data - mean, mask)
    # The rounding error of the means. For the steps in the memory it is unknown, and we take zero.
    lost = statistics.average(jnp.sum(from_mean, axis=-1, keepdims=True), count)[..., 0]
    if memory is None:
        memory = Moments(*(jnp.zeros((k - 1, *leaf.shape[1:]), leaf.dtype) for leaf in own))
    for name, leaf, like in zip(Moments._fields, memory, own, strict=True):
        validate.shape(
            "assorted_time_norm", f"memory.{name}", leaf.shape, (k - 1, *like.shape[1:]), "(k - 1, *B)", "Same k?"
        )
    past = Moments(*(jnp.concatenate([m.astype(o.dtype), o]) for m, o in zip(memory, own, strict=True)))
    lost = jnp.concatenate([jnp.zeros((k - 1, *lost.shape[1:]), lost.dtype), lost])
    shift, var = _over_window(past, lost, own.mean, k)
    square = (var + epsilon)[..., None]
    still = square == 0
    inverse = jnp.where(still, 0.0, lax.rsqrt(jnp.where(still, jnp.ones((), square.dtype), square)))
    y = masked(from_mean - shift[..., None], mask) * inverse
    y = apply_affine("assorted_time_norm", y, scale, bias, (xs.ndim - 1,))
    return masked(y, mask).astype(xs.dtype), jax.tree.map(lambda leaf: leaf[leaf.shape[0] - (k - 1) :], past)


def _over_window(past: Moments, lost: Array, near: Array, k: int) -> tuple[Array, Array]:
    """Returns the mean over each window of k steps, relative to the step's own mean ``near``, and the variance.

    ``lost`` is the rounding error of the steps' means.
    """
    steps = near.shape[0]

    def windows(leaf: Array) -> Array:
        return jnp.stack([leaf[j : j + steps] for j in range(k)])

    mean, var, count = (windows(leaf) for leaf in past)
    weight = count / jnp.maximum(jnp.sum(count, axis=0, keepdims=True), jnp.ones((), count.dtype))
    # We take means relative to the step's own mean, so that they keep their digits far from zero.
    shift = jnp.where(count > 0, (mean - near[None]) + windows(lost), 0.0)
    delta = jnp.sum(weight * shift, axis=0)
    spread = jnp.sum(weight * (var + jnp.square(shift - delta[None])), axis=0)
    return delta, spread


@final
class AssortedTimeNorm(HasEpsilon, HasAffine, Stateless):
    """The spec of :func:`assorted_time_norm`, for whole sequences (T, ..., F); :meth:`stream` accepts pieces.

    Its fields are the keywords. The paper has 25 steps in the adding problem, 20 for text.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.AssortedTimeNorm(2)
      >>> params, xs = norm.init((2,)), jnp.array([[-1.0, 1.0], [3.0, 5.0], [2.0, 2.0]])
      >>> whole, _ = norm(params, xs)
      >>> first, memory = norm.stream(params, xs[:2])
      >>> rest, memory = norm.stream(params, xs[2:], memory)
      >>> bool(jnp.allclose(whole, jnp.concatenate([first, rest])))
      True
    """

    function = staticmethod(assorted_time_norm)
    passed = ("where", "memory")
    steps: int = field(default=DEFAULT, kw_only=False)

    def __post_init__(self) -> None:
        validate.positive_int("AssortedTimeNorm", "steps", self.steps)
        super().__post_init__()

    def stream(
        self,
        params: Params,
        xs: Real[Array, "T *B F"],
        memory: Moments | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "T *B F"], Moments]:
        """Applies :func:`assorted_time_norm` to a piece of a sequence; also returns the memory for the next piece."""
        return self.apply(assorted_time_norm, params, xs, memory=memory, where=where)

    def __call__(
        self,
        params: Params,
        x: Real[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Applies :func:`assorted_time_norm` to a whole sequence; there are no statistics to return."""
        return self.stream(params, x, None, where)[0], ()

    def check_site(self, caller: str) -> None:
        """Rejects every site: a step of a cell sees no other step."""
        raise ValueError(
            f"{caller}: {self!r} cannot be used inside a cell, where a normalizer sees one step at a time. Use "
            "LayerNorm(), which it is for steps=1."
        )
