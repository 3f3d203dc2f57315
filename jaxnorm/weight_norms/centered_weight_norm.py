"""Centered weight normalization: the weights of each output unit have mean zero and length one."""

from dataclasses import field
from typing import final

import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Axis, Float
from jaxnorm.norms.core.moments import statistics_dtype
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.weight_norms import base
from jaxnorm.weight_norms.base import FixedState, KernelParams, KernelSpec, Key, State
from jaxnorm.weight_norms.direction import unit, without_mean


def centered_weight_norm(
    kernel: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    *,
    axis: Axis | None = None,
    epsilon: float = 0.0,
) -> Float[Array, "..."]:
    r"""Subtracts the mean from the weights of each output unit, and gives them a length of their own.

    .. math:: w = g \, \frac{v - \bar v}{\lVert v - \bar v \rVert_2 + \epsilon}

    for each output unit: v is its part of ``kernel``, :math:`\bar v` the mean of v over the inputs, and g its
    ``scale``.

    Args:
      kernel: v, of any shape.
      scale: g, one number per unit (the shape of the kernel without ``axis``) or one for all. None means one.
      axis: the axes of a unit's inputs. None means all but the last, as in (I, O) and (kh, kw, I, O). A kernel with
        three axes needs an explicit axis: 0 for gates (I, G, H), (0, 1) for a one-dimensional convolution (k, I, O).
      epsilon: added to the length. The paper has none; the authors' code has 1e-5.

    Returns:
      An array of the shape and dtype of ``kernel``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``kernel`` or ``scale`` is not floating.
      ValueError: an axis is out of range, named twice, or not named with three axes; ``scale`` does not fit, or epsilon
        is negative.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> v = jnp.array([[1.0], [4.0], [4.0], [7.0]])
      >>> jaxnorm.weight_norms.centered_weight_norm(v, jnp.array(2.0**0.5)).round(3).ravel().tolist()
      [-1.0, 0.0, 0.0, 1.0]

    Notes:
      A unit whose weights are all equal gives w = 0, with gradient zero if epsilon is zero. The gradient with respect
      to v has mean zero for each unit; without epsilon it is also orthogonal to v. Weight standardization divides by
      the standard deviation instead of the length, so its weights are larger by the root of the number of inputs.

    Reference:
      L. Huang, X. Liu, Y. Liu, B. Lang, D. Tao, "Centered Weight Normalization in Accelerating Training of Deep Neural
      Networks", 2017.
    """
    validate.epsilon("centered_weight_norm", epsilon)
    axes, units = base.unit_axes("centered_weight_norm", kernel, axis)
    direction = unit(without_mean(kernel.astype(statistics_dtype(kernel.dtype)), axes), axes, epsilon)
    return base.rescale("centered_weight_norm", direction, scale, units, kernel.dtype)


@final
class CenteredWeightNorm(KernelSpec, FixedState):
    """The spec of :func:`centered_weight_norm`; its fields are its keywords.

    The authors' code is ``CenteredWeightNorm(scale_init=1.414, epsilon=1e-5)``.

    Attributes:
      learn_scale: whether to train the scale, one number per unit; otherwise it is the constant ``scale_init``.
      scale_init: the scale, or its initial value.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> spec = jaxnorm.weight_norms.CenteredWeightNorm(learn_scale=True, scale_init=2.0)
      >>> params, state = spec.init(jnp.array([[1.0, 3.0], [1.0, 4.0]]))
      >>> params.scale.tolist()
      [2.0, 2.0]
      >>> spec(params, state).round(3)
      Array([[ 0.   , -1.414],
             [ 0.   ,  1.414]], dtype=float32)
    """

    function = staticmethod(centered_weight_norm)
    axis: Axis | None = field(default=DEFAULT, kw_only=False)
    epsilon: float = DEFAULT
    learn_scale: bool = False
    scale_init: float = 1.0

    def init(self, kernel: Float[Array, "..."], key: Key | None = None) -> tuple[KernelParams, State]:
        """Returns the kernel, and the scale if it is trained; there is no state."""
        _, units = base.unit_axes("CenteredWeightNorm.init", kernel, self.axis)
        if not self.learn_scale:
            return KernelParams(kernel), ()
        start = validate.start_value("CenteredWeightNorm", "scale_init", self.scale_init)
        return KernelParams(kernel, jnp.full([kernel.shape[a] for a in units], start, kernel.dtype)), ()

    def __call__(self, params: KernelParams, state: State = ()) -> Float[Array, "..."]:
        """Applies :func:`centered_weight_norm`."""
        kernel, scale = base.kernel_params(params, "CenteredWeightNorm")
        if scale is None:
            scale = jnp.asarray(self.scale_init, statistics_dtype(kernel.dtype))
        return super().__call__(KernelParams(kernel, scale), state)
