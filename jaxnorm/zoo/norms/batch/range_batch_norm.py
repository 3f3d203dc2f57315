"""Batch normalization with the range of the data."""

import math
from dataclasses import field
from functools import partial
from typing import Literal, TypeAlias, final

import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Axis, AxisIndexGroups, AxisName, Bool, Float
from jaxnorm.norms.affine_norm import HasAxisName
from jaxnorm.norms.core.batch_base import BatchSpec
from jaxnorm.norms.core.moments import Moments
from jaxnorm.norms.core.named_axes import NamedAxes, named_axes
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.zoo.norms.batch._deviation import scaled_batch_norm
from jaxnorm.zoo.norms.batch._maximum import maximum_over

__all__ = ["RangeBatchNorm", "range_batch_norm"]


Constant: TypeAlias = Literal["published", "consistent", "code"]
_FACTORS = {
    "published": 1.0 / math.sqrt(2.0),
    "consistent": 1.0 / math.sqrt(8.0),
    "code": 0.5 * 0.35 * (1.0 + math.sqrt(math.pi * math.log(4.0))) / math.sqrt(2.0),
}


def range_batch_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    constant: Constant = "published",
    chunks: int = 1,
    moments: Moments | None = None,
    axis: Axis | None = None,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> tuple[Float[Array, "..."], Moments]:
    r"""Normalizes each feature over the batch, with the range of its values.

    .. math::
       y = \text{scale} \cdot \frac{x - \mu}{s + \epsilon} + \text{bias}, \qquad
       s = C_m \, (\overline{\max} - \overline{\min})

    We split the n elements of ``axis``, in their order, into ``chunks`` of m = n / chunks elements. The bars are means
    over the chunks, of their largest and of their smallest elements. With one chunk it is the range of all elements.

    Args:
      x: data of any shape.
      scale: one factor for each feature, as in :func:`jaxnorm.batch_norm`. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      constant: "published" for :math:`C_m = 1/\sqrt{2 \ln m}`; "consistent" for half of it,
        :math:`1/\sqrt{8 \ln m}`, with which s tends to the standard deviation of normal data as m grows; "code" for
        :math:`0.35 (1 + \sqrt{\pi \ln 4}) / \sqrt{8 \ln m}`, as in the published code.
      chunks: number of chunks; it must divide n. The published code has 16, with its own constant.
      moments: statistics to normalize with; None measures them from ``x``.
      axis: the axes to reduce; None means all but the last.
      epsilon: added to s.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there. Chunks without a real element are
        ignored, and m is the mean number of real elements in the others.
      axis_name: name or names of mapped axes that the batch spans; allowed only with one chunk.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      The normalized array, in shape and dtype like ``x`` (the arithmetic is done in at least float32), and the
      Moments that were measured or passed in. Their ``var`` holds :math:`s^2`, so that :func:`jaxnorm.update_running`,
      :func:`jaxnorm.population` and others treat it as a variance.

    Raises:
      TypeError: an array is not floating, ``where`` not boolean, or chunks not an integer.
      ValueError: an unknown word, a number of elements that chunks does not divide, chunks with ``axis_name``, shapes
        that do not fit, an axis out of range, or ``axis_name`` not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> x = jnp.array([[0.0], [1.0], [2.0], [5.0]])
      >>> y, measured = jaxnorm.zoo.range_batch_norm(x, epsilon=0.0)
      >>> bool(jnp.isclose(measured.var[0], 25 / (2 * jnp.log(4.0))))
      True

    Notes:
      A feature that is constant over the batch, and a batch of one, give ``bias``, with finite gradients, even
      with ``epsilon=0``. A batch without a real element gives zero. For m = 1 we use :math:`C_2`.
      With the published constant, s is 1.57 (n = 32) to 1.83 (n = 65536) times the standard deviation of
      normal data, and the scale has to compensate for it. With the code's constant, 16 chunks and m from 32 to 65536,
      it is 0.85 to 0.99 times. We quote the published constant from memory; the mean range of normal data,
      :math:`\sqrt{8 \ln n} \sigma`, comes from the authors' poster. The published code also adds epsilon to s. It draws
      the initial scale uniformly from (0, 1) and computes in 8 bits; we do not.

    Reference:
      R. Banner, I. Hubara, E. Hoffer, D. Soudry, "Scalable Methods for 8-bit Training of Neural Networks", 2018,
      arXiv:1805.11046.
    """
    validate.choice("range_batch_norm", "constant", constant, tuple(_FACTORS))
    named = named_axes("range_batch_norm", axis_name, axis_index_groups)
    chunks = validate.positive_int("range_batch_norm", "chunks", chunks)
    _check_chunks("range_batch_norm", chunks, axis_name)
    return scaled_batch_norm(
        "range_batch_norm",
        x,
        scale,
        bias,
        estimate=partial(_estimate, factor=_FACTORS[constant], chunks=chunks, axis_name=named),
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
    factor: float,
    chunks: int,
    axis_name: NamedAxes | None,
) -> Array:
    if chunks == 1:
        spread = maximum_over(data, where, axes, axis_name) + maximum_over(-data, where, axes, axis_name)
        size = count
    else:
        spread, size = _over_chunks(data, where, axes, chunks)
    return spread * (factor / jnp.sqrt(jnp.log(jnp.maximum(size, jnp.asarray(2.0, size.dtype)))))


def _over_chunks(data: Array, where: Array | None, axes: tuple[int, ...], chunks: int) -> tuple[Array, Array]:
    """Returns the mean range of the chunks that have real elements, and the mean number of real elements in them."""
    kept = tuple(a for a in range(data.ndim) if a not in axes)
    number = math.prod(data.shape[a] for a in axes)
    if number % chunks:
        raise ValueError(
            f"range_batch_norm: chunks={chunks} must divide the number of elements of each feature, got {number} for x "
            f"of shape {data.shape}. Choose a divisor of it, or chunks=1."
        )

    def cut(array: Array) -> Array:
        return array.transpose(*kept, *axes).reshape(*(data.shape[a] for a in kept), chunks, number // chunks)

    rows, real = cut(data), cut(jnp.ones(data.shape, bool) if where is None else jnp.broadcast_to(where, data.shape))
    last = (rows.ndim - 1,)
    spread = maximum_over(rows, real, last, None) + maximum_over(-rows, real, last, None)
    elements = jnp.sum(real.astype(data.dtype), axis=-1)
    filled = jnp.maximum(jnp.sum((elements > 0).astype(data.dtype), axis=-1), jnp.ones((), data.dtype))
    shape = tuple(1 if a in axes else size for a, size in enumerate(data.shape))
    mean_range = jnp.sum(spread[..., 0], axis=-1) / filled
    return mean_range.reshape(shape), (jnp.sum(elements, axis=-1) / filled).reshape(shape)


def _check_chunks(caller: str, chunks: int, axis_name: AxisName | None) -> None:
    if chunks > 1 and axis_name is not None:
        raise ValueError(
            f"{caller}: chunks={chunks} is defined for the elements of one array, and axis_name={axis_name!r} spreads "
            "them over several. Use chunks=1, or leave axis_name out."
        )


@final
class RangeBatchNorm(BatchSpec, HasAxisName):
    """The spec of :func:`range_batch_norm`; its fields are its keywords, and those of its update rule.

    Attributes:
      momentum: weight of the old running statistics; None for the average over all data seen, which pools the
        estimates as if they were variances.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.RangeBatchNorm(constant="code", chunks=2)
      >>> y, measured = norm(norm.init((1,)), jnp.array([[1.0], [3.0], [2.0], [8.0]]))
      >>> [round(float(value), 2) for value in y[:, 0]]
      [-1.36, -0.27, -0.82, 2.45]
    """

    function = staticmethod(range_batch_norm)
    axis: Axis | None = field(default=DEFAULT, kw_only=False)
    constant: Constant = DEFAULT
    chunks: int = DEFAULT
    epsilon: float = DEFAULT
    momentum: float | None = DEFAULT
    debias: bool = DEFAULT

    def __post_init__(self) -> None:
        super().__post_init__()
        validate.choice("RangeBatchNorm", "constant", self.constant, tuple(_FACTORS))
        validate.positive_int("RangeBatchNorm", "chunks", self.chunks)
        _check_chunks("RangeBatchNorm", self.chunks, self.axis_name)
