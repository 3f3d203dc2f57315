"""Weight normalization: trains the length and the direction of each output unit's weights separately."""

from dataclasses import field
from typing import ClassVar, final

from jaxnorm._base import norm_keywords
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.typing import Array, Axis, Float
from jaxnorm.norms.core.moments import statistics_dtype
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.weight_norms import base
from jaxnorm.weight_norms.base import FixedState, KernelParams, KernelSpec, Key, State
from jaxnorm.weight_norms.direction import polar, unit


@answers_keywords(norm_keywords.KERNELS)
def weight_norm(
    kernel: Float[Array, "..."], scale: Float[Array, "..."] | None = None, *, axis: Axis | None = None
) -> Float[Array, "..."]:
    r"""Gives the weights of each output unit a length of their own.

    .. math:: w = g \, \frac{v}{\lVert v \rVert_2}

    for each output unit: v is its part of ``kernel`` and g its ``scale``.

    Args:
      kernel: v, of any shape.
      scale: g, one number per unit: the shape of the kernel without ``axis``. None means one.
      axis: the axes of a unit's inputs. None means all but the last, as in (I, O) and (kh, kw, I, O). A kernel with
        three axes needs an explicit axis: 0 for gates (I, G, H), (0, 1) for a one-dimensional convolution (k, I, O).
        With () each weight is a unit of its own: its sign stays, and g is its magnitude.

    Returns:
      An array of the shape and dtype of ``kernel``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``kernel`` or ``scale`` is not floating.
      ValueError: an axis is out of range, named twice, or not named with three axes; or ``scale`` does not fit.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> v = jnp.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 3.0]])
      >>> jaxnorm.weight_norm(v, jnp.array([10.0, 7.0])).tolist()
      [[5.0, 0.0], [5.0, 0.0], [5.0, 0.0], [5.0, 7.0]]

    Notes:
      There is no epsilon, as in the paper. A unit with v = 0 gives w = 0, with gradient zero. The gradient with respect
      to v is orthogonal to v, so a step of gradient descent can only make v longer.

    Reference:
      T. Salimans, D. P. Kingma, "Weight Normalization: A Simple Reparameterization to Accelerate Training of Deep
      Neural Networks", 2016, arXiv:1602.07868, eqs. 2 and 3.
    """
    axes, units = base.unit_axes("weight_norm", kernel, axis)
    direction = unit(kernel.astype(statistics_dtype(kernel.dtype)), axes)
    return base.rescale("weight_norm", direction, scale, units, kernel.dtype)


@final
class WeightNorm(KernelSpec, FixedState):
    """The spec of :func:`weight_norm`; its fields are its keywords.

    The scale starts as the lengths of the given kernel's units, so a fresh layer computes the same function as before.
    :func:`data_dependent_init` computes other initial scales.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> spec = jaxnorm.WeightNorm()
      >>> params, state = spec.init(jnp.ones((4, 1)))
      >>> params.scale.tolist()
      [2.0]
      >>> spec(params._replace(scale=jnp.array([10.0])), state).ravel().tolist()
      [5.0, 5.0, 5.0, 5.0]
    """

    function = staticmethod(weight_norm)
    axis: Axis | None = field(default=DEFAULT, kw_only=False)

    takes_single_weights: ClassVar[bool] = True

    def init(self, kernel: Float[Array, "..."], key: Key | None = None) -> tuple[KernelParams, State]:
        """Returns the kernel, and the lengths of its units as scale; there is no state."""
        return KernelParams(kernel, unit_lengths(kernel, axis=self.axis)), ()


def unit_lengths(kernel: Float[Array, "..."], *, axis: Axis | None = None) -> Float[Array, "..."]:
    r"""Computes the length of each output unit's weights, :math:`\lVert v \rVert_2`.

    Args:
      kernel: v, of any shape.
      axis: the axes of a unit's inputs; see :func:`weight_norm`.

    Returns:
      An array of the shape of ``kernel`` without ``axis``, in its dtype; computed in at least float32.

    Raises:
      TypeError: ``kernel`` is not floating.
      ValueError: an axis is out of range, named twice, or not named with three axes.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> jaxnorm.weight_norms.unit_lengths(jnp.array([[3.0, 0.0], [4.0, 2.0]])).tolist()
      [5.0, 2.0]
    """
    axes, units = base.unit_axes("unit_lengths", kernel, axis)
    length, _ = polar(kernel.astype(statistics_dtype(kernel.dtype)), axes)
    return length.reshape([kernel.shape[a] for a in units]).astype(kernel.dtype)
