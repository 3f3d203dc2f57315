"""Cosine normalization: a product with a kernel, divided by the lengths of both factors."""

from dataclasses import field
from typing import final

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.starts import check_start, filled
from jaxnorm._base.typing import Array, Bool, DTypeLike, Float, Initializer, PRNGKeyArray, Real, Shaped
from jaxnorm.norms import base
from jaxnorm.norms.core.moments import count_over, full_mask, masked, statistics_dtype
from jaxnorm.norms.core.spec import DEFAULT, Spec, keywords_of

__all__ = ["CosineNorm", "CosineParams", "cosine_norm"]


class CosineParams(NamedTuple):
    """The parameters of :class:`CosineNorm`; scale is None if the spec has none."""

    kernel: Float[Array, "I F"]
    scale: Float[Array, ""] | None


def cosine_norm(
    x: Real[Array, "*B I"],
    kernel: Float[Array, "I F"],
    scale: Float[Array, ""] | None = None,
    *,
    centered: bool = False,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "*B F"]:
    r"""Computes the cosine of the angle between each example and each column of a kernel, instead of their product.

    .. math:: y_j = \text{scale} \cdot \frac{w_j \cdot x}{\lVert w_j \rVert \lVert x \rVert + \epsilon}

    for the columns w of the kernel; the result is between -1 and 1. With ``centered`` it first subtracts the means of x
    and of each w over the inputs, which gives Pearson's correlation.

    Args:
      x: data with I features on the last axis. For a convolution pass the patches.
      kernel: one column for each of the F outputs.
      scale: one factor for all outputs; None means one. A softmax of cosines needs one well above 1.
      centered: whether to subtract means first.
      epsilon: added to the product of the lengths. With 0 an example or a column of length zero gives zero, with
        gradient zero.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included: only the
        real features of an example count. An example without real features gives zeros.

    Returns:
      Cosines with the dtype of ``x``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``x`` is not real, another array not floating, or ``where`` not boolean.
      ValueError: shapes do not fit, or epsilon is negative.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> kernel = jnp.array([[1.0, 0.0], [0.0, 2.0]])
      >>> jaxnorm.zoo.cosine_norm(jnp.array([[3.0, 4.0]]), kernel, epsilon=0.0)
      Array([[0.6, 0.8]], dtype=float32)

    Notes:
      If a mask varies over features, the columns still have their full length, and with ``centered`` their full mean.
      There is no bias. We give the equations from memory of the paper; we chose the place of epsilon ourselves.

    Reference:
      C. Luo, J. Zhan, L. Wang, Q. Yang, "Cosine Normalization", 2017, arXiv:1702.05870.
    """
    x = validate.real("cosine_norm", "x", x)
    validate.floating("cosine_norm", "kernel", kernel)
    validate.epsilon("cosine_norm", epsilon)
    if kernel.ndim != 2 or x.shape[-1:] != kernel.shape[:1]:
        raise ValueError(
            f"cosine_norm: kernel must have shape (I, F) with I = {x.shape[-1:]} features of x, got {kernel.shape}. "
            "Outputs are the columns of the kernel."
        )
    mask = full_mask("cosine_norm", x, where)
    dtype = statistics_dtype(x.dtype)
    data, columns = masked(x.astype(dtype), mask), kernel.astype(dtype)
    if centered:
        last = (x.ndim - 1,)
        count = jnp.maximum(count_over(data, mask, last, None), jnp.ones((), dtype))
        data = masked(data - jnp.sum(data, axis=-1, keepdims=True) / count, mask)
        columns = columns - jnp.mean(columns, axis=0, keepdims=True)
    product = jnp.matmul(data, columns, precision="highest")
    of_columns = _length(columns, 0).reshape((1,) * (x.ndim - 1) + (-1,))
    lengths = _length(data, -1) * of_columns + epsilon
    nothing = lengths == 0
    y = jnp.where(nothing, 0.0, product / jnp.where(nothing, jnp.ones((), dtype), lengths))
    if scale is not None:
        validate.floating("cosine_norm", "scale", scale)
        validate.shape("cosine_norm", "scale", scale.shape, (), "()", "One number serves all outputs.")
        y = y * scale.astype(dtype)
    return y.astype(x.dtype)


def _length(vectors: Array, axis: int) -> Array:
    """Computes Euclidean lengths, with gradient zero at zero."""
    square = jnp.sum(jnp.square(vectors), axis=axis, keepdims=True)
    nothing = square == 0
    return jnp.where(nothing, 0.0, jnp.sqrt(jnp.where(nothing, jnp.ones((), square.dtype), square)))


def lecun_normal(key: PRNGKeyArray | Shaped[Array, "2"], shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Draws normal numbers with variance 1/I."""
    drawn: Array = jax.nn.initializers.lecun_normal()(key, shape, dtype)
    return drawn


@final
class CosineNorm(Spec):
    """The spec of :func:`cosine_norm`: a dense layer without bias, with cosines as outputs.

    It maps I features to F others, so it is not a :class:`jaxnorm.Normalizer`, which keeps the shape of the data.

    Attributes:
      features: F, the number of outputs.
      use_scale: whether to multiply all outputs by one learned number.
      scale_init: initial value of the scale, a number or an initializer.
      kernel_init: initializer of the kernel (I, F); only the directions of the columns matter, not their lengths.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> layer = jaxnorm.zoo.CosineNorm(3)
      >>> params = layer.init(jax.random.key(0), 5)
      >>> y = layer(params, jnp.ones((2, 5)))
      >>> y.shape, bool((abs(y) <= 1).all())
      ((2, 3), True)
    """

    function = staticmethod(cosine_norm)
    passed = ("where",)
    features: int = field(kw_only=False)
    centered: bool = DEFAULT
    epsilon: float = DEFAULT
    use_scale: bool = False
    scale_init: float | Initializer = 1.0
    kernel_init: Initializer = lecun_normal

    def __post_init__(self) -> None:
        validate.positive_int("CosineNorm", "features", self.features)
        validate.epsilon("CosineNorm", self.epsilon)
        check_start("CosineNorm", "scale_init", self.scale_init)

    def init(
        self, key: PRNGKeyArray | Shaped[Array, "2"], in_features: int, dtype: DTypeLike = jnp.float32
    ) -> CosineParams:
        """Fresh parameters for inputs with ``in_features`` features."""
        size = validate.positive_int("CosineNorm.init", "in_features", in_features)
        scale = filled(self.scale_init, jax.random.fold_in(key, 1), (), dtype) if self.use_scale else None
        return CosineParams(self.kernel_init(key, (size, self.features), dtype), scale)

    def __call__(
        self, params: CosineParams, x: Float[Array, "*B I"], where: Bool[Array, "..."] | None = None
    ) -> Float[Array, "*B F"]:
        """Applies :func:`cosine_norm`."""
        kernel, scale = base.weights_of(params, CosineParams, "CosineNorm")
        return cosine_norm(x, kernel, scale, where=where, **keywords_of(self, cosine_norm))
