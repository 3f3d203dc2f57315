"""Data-dependent initialization of a model, layer by layer, for weight-normalized layers."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax.numpy as jnp
from jax import lax

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, AxisIndexGroups, AxisName, Bool, Float
from jaxnorm.norms.base import Affine
from jaxnorm.norms.core.moments import align, moments

Layer: TypeAlias = tuple[Callable[[Array], Array], Callable[[Array], Array]]
"""Two functions: the part of a layer before scale and bias, and the part after them."""


def data_dependent_init(
    layers: Sequence[Layer],
    x: Float[Array, "..."],
    *,
    feature_axes: int = 1,
    init_scale: float = 1.0,
    epsilon: float = 0.0,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> tuple[Affine, ...]:
    r"""Chooses the scale and bias of every layer so that one batch has standardized pre-activations.

    .. math::
       t = \frac{v \cdot x}{\lVert v \rVert_2}, \qquad
       g = \frac{1}{\sqrt{\operatorname{var}[t] + \epsilon}}, \qquad b = -g \operatorname{mean}[t], \qquad
       y = \phi(g t + b)

    for each output unit. Mean and biased variance run over the batch (and over all positions of an image or sequence).
    y is the x of the next layer.

    Args:
      layers: two functions for each layer: the first maps x to t; the second, :math:`\phi`, maps the standardized
        pre-activations to the x of the next layer. Pooling, dropout, residuals and the like may go into either.
      x: one batch, the input of the first layer.
      feature_axes: number of trailing axes of t that belong to the units: 1 for (\*batch, O), 2 for gates
        (\*batch, G, H).
      init_scale: multiplies g and b.
      epsilon: added to the variance, inside the root. The paper and its first code have none; the authors' TensorFlow
        code has 1e-10.
      where: True on real examples; its axes are the leading axes of every t. Masked examples may hold anything, NaN
        included.
      axis_name: name or names of mapped axes that the batch spans.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      ``Affine(scale, bias)`` for each layer, where g and b have the shape of the units and the dtype of t.

    Raises:
      ValueError: a t has no batch, or an argument is out of range.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> v = jnp.array([[2.0], [0.0]])
      >>> layers = [(lambda x: x @ jaxnorm.weight_norm(v), jax.nn.relu)]
      >>> (first,) = jaxnorm.weight_norms.data_dependent_init(layers, jnp.array([[1.0, 5.0], [5.0, 6.0]]))
      >>> first.scale.tolist(), first.bias.tolist()  # of t = 1, 5
      ([0.5], [-1.5])

    Notes:
      If epsilon is zero, a unit with the same t for the whole batch gets the scale ``init_scale``. If mean-only batch
      normalization follows the layer, use only g: that normalization subtracts the mean. Do not use this for recurrent
      kernels, since they see their own outputs; those keep the length of their usual initial values.

    Reference:
      T. Salimans, D. P. Kingma, "Weight Normalization", 2016, arXiv:1602.07868, eqs. 5 and 6.
    """
    name = "data_dependent_init"
    validate.epsilon(name, epsilon)
    axes = validate.positive_int(name, "feature_axes", feature_axes)
    found: list[Affine] = []
    for before, after in layers:
        t = before(x)
        validate.floating(name, "t", t)
        if t.ndim <= axes:
            raise ValueError(
                f"{name}: t of layer {len(found)} must have a batch before its {axes} feature axes, got shape "
                f"{t.shape}. Let every layer keep the batch."
            )
        mask = None if where is None else where.reshape(where.shape + (1,) * (t.ndim - where.ndim))
        units = tuple(range(t.ndim - axes, t.ndim))
        measured = moments(
            t, axis=tuple(range(t.ndim - axes)), where=mask, axis_name=axis_name, axis_index_groups=axis_index_groups
        )
        # A constant unit gets the scale init_scale. The inner select below keeps rsqrt away from zero.
        one, square = jnp.ones((), measured.var.dtype), measured.var + jnp.asarray(epsilon, measured.var.dtype)
        constant = square == 0
        scale = jnp.asarray(init_scale, square.dtype) * jnp.where(
            constant, one, lax.rsqrt(jnp.where(constant, one, square))
        )
        bias = -scale * measured.mean
        found.append(Affine(scale.astype(t.dtype), bias.astype(t.dtype)))
        wide = t.astype(scale.dtype) * align(scale, t.ndim, units) + align(bias, t.ndim, units)
        x = after(wide.astype(t.dtype))
    return tuple(found)
