"""Adaptive layer normalization (AdaLN), and adaLN-Zero."""

from collections.abc import Callable
from dataclasses import field
from typing import final

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Axis, AxisIndexGroups, AxisName, Bool, DTypeLike, Float
from jaxnorm.norms import base
from jaxnorm.norms.affine_norm import HasAxisName, HasEpsilon
from jaxnorm.norms.base import Key, Params, Stateless, Stats
from jaxnorm.norms.core.moments import aligned_param, full_mask, masked, statistics_dtype
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.norms.layer_norm import layer_norm

__all__ = ["AdaLayerNorm", "AdaLayerNormParams", "Modulation", "ada_layer_norm", "ada_layer_norm_zero"]


class AdaLayerNormParams(NamedTuple):
    """The parameters of :class:`AdaLayerNorm`: a linear map from C condition numbers to scale, shift and gate (M)."""

    kernel: Float[Array, "C M ..."]
    bias: Float[Array, "M ..."]


class Modulation(NamedTuple):
    """The modulation of features by a condition: scale and shift, both zero for no change, and perhaps a gate.

    Each has the shape of the data along the normalized axes, or as many axes as the data (one value per example).
    """

    scale: Float[Array, "..."]
    shift: Float[Array, "..."]
    gate: Float[Array, "..."] | None = None


def ada_layer_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."],
    shift: Float[Array, "..."],
    *,
    axis: Axis = -1,
    epsilon: float = 1e-6,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> Float[Array, "..."]:
    r"""Normalizes each example over its features, then applies a scale and a shift that depend on a condition.

    .. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \cdot (1 + \text{scale}(c)) + \text{shift}(c)

    with the mean and the biased variance of layer normalization.

    Args:
      x: data of any shape.
      scale: added to a factor of one. An array with as many axes as ``x``, of size 1 where it does not vary (B, 1, F
        for one condition per sequence), or with the shape of ``x`` along ``axis``.
      shift: summand, shaped like ``scale``.
      axis: the axis or axes that share statistics.
      epsilon: added to the variance, inside the root. With 0 a constant row gives ``shift``, with gradient zero.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.
      axis_name: name or names of mapped axes over which the features are spread.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      An array of the shape and dtype of ``x``; the arithmetic is done in at least float32.

    Raises:
      TypeError: an array is not floating, or ``where`` not boolean.
      ValueError: shapes do not fit, an axis is out of range, or ``axis_name`` is not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> x = jnp.array([[1.0, 3.0], [1.0, 3.0]])
      >>> scale, shift = jnp.array([[0.0], [1.0]]), jnp.array([[0.0], [10.0]])  # one of each for an example
      >>> jaxnorm.zoo.ada_layer_norm(x, scale, shift, epsilon=0.0)
      Array([[-1.,  1.],
             [ 8., 12.]], dtype=float32)

    Notes:
      Same computation in training and inference.

    Reference:
      W. Peebles, S. Xie, "Scalable Diffusion Models with Transformers", 2023, arXiv:2212.09748.
    """
    validate.floating("ada_layer_norm", "x", x)
    validate.floating("ada_layer_norm", "scale", scale)
    where = full_mask("ada_layer_norm", x, where)
    dtype = statistics_dtype(x.dtype)
    factor = jnp.ones((), dtype) + scale.astype(dtype)
    return layer_norm(
        x,
        factor,
        shift,
        axis=axis,
        epsilon=epsilon,
        where=where,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
    )


def ada_layer_norm_zero(
    x: Float[Array, "..."],
    block: Callable[[Array], Array],
    scale: Float[Array, "..."],
    shift: Float[Array, "..."],
    gate: Float[Array, "..."],
    *,
    axis: Axis = -1,
    epsilon: float = 1e-6,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> Float[Array, "..."]:
    r"""A residual block around adaptive layer normalization, with a gate that starts closed.

    .. math:: y = x + \text{gate}(c) \cdot F\Bigl(\frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \cdot
       (1 + \text{scale}(c)) + \text{shift}(c)\Bigr)

    Scale, shift and gate come from a linear map that starts at zero (:class:`AdaLayerNorm`), so the block starts as the
    identity.

    Args:
      x: data of any shape.
      block: F, a function from an array like ``x`` to one of the same shape: attention, or a feed-forward network.
      scale: see :func:`ada_layer_norm`.
      shift: see :func:`ada_layer_norm`.
      gate: factor of the block's output, shaped like ``scale``.
      axis: the axis or axes that share statistics.
      epsilon: added to the variance, inside the root.
      where: True on real data, broadcastable to ``x``. Masked elements give zero; ``block`` sees zeros there, and
        its output there is ignored.
      axis_name: name or names of mapped axes over which the features are spread.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      An array of the shape and dtype of ``x``; the sum is computed in at least float32.

    Raises:
      TypeError: an array is not floating, or ``where`` not boolean.
      ValueError: a shape does not fit, for example that of the block's output, or an axis is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> x, zero = jnp.array([[1.0, 3.0]]), jnp.zeros(2)
      >>> jaxnorm.zoo.ada_layer_norm_zero(x, jnp.negative, zero, zero, zero)  # starts as the identity
      Array([[1., 3.]], dtype=float32)
      >>> jaxnorm.zoo.ada_layer_norm_zero(x, jnp.negative, zero, zero, jnp.ones(2), epsilon=0.0)
      Array([[2., 2.]], dtype=float32)

    Reference:
      W. Peebles, S. Xie, "Scalable Diffusion Models with Transformers", 2023, arXiv:2212.09748.
    """
    y = ada_layer_norm(
        x,
        scale,
        shift,
        axis=axis,
        epsilon=epsilon,
        where=where,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
    )
    mask, dtype = full_mask("ada_layer_norm_zero", x, where), statistics_dtype(x.dtype)
    output = block(y)
    validate.shape(
        "ada_layer_norm_zero", "block(y)", output.shape, x.shape, "x.shape", "A residual needs equal shapes."
    )
    axes = validate.axes("ada_layer_norm_zero", axis, x.ndim)
    factor = aligned_param("ada_layer_norm_zero", "gate", gate, x.shape, axes, dtype)
    data, output = (masked(array.astype(dtype), mask) for array in (x, output))
    return masked(data + factor * output, mask).astype(x.dtype)


@final
class AdaLayerNorm(HasEpsilon, HasAxisName, Stateless):
    r"""The spec of :func:`ada_layer_norm`, with the linear map from a condition to scale and shift.

    .. math:: (\text{scale}, \text{shift}, \text{gate})(c) = \mathrm{SiLU}(c) \, W + b

    W and b start at zero, so a fresh layer is a layer normalization without scale and bias. As ``params`` pass either
    the parameters of this map, with the condition as a keyword, or a :class:`Modulation` from :meth:`modulation`. In a
    cell use ``LayerNorm()``, with ``Affine(1 + scale, shift)`` as its parameters.

    Attributes:
      condition_features: C, the length of the conditioning vector.
      use_gate: whether the map has a gate output too (adaLN-Zero), for
        ``ada_layer_norm_zero(x, block, *norm.modulation(params, condition))``; the call itself does not use it.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.AdaLayerNorm(4)
      >>> params = norm.init((2,))
      >>> params.kernel.shape  # condition, (scale, shift), features
      (4, 2, 2)
      >>> y, _ = norm(params, jnp.array([[1.0, 3.0]]), condition=jnp.ones((1, 4)))
      >>> y.round(3)
      Array([[-1.,  1.]], dtype=float32)

    Notes:
      The published code orders the outputs of the map as shift, scale, gate; we order them as scale, shift, gate.

    Reference:
      W. Peebles, S. Xie, "Scalable Diffusion Models with Transformers", 2023, arXiv:2212.09748.
    """

    function = staticmethod(ada_layer_norm)
    params_type = Modulation
    condition_features: int = field(kw_only=False)
    axis: Axis = field(default=DEFAULT, kw_only=False)
    epsilon: float = DEFAULT
    use_gate: bool = False

    def __post_init__(self) -> None:
        validate.positive_int("AdaLayerNorm", "condition_features", self.condition_features)
        super().__post_init__()

    def init(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32, *, key: Key | None = None) -> Params:
        """``AdaLayerNormParams(kernel, bias)``, all zero, for features of the given shape."""
        outputs = (3 if self.use_gate else 2, *shape)
        return AdaLayerNormParams(jnp.zeros((self.condition_features, *outputs), dtype), jnp.zeros(outputs, dtype))

    def modulation(self, params: AdaLayerNormParams, condition: Float[Array, "*B C"] | None = None) -> Modulation:
        r"""Computes scale, shift and gate (\*B, features) for conditions (\*B, C); None means a condition of zeros.

        It accumulates the products in at least float32. If the data have axes between batch and features, add axes of
        size 1 there: ``jax.tree.map(lambda leaf: leaf[:, None], modulation)``.
        """
        kernel, bias = base.weights_of(params, AdaLayerNormParams, "AdaLayerNorm.modulation")
        dtype = statistics_dtype(kernel.dtype)
        outputs = bias.astype(dtype)
        if condition is not None:
            validate.floating("AdaLayerNorm.modulation", "condition", condition)
            validate.shape(
                "AdaLayerNorm.modulation",
                "condition",
                condition.shape,
                (*condition.shape[:-1], kernel.shape[0]),
                "(*B, C)",
                "Its last axis is condition_features long.",
            )
            given = jax.nn.silu(condition.astype(dtype))
            product = jnp.tensordot(given, kernel.astype(dtype), axes=1)
            outputs = product + outputs.reshape((1,) * (condition.ndim - 1) + outputs.shape)
        place = outputs.ndim - bias.ndim
        return Modulation(*(jnp.take(outputs, k, axis=place) for k in range(bias.shape[0])))

    def __call__(
        self,
        params: Params,
        x: Float[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
        *,
        condition: Float[Array, "*B C"] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Applies :func:`ada_layer_norm`; there are no statistics to return."""
        if isinstance(params, Modulation) and condition is not None:
            raise ValueError(
                "AdaLayerNorm: condition is given beside a Modulation, which has scale and shift already. Pass either "
                "the weights and a condition, or a Modulation."
            )
        modulation = params if isinstance(params, Modulation) else self.modulation(params, condition)
        return self.apply(ada_layer_norm, modulation._replace(gate=None), x, where=where), ()

    def check_site(self, caller: str) -> None:
        """Rejects every site: no condition reaches it."""
        raise ValueError(
            f"{caller}: {self!r} cannot be used inside a cell, which hands no condition on. Use LayerNorm() and put "
            "Affine(1 + scale, shift) of a modulation into its weights, under jax.vmap where each example has its own."
        )
