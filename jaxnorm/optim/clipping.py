"""Adaptive gradient clipping for kernels whose rank does not determine their units."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxnorm._base import validate
from jaxnorm._base.paths import variable_names
from jaxnorm._base.typing import Array, PyTree
from jaxnorm._shared.kernel_axes import AxisRule
from jaxnorm.norms.core.moments import statistics_dtype
from jaxnorm.optim.axes import axes_by_path
from jaxnorm.weight_norms.direction import polar


def adaptive_grad_clip(
    clipping: float, *, epsilon: float = 1e-3, axis: AxisRule | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""Clips the gradient of each output unit to a fraction of the norm of its weights.

    .. math::
       g \leftarrow g \, \min\Bigl(1, \; \lambda \frac{\max(\lVert w \rVert_2, \epsilon)}{\lVert g \rVert_2}\Bigr)

    ``optax.adaptive_grad_clip`` uses one ``axis`` for all weights or decides by rank. By rank it mistakes the gates of
    a cell for a convolution, or joins them if the kernel has four axes. This one uses the axes of :func:`unit_axes`.

    Args:
      clipping: :math:`\lambda`, the largest norm of an update relative to that of the weights.
      epsilon: the smallest norm of weights, so that weights at zero can move.
      axis: the axes that hold the inputs of a unit; see :func:`unit_axes`. None instead of axes leaves a
        weight alone, as the paper does with the last layer: ``{"head_kernel": None}``.

    Returns:
      A transformation to place before the optimizer; its update needs ``params``.

    Raises:
      ValueError: a number is not positive; in ``init``: the axes of a unit's inputs are not known.

    Example:
      >>> import jax.numpy as jnp, jaxnorm.optim
      >>> clip = jaxnorm.optim.adaptive_grad_clip(0.1)
      >>> params = {"kernel": jnp.array([[3.0, 3.0], [4.0, 4.0]])}  # two units of length 5
      >>> gradient = {"kernel": jnp.array([[0.3, 6.0], [0.0, 8.0]])}
      >>> clip.update(gradient, clip.init(params), params)[0]["kernel"]
      Array([[0.3, 0.3],
             [0. , 0.4]], dtype=float32)

    Reference:
      A. Brock, S. De, S. L. Smith, K. Simonyan, "High-Performance Large-Scale Image Recognition Without
      Normalization", 2021, arXiv:2102.06171, eq. 3.
    """
    caller = "adaptive_grad_clip"
    validate.positive(caller, "clipping", clipping)
    validate.positive(caller, "epsilon", epsilon)

    def clipped(update: Array, weights: Array, axes: tuple[int, ...]) -> Array:
        dtype = statistics_dtype(weights.dtype)
        length, direction = polar(update.astype(dtype), axes)
        own, _ = polar(weights.astype(dtype), axes)
        most = jnp.asarray(clipping, dtype) * jnp.maximum(own, jnp.asarray(epsilon, dtype))
        return jnp.where(length > most, (most * direction).astype(update.dtype), update)

    def init(params: PyTree) -> optax.EmptyState:
        axes_by_path(caller, params, axis)
        return optax.EmptyState()

    def update(
        updates: PyTree, state: optax.EmptyState, params: PyTree | None = None, **_: Any
    ) -> tuple[PyTree, optax.EmptyState]:
        axes = axes_by_path(caller, params, axis)

        def of_leaf(path: Any, update: Array, weights: Array) -> Array:
            own = variable_names(path)
            return clipped(update, weights, axes[own]) if own in axes else update

        return jax.tree_util.tree_map_with_path(of_leaf, updates, params), state

    return optax.GradientTransformationExtraArgs(init, update)
