"""Decorrelated batch normalization: whitening by the inverse root of the covariance (ZCA)."""

from dataclasses import field
from functools import partial
from typing import final

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base.typing import Array, AxisIndexGroups, AxisName, Bool, Float
from jaxnorm.norms.core.named_axes import named_axes
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.zoo.norms.whitening import _whitening
from jaxnorm.zoo.norms.whitening._whitening import Running, WhiteningSpec, WhiteningStats

__all__ = ["DecorrelatedBatchNorm", "decorrelated_batch_norm"]


def decorrelated_batch_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    stats: WhiteningStats | None = None,
    group_size: int | None = None,
    feature_axis: int = -1,
    epsilon: float = 1e-5,
    running: Running = "matrix",
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> tuple[Float[Array, "..."], WhiteningStats]:
    r"""Removes the correlations between features over the batch, and gives each feature variance one.

    .. math:: \Sigma = \frac1m \sum_n (x_n - \mu)(x_n - \mu)^\top + \epsilon I, \qquad
       y_n = \text{scale} \cdot \Sigma^{-1/2} (x_n - \mu) + \text{bias}, \qquad
       \Sigma^{-1/2} = D \Lambda^{-1/2} D^\top

    with the eigenvectors D and eigenvalues Lambda of the covariance. This is ZCA whitening, which changes the data less
    than any other whitening. In training omit ``stats``: the gradient flows through mean and covariance.

    Args:
      x: data of any shape; all axes but the feature axis are the batch.
      scale: one factor per feature, or an array with as many axes as ``x``. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      stats: statistics to normalize with; None measures them from ``x``.
      group_size: d, the number of consecutive features to whiten together, a divisor of F; None means all.
      feature_axis: the feature axis.
      epsilon: added to the variances (the diagonal of the covariance).
      running: whether the statistics hold the whitening matrix, as published, or the covariance.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients. A row of a group counts as real if all its features are real;
        the output is zero in all other rows.
      axis_name: name or names of mapped axes (``vmap``, ``shard_map``) that the batch spans.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      The whitened array, in shape and dtype like ``x`` (the arithmetic is done in at least float32), and the
      measured statistics, or the ones that were passed in.

    Raises:
      TypeError: an array is not floating, or ``where`` not boolean.
      ValueError: ``group_size`` does not divide the features, shapes do not fit, or ``axis_name`` is not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm, numpy as np
      >>> x = jnp.array([[2.0, 2.0], [-2.0, -2.0], [1.0, -1.0], [-1.0, 1.0]])
      >>> y, measured = jaxnorm.zoo.decorrelated_batch_norm(x, epsilon=1e-12)
      >>> np.asarray(y.T @ y / 4).round(3) + 0.0  # their covariance
      array([[1., 0.],
             [0., 1.]], dtype=float32)

    Notes:
      Squares overflow float32 if data are more than about 1e19 away from their mean.
      Thanks to epsilon, values and gradients are finite for constant, equal or otherwise dependent features, for a
      batch of one and for an empty batch; with ``epsilon=0`` they are not. Whitening needs many more rows than features
      in a group: with few rows, use a small ``group_size``. The published inference averages whitening matrices.

    Reference:
      L. Huang, D. Yang, B. Lang, J. Deng, "Decorrelated Batch Normalization", 2018, arXiv:1804.08450.
    """
    named = named_axes("decorrelated_batch_norm", axis_name, axis_index_groups)
    return _whitening.whiten(
        "decorrelated_batch_norm",
        x,
        scale,
        bias,
        stats,
        partial(_inverse_root, epsilon),
        group_size=group_size,
        feature_axis=feature_axis,
        epsilon=epsilon,
        running=running,
        where=where,
        axis_name=named,
    )


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _inverse_root(epsilon: float, covariance: Float[Array, "G d d"]) -> Float[Array, "G d d"]:
    return _spectral(epsilon, covariance)[0]


def _spectral(epsilon: float, covariance: Array) -> tuple[Array, Array, Array]:
    """Returns the inverse root, the roots of the eigenvalues, and the eigenvectors."""
    eigenvalues, vectors = jnp.linalg.eigh(covariance)
    # Apart from rounding, no eigenvalue is below epsilon.
    tiny = float(jnp.finfo(covariance.dtype).tiny)  # type: ignore[no-untyped-call]
    least = max(epsilon, tiny)  # tiny keeps the roots above zero without epsilon
    roots = jnp.sqrt(jnp.maximum(eigenvalues, jnp.asarray(least, covariance.dtype)))
    return _product(vectors / roots[..., None, :], jnp.swapaxes(vectors, -1, -2)), roots, vectors


@_inverse_root.defjvp
def _inverse_root_jvp(epsilon: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    r"""The derivative of a function of a symmetric matrix, in a form that works with repeated eigenvalues.

    In the basis of eigenvectors, the tangent of :math:`\Sigma^{-1/2}` is the tangent of :math:`\Sigma` times, element
    by element, the divided difference :math:`-1 / (s_i s_j (s_i + s_j))`, with the roots s of the eigenvalues.
    """
    matrix, roots, vectors = _spectral(epsilon, *primals)
    across = jnp.swapaxes(vectors, -1, -2)
    rows, columns = roots[..., :, None], roots[..., None, :]
    change = _product(_product(across, tangents[0]), vectors)
    change = -change / (rows * columns * (rows + columns))
    return matrix, _product(_product(vectors, change), across)


def _product(a: Array, b: Array) -> Array:
    # By default GPUs and TPUs multiply float32 with fewer digits.
    product: Array = jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
    return product


@final
class DecorrelatedBatchNorm(WhiteningSpec):
    """The spec of :func:`decorrelated_batch_norm`; its fields are its keywords, and the momentum of running statistics.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.DecorrelatedBatchNorm(2, momentum=0.5)
      >>> params, running = norm.init((4,)), norm.initial_stats((4,))
      >>> y, measured = norm(params, jnp.ones((3, 4)))
      >>> norm.update_running(running, measured).mean.tolist(), running.matrix.shape
      ([0.5, 0.5, 0.5, 0.5], (2, 2, 2))
    """

    function = staticmethod(decorrelated_batch_norm)
    group_size: int | None = field(default=DEFAULT, kw_only=False)
