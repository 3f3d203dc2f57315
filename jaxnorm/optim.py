r"""Optax transformations for normalized weights: projections, and weight decay by its effect on the step size.

They belong after the optimizer in ``optax.chain``, since they look at the update that will be made. Each works on the
kernels that a mask chooses and leaves the rest alone; two groups of kernels are two of them in the chain.

The units of a kernel are those of Flax's layers and of this library's cells. They follow from names and shapes: the
last axis of (I, O) and of convolutions (\*window, I, O), the axes of gates beside a recurrent kernel, those of
attention by the names ``query``, ``key``, ``value`` and ``out``, the rows of an ``embedding``, and with more axes those
along which the bias beside a kernel lies. Where they do not follow, an error names the weight and asks for ``axis``:
the axes over which the inputs of a unit lie, for all weights; or by name, ``{"out_kernel": (0, 1)}``, where a name is
the path of a weight or the end of it; or by a function of the path, a tuple of names, and the array. None in their
place leaves a weight alone. ``jaxnorm.linen.kernel_axes`` and ``jaxnorm.nnx.kernel_axes`` read such names from a model;
a cell has its own, ``cell.kernel_axes``.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxnorm import _validate
from jaxnorm._kernel_axes import AxisRule
from jaxnorm._paths import variable_names
from jaxnorm._typing import Array, PyTree
from jaxnorm._updates import Mask, Units, chosen_units, kernels, record_at, transformation
from jaxnorm._updates import named as named
from jaxnorm.norms.moments import statistics_dtype
from jaxnorm.weights.unit_rows import unit_rows
from jaxnorm.weights.weight_norm import unit_lengths


def project_weights(
    *, every: int = 1, axis: AxisRule | None = None, mask: Mask = kernels
) -> optax.GradientTransformationExtraArgs:
    r"""Projection-based weight normalization: after the update each output unit gets weights of length one.

    .. math::
       w \leftarrow w + \Delta w, \qquad \text{at each N-th update} \quad w \leftarrow \frac{w}{\lVert w \rVert_2}

    The gradient is the ordinary one, in which no normalization appears.

    Args:
      every: N, the number of updates between projections; the N-th is the first that projects.
      axis: the axes over which the inputs of a unit lie; see above.
      mask: which weights.

    Returns:
      A transformation, the last of its chain; its update needs ``params``.

    Raises:
      ValueError: ``every`` is not positive; at ``init``: it is not certain where the inputs of a unit lie.

    Example:
      >>> import jax.numpy as jnp, optax, jaxnorm.optim
      >>> optimizer = optax.chain(optax.sgd(1.0), jaxnorm.optim.project_weights())
      >>> params = {"kernel": jnp.array([[1.0], [0.0]])}
      >>> update, _ = optimizer.update({"kernel": jnp.array([[1.0], [-2.0]])}, optimizer.init(params), params)
      >>> optax.apply_updates(params, update)["kernel"].tolist()
      [[0.0], [1.0]]

    Notes:
      Weights of length one from the start need ``jaxnorm.unit_rows`` on the initial ones; the first projection does it
      otherwise. A unit without weights stays zero.

    Reference:
      L. Huang, X. Liu, B. Lang, B. Li, "Projection Based Weight Normalization for Deep Neural Networks", 2017,
      arXiv:1710.02338. The authors' code projects after every update; 1 to 100 updates were studied.
    """
    period = _validate.positive_int("project_weights", "every", every)

    def change(count: Array, update: Array, weights: Array, units: Units, record: None) -> Array:
        projected = unit_rows(weights + update, axis=units.inputs) - weights
        return jnp.where((count + 1) % period == 0, projected, update)

    return transformation("project_weights", change, mask, axis)


def project_gradients(*, axis: AxisRule | None = None, mask: Mask = kernels) -> optax.GradientTransformationExtraArgs:
    r"""Takes from each gradient the part along the weights, which no step on the sphere can follow.

    .. math:: g \leftarrow g - (g \cdot \hat w) \, \hat w, \qquad \hat w = \frac{w}{\lVert w \rVert_2}

    for each output unit: the gradient in the tangent space of the oblique manifold. It stands before the optimizer,
    with :func:`project_weights` after it.

    Args:
      axis: the axes over which the inputs of a unit lie; see above.
      mask: which weights.

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
      Where the weights of a unit are zero its gradient is left as it is.

    Reference:
      L. Huang et al. 2017, arXiv:1710.02338, the variant on the oblique manifold.
    """

    def change(count: Array, update: Array, weights: Array, units: Units, record: None) -> Array:
        # The derivative of w / |w| at a unit vector is this projection; so this is exact for any length of w.
        direction = unit_rows(weights, axis=units.inputs)
        return update - direction * jnp.sum(direction * update, axis=units.inputs, keepdims=True)

    return transformation("project_gradients", change, mask, axis)


def record_norms(params: PyTree, *, axis: AxisRule | None = None, mask: Mask = kernels) -> PyTree:
    """The length of the weights of each output unit, to be recorded in a run with weight decay.

    Args:
      params: the weights.
      axis: the axes over which the inputs of a unit lie; see above.
      mask: which weights.

    Returns:
      A tree like ``params`` with lengths in float32 or wider for the chosen weights and ``optax.MaskedNode()`` for the
      others.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm.optim
      >>> epochs = [{"kernel": jnp.full((4, 1), size), "bias": jnp.zeros(1)} for size in (3.0, 2.0)]
      >>> records = [jaxnorm.optim.record_norms(params) for params in epochs]
      >>> norms = jax.tree.map(lambda *lengths: jnp.stack(lengths), *records)  # for correct_step_size
      >>> norms["kernel"].tolist()
      [[6.0], [4.0]]
    """
    chosen = chosen_units("record_norms", mask, axis, params)

    def record(path: Any, leaf: Array) -> Any:
        units = chosen.get(variable_names(path))
        if units is None:
            return optax.MaskedNode()
        return unit_lengths(leaf.astype(statistics_dtype(leaf.dtype)), axis=units.inputs)

    return jax.tree_util.tree_map_with_path(record, params)


def correct_step_size(
    norms: PyTree, *, steps_per_record: int = 1, axis: AxisRule | None = None, mask: Mask = kernels
) -> optax.GradientTransformationExtraArgs:
    r"""Does what weight decay does to normalized layers, by the step size instead of the weights.

    .. math:: \Delta w \leftarrow \Delta w \, \frac{\lVert w \rVert_2^2}{\lVert w_{\text{WD}} \rVert_2^2}

    for each output unit. Before a normalizer only the direction of w matters, and a step of size :math:`\eta` turns it
    by :math:`\eta / \lVert w \rVert^2`; with the lengths of a run with weight decay, :math:`w_{\text{WD}}`, the
    effective step size becomes that of that run.

    Args:
      norms: the lengths of a run with weight decay, from :func:`record_norms` with the same ``mask``, stacked along a
        first axis.
      steps_per_record: number of updates for which a record serves, as the updates of an epoch; the last record serves
        from then on.
      axis: the axes over which the inputs of a unit lie; see above.
      mask: which weights; those without a normalizer after them should keep their weight decay.

    Returns:
      A transformation, to stand after the optimizer (momentum is not corrected); its update needs ``params``.

    Raises:
      ValueError: ``steps_per_record`` is not positive; at an update: ``norms`` do not fit the weights.

    Example:
      >>> import jax.numpy as jnp, optax, jaxnorm.optim
      >>> params = {"kernel": jnp.full((4, 1), 2.0)}  # of length 4
      >>> optimizer = optax.chain(optax.sgd(1.0), jaxnorm.optim.correct_step_size({"kernel": jnp.array([[2.0]])}))
      >>> update, _ = optimizer.update({"kernel": jnp.ones((4, 1))}, optimizer.init(params), params)
      >>> update["kernel"].ravel().tolist()
      [-4.0, -4.0, -4.0, -4.0]

    Notes:
      A unit whose recorded length is zero gets no update. The published code sets every update that is NaN to zero; to
      do so, put ``optax.zero_nans()`` after this.

    Reference:
      E. Hoffer, R. Banner, I. Golan, D. Soudry, "Norm matters", 2018, arXiv:1803.01814, section on weight decay. In its
      experiment a record is the state at the end of the same epoch.
    """
    period = _validate.positive_int("correct_step_size", "steps_per_record", steps_per_record)

    def change(count: Array, update: Array, weights: Array, units: Units, recorded: Array) -> Array:
        own, decayed = (
            units.lay(lengths, weights)
            for lengths in (unit_lengths(weights, axis=units.inputs), record_at(recorded, count // period))
        )
        nothing = decayed == 0
        ratio = own / jnp.where(nothing, jnp.ones((), decayed.dtype), decayed)
        return update * jnp.where(nothing, jnp.zeros((), ratio.dtype), jnp.square(ratio))

    return transformation("correct_step_size", change, mask, axis, norms)


def schedule_norms(
    norms: PyTree,
    *,
    steps_per_record: int = 1,
    learning_rate: optax.Schedule | None = None,
    axis: AxisRule | None = None,
    mask: Mask = kernels,
) -> optax.GradientTransformationExtraArgs:
    r"""After the update, gives the weights of each output unit a length by schedule, in place of a learning rate.

    .. math::
       w \leftarrow w + \Delta w, \qquad
       w \leftarrow \lVert w_{\text{WD}} \rVert_2 \sqrt{\frac{\eta_0}{\eta_t}} \, \frac{w}{\lVert w \rVert_2}

    for each output unit. The effective step size is the learning rate over the squared length, so that lengths which
    grow by the root of ten act like a learning rate that falls to a tenth; the learning rate itself stays constant.

    Args:
      norms: the lengths of a run with weight decay, from :func:`record_norms` with the same ``mask``, stacked along a
        first axis; with one record they are constant.
      steps_per_record: number of updates for which a record serves, as the updates of an epoch; the last record serves
        from then on.
      learning_rate: the schedule :math:`\eta` that is replaced: of the number of updates before this one to a positive
        number. None is a constant.
      axis: the axes over which the inputs of a unit lie; see above.
      mask: which weights; the others keep their own schedule.

    Returns:
      A transformation, the last of its chain; its update needs ``params``.

    Raises:
      ValueError: ``steps_per_record`` is not positive; at an update: ``norms`` do not fit the weights.

    Example:
      >>> import jax.numpy as jnp, optax, jaxnorm.optim
      >>> norms, schedule = {"kernel": jnp.array([[2.0]])}, optax.piecewise_constant_schedule(0.1, {1: 0.25})
      >>> optimizer = optax.chain(optax.sgd(0.1), jaxnorm.optim.schedule_norms(norms, learning_rate=schedule))
      >>> params = {"kernel": jnp.ones((4, 1))}
      >>> state = optimizer.init(params)
      >>> for _ in range(2):
      ...     update, state = optimizer.update({"kernel": jnp.zeros((4, 1))}, state, params)
      ...     params = optax.apply_updates(params, update)
      ...     print(jaxnorm.optim.record_norms(params)["kernel"])
      [2.]
      [4.]

    Notes:
      A unit without weights stays zero.

    Reference:
      E. Hoffer, R. Banner, I. Golan, D. Soudry, "Norm matters", 2018, arXiv:1803.01814, section on weight decay.
    """
    period = _validate.positive_int("schedule_norms", "steps_per_record", steps_per_record)

    def change(count: Array, update: Array, weights: Array, units: Units, recorded: Array) -> Array:
        target = units.lay(record_at(recorded, count // period), weights)
        if learning_rate is not None:
            first, now = (jnp.asarray(learning_rate(t), target.dtype) for t in (jnp.zeros_like(count), count))
            target = target * jnp.sqrt(first / now)
        return unit_rows(weights + update, axis=units.inputs) * target - weights

    return transformation("schedule_norms", change, mask, axis, norms)
