"""Normalization by the mean absolute value.

A skeleton to copy to ``jaxnorm/norms/<name>.py``: one plain function, one spec, nothing else in the file. What differs
from normalizer to normalizer is marked with ``# 1`` to ``# 4``; the rest stays as it is.
"""

import dataclasses
from typing import final

import jax.numpy as jnp

from jaxnorm import _validate
from jaxnorm._typing import Array, Bool, DTypeLike, Float
from jaxnorm.norms import base
from jaxnorm.norms.base import Params, Stateless, Stats
from jaxnorm.norms.core.moments import apply_affine, count_over, full_mask, masked, statistics_dtype, sum_over


def abs_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    *,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    r"""Divides each example by the mean absolute value of its features.

    .. math:: y = \text{scale} \cdot \frac{x}{\frac1D \sum_i |x_i| + \epsilon}

    Args:
      x: data with features on the last axis.
      scale: one factor for each feature, or an array with as many axes as ``x``; None means one.
      epsilon: added to the mean; must be positive.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; the output is
        zero there.

    Returns:
      An array of the shape and dtype of ``x``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``x`` or ``scale`` is not floating, or ``where`` not boolean.
      ValueError: shapes do not fit, or epsilon is negative.

    Example:
      >>> abs_norm(jnp.array([3.0, -1.0]), jnp.array([2.0, 2.0]), epsilon=0.0).tolist()
      [3.0, -1.0]

    Reference:
      The scale of L1 batch normalization, E. Hoffer, R. Banner, I. Golan, D. Soudry, "Norm matters", 2018,
      arXiv:1803.01814, taken over features, without the mean and without the constant.
    """
    _validate.floating("abs_norm", "x", x)
    _validate.epsilon("abs_norm", epsilon)
    mask = full_mask("abs_norm", x, where)
    data = masked(x.astype(statistics_dtype(x.dtype)), mask)  # a selection: NaN under the mask goes nowhere
    axes = (x.ndim - 1,)
    count = jnp.maximum(count_over(data, mask, axes, None), jnp.ones((), data.dtype))
    mean = sum_over(jnp.abs(data), axes, None) / count  # 1: the equation
    y = data / (mean + jnp.asarray(epsilon, data.dtype))
    y = apply_affine("abs_norm", y, scale, None, axes)
    return y.astype(x.dtype)


@final
@dataclasses.dataclass(frozen=True)
class AbsNorm(Stateless):  # without Stateless: initial_stats and fold, as in batch_norm.py
    """The spec of :func:`abs_norm`.

    Attributes:
      epsilon: added to the mean absolute value.
      scale_init: initial value of the scale.

    Example:
      >>> norm = AbsNorm(scale_init=2.0)
      >>> y, _ = norm(norm.init((2,)), jnp.array([[3.0, -1.0]]))
      >>> bool(jnp.allclose(y, jnp.array([[3.0, -1.0]]), atol=1e-4))
      True
    """

    _: dataclasses.KW_ONLY
    epsilon: float = 1e-5  # 2: hyper-parameters, all hashable
    scale_init: float = 1.0

    def __post_init__(self) -> None:
        _validate.epsilon("AbsNorm", self.epsilon)

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The length of the last axis."""
        return shape[-1:]  # 3: the shape of scale and bias

    def init(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Params:
        """``Affine(scale, None)`` of the given shape."""
        return base.init_affine(shape, dtype, self.scale_init, None)

    def __call__(
        self,
        params: Params,
        x: Float[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Applies :func:`abs_norm`; there are no statistics to hand on."""
        scale, _ = base.affine_of(params, "AbsNorm")
        return abs_norm(x, scale, epsilon=self.epsilon, where=where), ()

    def check_site(self, caller: str) -> None:
        """Fits every site: it acts on the last axis."""  # 4: or base.check_last_axis(where, self, self.axis)
