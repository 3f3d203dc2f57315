"""Unit rows: gives the weights of each output unit the length one."""

from dataclasses import field
from typing import final

from jaxnorm._base.typing import Array, Axis, Float
from jaxnorm.norms.core.moments import statistics_dtype
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.weight_norms import base
from jaxnorm.weight_norms.base import FixedState, KernelSpec
from jaxnorm.weight_norms.direction import unit


def unit_norm(kernel: Float[Array, "..."], *, axis: Axis | None = None) -> Float[Array, "..."]:
    r"""Divides the weights of each output unit by their length.

    .. math:: w = \frac{v}{\lVert v \rVert_2}

    for each output unit. This is the projection onto the oblique manifold of Huang et al. Their kernels have one row
    per unit; ours have one column.

    Args:
      kernel: v, of any shape.
      axis: the axes of a unit's inputs. None means all but the last, as in (I, O) and (kh, kw, I, O). A kernel with
        three axes needs an explicit axis: 0 for gates (I, G, H), (0, 1) for a one-dimensional convolution (k, I, O).

    Returns:
      An array of the shape and dtype of ``kernel``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``kernel`` is not floating.
      ValueError: an axis is out of range, named twice, or not named with three axes.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> jaxnorm.weight_norms.unit_norm(jnp.array([[3.0, 0.0], [4.0, 0.0]]))
      Array([[0.6, 0. ],
             [0.8, 0. ]], dtype=float32)

    Notes:
      There is no epsilon, as in the paper. A unit of zero weights stays zero, with gradient zero. The gradient with
      respect to v is orthogonal to v.

    Reference:
      L. Huang, X. Liu, B. Lang, B. Li, "Projection Based Weight Normalization for Deep Neural Networks", 2017,
      arXiv:1710.02338.
    """
    axes, _ = base.unit_axes("unit_norm", kernel, axis)
    return unit(kernel.astype(statistics_dtype(kernel.dtype)), axes).astype(kernel.dtype)


@final
class UnitNorm(KernelSpec, FixedState):
    """The spec of :func:`unit_norm`: imposes the constraint by reparametrization. Its fields are the keywords.

    ``jaxnorm.optim.project_weights`` imposes it on the weights themselves instead, after the update.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> spec = jaxnorm.weight_norms.UnitNorm()
      >>> params, state = spec.init(jnp.array([[0.0], [4.0]]))
      >>> spec(params, state).tolist()
      [[0.0], [1.0]]
    """

    function = staticmethod(unit_norm)
    axis: Axis | None = field(default=DEFAULT, kw_only=False)
