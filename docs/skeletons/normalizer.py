"""Scale normalization.

A skeleton to copy to ``jaxnorm/norms/<name>.py``: one plain function, one spec, nothing else in the file. What differs
from normalizer to normalizer is marked with ``# 1`` to ``# 4``; the rest stays as it is.
"""

import dataclasses
from typing import final

import jax.numpy as jnp
from jax import lax

from jaxnorm import _validate
from jaxnorm._typing import Array, Bool, DTypeLike, Float
from jaxnorm.norms import base
from jaxnorm.norms.base import Params, Stateless, Stats
from jaxnorm.norms.moments import full_mask, masked, statistics_dtype


def scale_norm(
    x: Float[Array, "..."],
    scale: Float[Array, ""] | None = None,
    *,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    r"""Divides each example by its Euclidean norm and multiplies it by one number.

    .. math:: y = \text{scale} \cdot \frac{x}{\sqrt{\sum_i x_i^2 + \epsilon}}

    Args:
      x: data with features on the last axis.
      scale: the one factor; None means one.
      epsilon: added to the sum of squares, inside the root; must be positive.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; the output is
        zero there.

    Returns:
      An array of the shape and dtype of ``x``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``x`` is not floating, or ``where`` not boolean.
      ValueError: ``where`` does not fit, or epsilon is negative.

    Example:
      >>> scale_norm(jnp.array([3.0, 4.0]), jnp.array(10.0), epsilon=1e-12).tolist()
      [6.0, 8.0]

    Reference:
      T. Q. Nguyen, J. Salazar, "Transformers without Tears", 2019, arXiv:1910.05895, eq. 5.
    """
    _validate.floating("scale_norm", "x", x)
    _validate.epsilon("scale_norm", epsilon)
    mask = full_mask("scale_norm", x, where)
    data = masked(x.astype(statistics_dtype(x.dtype)), mask)  # a selection: NaN under the mask goes nowhere
    square = jnp.sum(jnp.square(data), axis=-1, keepdims=True)  # 1: the equation
    y = data * lax.rsqrt(square + jnp.asarray(epsilon, data.dtype))
    if scale is not None:
        y = y * scale.astype(y.dtype).reshape((1,) * y.ndim)
    return y.astype(x.dtype)


@final
@dataclasses.dataclass(frozen=True)
class ScaleNorm(Stateless):  # without Stateless: initial_stats and fold, as in batch_norm.py
    """The spec of :func:`scale_norm`.

    Attributes:
      epsilon: added to the sum of squares, inside the root.
      scale_init: initial value of the scale; the paper has the root of the number of features.

    Example:
      >>> norm = ScaleNorm(scale_init=2.0)
      >>> y, _ = norm(norm.init(()), jnp.array([[3.0, 4.0]]))
      >>> bool(jnp.allclose(y, jnp.array([[1.2, 1.6]])))
      True
    """

    _: dataclasses.KW_ONLY
    epsilon: float = 1e-5  # 2: hyper-parameters, all hashable
    scale_init: float = 1.0

    def __post_init__(self) -> None:
        _validate.epsilon("ScaleNorm", self.epsilon)

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """One number, whatever the data."""
        return ()  # 3: the shape of scale and bias

    def init(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Params:
        """``Affine(scale, None)``."""
        return base.init_affine((), dtype, self.scale_init, None)

    def __call__(
        self,
        params: Params,
        x: Float[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Applies :func:`scale_norm`; there are no statistics to hand on."""
        scale, _ = base.affine_of(params, "ScaleNorm")
        return scale_norm(x, scale, epsilon=self.epsilon, where=where), ()

    def check_site(self, where: str) -> None:
        """Refuses sites: they lay parameters out by gates, and one number has no gates."""
        raise ValueError(f"{where}: {self!r} cannot be used inside a cell.")  # 4: or base.check_last_axis(...)
