"""Weight standardization: gives the weights of each output unit mean zero and variance one."""

import math
from dataclasses import field
from typing import final

import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Axis, Float
from jaxnorm.norms.core.moments import statistics_dtype
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.weight_norms import base
from jaxnorm.weight_norms.base import FixedState, KernelSpec
from jaxnorm.weight_norms.direction import unit, without_mean


def weight_standardization(
    kernel: Float[Array, "..."], *, axis: Axis | None = None, epsilon: float = 1e-5, ddof: int = 0
) -> Float[Array, "..."]:
    r"""Standardizes the weights of each output unit.

    .. math::
       w = \frac{v - \bar v}{\sigma + \epsilon}, \qquad \sigma^2 = \frac{1}{n - \text{ddof}} \sum_j (v_j - \bar v)^2

    for each output unit: v is its part of ``kernel``, and :math:`\bar v` the mean of v over its n inputs j.

    Args:
      kernel: v, of any shape.
      axis: the axes of a unit's inputs. None means all but the last, as in (I, O) and (kh, kw, I, O). A kernel with
        three axes needs an explicit axis: 0 for gates (I, G, H), (0, 1) for a one-dimensional convolution (k, I, O).
      epsilon: added to the standard deviation, outside the root.
      ddof: 0 is the biased standard deviation, 1 the unbiased one of the authors' PyTorch code.

    Returns:
      An array of the shape and dtype of ``kernel``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``kernel`` is not floating.
      ValueError: an axis is out of range, named twice, or not named with three axes; epsilon is negative, ddof is
        neither 0 nor 1, or a unit has no more inputs than ddof.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> v = jnp.array([[1.0], [3.0], [5.0]])
      >>> jaxnorm.weight_standardization(v, ddof=1).round(3).ravel().tolist()
      [-1.0, 0.0, 1.0]

    Notes:
      There is no gain, because a normalizer with a gain should follow the layer. A unit whose weights are all equal
      gives w = 0. Its gradient is finite: the equation divides it by epsilon, and if epsilon is zero, so is the
      gradient. The gradient with respect to v has mean zero for each unit.

    Reference:
      S. Qiao, H. Wang, C. Liu, W. Shen, A. Yuille, "Micro-Batch Training with Batch-Channel Normalization and Weight
      Standardization", 2019, arXiv:1903.10520. The authors' code uses the biased standard deviation in TensorFlow and
      the unbiased one in PyTorch.
    """
    validate.epsilon("weight_standardization", epsilon)
    _check_ddof("weight_standardization", ddof)
    axes, _ = base.unit_axes("weight_standardization", kernel, axis)
    count = math.prod(kernel.shape[a] for a in axes)
    if count <= ddof:
        raise ValueError(
            f"weight_standardization: a unit of kernel with shape {kernel.shape} has {count} inputs along axis={axis}, "
            f"but ddof={ddof} needs more. Name other axes, or use ddof=0."
        )
    # sigma is the length divided by this root, so we scale epsilon by the root to add it to the length.
    root = math.sqrt(count - ddof)
    direction = unit(without_mean(kernel.astype(statistics_dtype(kernel.dtype)), axes), axes, epsilon * root)
    return (direction * jnp.asarray(root, direction.dtype)).astype(kernel.dtype)


@final
class WeightStandardization(KernelSpec, FixedState):
    """The spec of :func:`weight_standardization`; its fields are its keywords.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> spec = jaxnorm.WeightStandardization()
      >>> params, state = spec.init(jnp.array([[1.0], [3.0]]))
      >>> spec(params, state).round(3).tolist()
      [[-1.0], [1.0]]
    """

    function = staticmethod(weight_standardization)
    axis: Axis | None = field(default=DEFAULT, kw_only=False)
    epsilon: float = DEFAULT
    ddof: int = DEFAULT

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_ddof("WeightStandardization", self.ddof)


def _check_ddof(caller: str, ddof: int) -> None:
    if ddof not in (0, 1):
        raise ValueError(f"{caller}: ddof must be 0 or 1, got {ddof!r}.")
