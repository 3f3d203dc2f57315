"""Projects the units of kernels to length one, and gradients to the tangent space."""

import jax.numpy as jnp
import optax

from jaxnorm._base import validate
from jaxnorm._base.typing import Array
from jaxnorm._shared.kernel_axes import AxisRule
from jaxnorm.optim.masks import Mask, kernels
from jaxnorm.optim.updates import Units, transformation
from jaxnorm.weight_norms.unit_norm import unit_norm


def project_weights(
    *, every: int = 1, axis: AxisRule | None = None, mask: Mask = kernels
) -> optax.GradientTransformationExtraArgs:
    r"""Projection-based weight normalization: rescales the weights of each output unit to length one after the update.

    .. math::
       w \leftarrow w + \Delta w, \qquad \text{at each N-th update} \quad w \leftarrow \frac{w}{\lVert w \rVert_2}

    The gradient is the ordinary one, without any normalization.

    Args:
      every: N, the number of updates between projections; the N-th is the first that projects.
      axis: the axes that hold the inputs of a unit; see the module.
      mask: the weights to treat.

    Returns:
      A transformation to place last in the chain; its update needs ``params``.

    Raises:
      ValueError: ``every`` is not positive; in ``init``: the axes of a unit's inputs are not known.

    Example:
      >>> import jax.numpy as jnp, optax, jaxnorm.optim
      >>> optimizer = optax.chain(optax.sgd(1.0), jaxnorm.optim.project_weights())
      >>> params = {"kernel": jnp.array([[1.0], [0.0]])}
      >>> update, _ = optimizer.update({"kernel": jnp.array([[1.0], [-2.0]])}, optimizer.init(params), params)
      >>> optax.apply_updates(params, update)["kernel"].tolist()
      [[0.0], [1.0]]

    Notes:
      For weights of length one from the start, apply ``jaxnorm.weight_norms.unit_norm`` to the initial ones; otherwise
      the first projection does it. A unit with zero weights stays zero.

    Reference:
      L. Huang, X. Liu, B. Lang, B. Li, "Projection Based Weight Normalization for Deep Neural Networks", 2017,
      arXiv:1710.02338. The authors' code projects after every update; 1 to 100 updates were studied.
    """
    period = validate.positive_int("project_weights", "every", every)

    def change(count: Array, update: Array, weights: Array, units: Units, record: None) -> Array:
        projected = unit_norm(weights + update, axis=units.inputs) - weights
        return jnp.where((count + 1) % period == 0, projected, update)

    return transformation("project_weights", change, mask, axis)


def project_gradients(*, axis: AxisRule | None = None, mask: Mask = kernels) -> optax.GradientTransformationExtraArgs:
    r"""Removes the part of each gradient along the weights, which no step on the sphere can follow.

    .. math:: g \leftarrow g - (g \cdot \hat w) \, \hat w, \qquad \hat w = \frac{w}{\lVert w \rVert_2}

    for each output unit: the gradient in the tangent space of the oblique manifold. Place it before the optimizer, and
    :func:`project_weights` after it.

    Args:
      axis: the axes that hold the inputs of a unit; see the module.
      mask: the weights to treat.

    Returns:
      A transformation; its update needs ``params``.

    Example:
      >>> import jax.numpy as jnp, optax, jaxnorm.optim
      >>> project = jaxnorm.optim.project_gradients()
      >>> params = {"kernel": jnp.array([[1.0], [0.0]])}
      >>> update, _ = project.update({"kernel": jnp.array([[5.0], [2.0]])}, project.init(params), params)
      >>> update["kernel"].tolist()
      [[0.0], [2.0]]

    Notes:
      If the weights of a unit are zero, its gradient does not change.

    Reference:
      L. Huang et al. 2017, arXiv:1710.02338, the variant on the oblique manifold.
    """

    def change(count: Array, update: Array, weights: Array, units: Units, record: None) -> Array:
        # The derivative of w / |w| at a unit vector is this projection, so it is exact for any length of w.
        direction = unit_norm(weights, axis=units.inputs)
        return update - direction * jnp.sum(direction * update, axis=units.inputs, keepdims=True)

    return transformation("project_gradients", change, mask, axis)
