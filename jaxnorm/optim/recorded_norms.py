"""Weight decay by its effect on the step size: records the norms of units in one run and replays them in another."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxnorm._base import validate
from jaxnorm._base.paths import variable_names
from jaxnorm._base.typing import Array, PyTree
from jaxnorm._shared.kernel_axes import AxisRule
from jaxnorm.norms.core.moments import statistics_dtype
from jaxnorm.optim.masks import Mask, kernels
from jaxnorm.optim.updates import Units, chosen_units, record_at, transformation
from jaxnorm.weight_norms.unit_norm import unit_norm
from jaxnorm.weight_norms.weight_norm import unit_lengths


def record_norms(params: PyTree, *, axis: AxisRule | None = None, mask: Mask = kernels) -> PyTree:
    """Computes the norm of the weights of each output unit, to record in a run with weight decay.

    Args:
      params: the weights.
      axis: the axes that hold the inputs of a unit; see the module.
      mask: the weights to treat.

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
    r"""Reproduces the effect of weight decay on normalized layers, by the step size instead of the weights.

    .. math:: \Delta w \leftarrow \Delta w \, \frac{\lVert w \rVert_2^2}{\lVert w_{\text{WD}} \rVert_2^2}

    for each output unit. Before a normalizer only the direction of w matters, and a step of size :math:`\eta` rotates w
    by :math:`\eta / \lVert w \rVert^2`. With the norms of a run with weight decay, :math:`w_{\text{WD}}`, the effective
    step size becomes that of the recorded run.

    Args:
      norms: the lengths of a run with weight decay, from :func:`record_norms` with the same ``mask``, stacked along a
        first axis.
      steps_per_record: number of updates that each record serves, such as those of an epoch; the last record serves all
        later updates.
      axis: the axes that hold the inputs of a unit; see the module.
      mask: the weights to treat; weights without a normalizer after them should keep their weight decay.

    Returns:
      A transformation to place after the optimizer (it does not correct momentum); its update needs ``params``.

    Raises:
      ValueError: ``steps_per_record`` is not positive; in an update: ``norms`` do not fit the weights.

    Example:
      >>> import jax.numpy as jnp, optax, jaxnorm.optim
      >>> params = {"kernel": jnp.full((4, 1), 2.0)}  # of length 4
      >>> optimizer = optax.chain(optax.sgd(1.0), jaxnorm.optim.correct_step_size({"kernel": jnp.array([[2.0]])}))
      >>> update, _ = optimizer.update({"kernel": jnp.ones((4, 1))}, optimizer.init(params), params)
      >>> update["kernel"].ravel().tolist()
      [-4.0, -4.0, -4.0, -4.0]

    Notes:
      A unit with recorded norm zero gets no update. The published code sets every NaN update to zero; to do the same,
      put ``optax.zero_nans()`` after this.

    Reference:
      E. Hoffer, R. Banner, I. Golan, D. Soudry, "Norm matters", 2018, arXiv:1803.01814, section on weight decay. In its
      experiment a record is the state at the end of the same epoch.
    """
    period = validate.positive_int("correct_step_size", "steps_per_record", steps_per_record)

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
    r"""Rescales the weights of each output unit after the update to a scheduled norm, in place of a learning rate.

    .. math::
       w \leftarrow w + \Delta w, \qquad
       w \leftarrow \lVert w_{\text{WD}} \rVert_2 \sqrt{\frac{\eta_0}{\eta_t}} \, \frac{w}{\lVert w \rVert_2}

    for each output unit. The effective step size is the learning rate over the squared norm. So norms that grow by the
    root of ten act like a learning rate that falls to a tenth; the learning rate itself stays constant.

    Args:
      norms: the lengths of a run with weight decay, from :func:`record_norms` with the same ``mask``, stacked along a
        first axis; with one record they are constant.
      steps_per_record: number of updates that each record serves, such as those of an epoch; the last record serves all
        later updates.
      learning_rate: the schedule :math:`\eta` to replace: a function from the number of previous updates to a positive
        number. None is a constant.
      axis: the axes that hold the inputs of a unit; see the module.
      mask: the weights to treat; the others keep their own schedule.

    Returns:
      A transformation to place last in the chain; its update needs ``params``.

    Raises:
      ValueError: ``steps_per_record`` is not positive; in an update: ``norms`` do not fit the weights.

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
      A unit with zero weights stays zero.

    Reference:
      E. Hoffer, R. Banner, I. Golan, D. Soudry, "Norm matters", 2018, arXiv:1803.01814, section on weight decay.
    """
    period = validate.positive_int("schedule_norms", "steps_per_record", steps_per_record)

    def change(count: Array, update: Array, weights: Array, units: Units, recorded: Array) -> Array:
        target = units.lay(record_at(recorded, count // period), weights)
        if learning_rate is not None:
            first, now = (jnp.asarray(learning_rate(t), target.dtype) for t in (jnp.zeros_like(count), count))
            target = target * jnp.sqrt(first / now)
        return unit_norm(weights + update, axis=units.inputs) * target - weights

    return transformation("schedule_norms", change, mask, axis, norms)
