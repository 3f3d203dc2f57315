"""``RNN``: one module for whole sequences, of one cell or of several."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
from flax.core import freeze

from jaxnorm._base import foreign_keywords, validate
from jaxnorm._base.keywords import AnswersKeywords, answers_keywords
from jaxnorm._base.typing import AnyArray, Array, Bool, Integer, PRNGKeyArray, Real, Shaped
from jaxnorm.cells.base import Carry
from jaxnorm.cells.hooks import hooks
from jaxnorm.engine.arguments.checks import check_inputs
from jaxnorm.engine.arguments.keys import Keys
from jaxnorm.engine.arguments.lengths import flip_steps
from jaxnorm.engine.arguments.options import check_engine
from jaxnorm.engine.layers import (
    Cells,
    Wiring,
    all_cells,
    check_call,
    check_layers,
    check_wiring,
    fix_params,
    give_back_each,
    run_cells,
)
from jaxnorm.engine.stacks import concatenate, stack
from jaxnorm.engine.unroll import Unrolled
from jaxnorm.linen.variables import (
    CellStatistics,
    Partitioning,
    cell_weights,
    cells_and_key,
)


class RNN(AnswersKeywords, nn.Module):
    r"""Runs cells over whole sequences, with the arguments and results of ``flax.linen.RNN``.

    Attributes:
      cell: the spec of the cell, for example ``ln_lstm(128)``; it sets the dtypes and initializers. A tuple of cells
        makes layers, one after the other; ``jaxnorm.Directions(forward, backward)`` makes a bidirectional layer, alone
        or in a tuple.
      time_major: whether inputs and outputs are (time, \*batch, features) instead of (\*batch, time, features).
      return_carry: whether a call returns ``(carry, outputs)`` instead of ``outputs``.
      reverse: whether to process sequences from their last real step to the first.
      keep_order: whether each output of a reversed run keeps the position of its input; otherwise outputs come in
        processing order, with padding still at the end.
      use_running_average: whether cells with batch statistics use the running ones (True), or those of the batch, which
        then update the running ones. Pass it here or in the call; other cells need neither.
      deterministic: whether cells that draw masks compute expectations instead (True), as in evaluation, or draw masks
        (False). Pass it here or in the call; otherwise the spec decides.
      engine: options of the loop: ``method``, ``chunk``, ``save``, ``truncate`` and ``masked_outputs`` of
        :func:`jaxnorm.unroll`.
      partitioning: names of mesh axes for weights, ``{"kernel": (None, None, "model")}``. Name a variable by its path
        (``norm_cell_scale``) or by the end of its path (``scale`` for all sites).
      stack: connects layers: :func:`jaxnorm.stack`, :func:`jaxnorm.residual_stack` or :func:`jaxnorm.skip_stack`, with
        options as ``functools.partial(jaxnorm.residual_stack, first=0)``.
      merge_fn: merges the outputs of both directions, as in ``flax.linen.Bidirectional``; by default it concatenates
        features.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm, jaxnorm.linen
      >>> rnn = jaxnorm.linen.RNN(jaxnorm.bn_lstm(4, max_steps=6))
      >>> xs = jax.random.normal(jax.random.key(0), (2, 6, 3))  # batch, time, features
      >>> variables = rnn.init(jax.random.key(1), xs, use_running_average=True)
      >>> ys, updates = rnn.apply(variables, xs, use_running_average=False, mutable=["batch_stats"])
      >>> ys.shape, updates["batch_stats"]["norm"]["cell"]["mean"].shape
      ((2, 6, 4), (6, 4))

    Notes:
      Variables of layers and directions are in ``layers_0``, ``layers_1``, ... and ``forward``, ``backward``. Carries
      are tuples with one entry for each layer, and Directions for a bidirectional layer. Each cell draws masks of its
      own. With ``reverse`` every layer runs in reverse, which bidirectional layers cannot.
    """

    cell: Cells
    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False
    use_running_average: bool | None = None
    deterministic: bool | None = None
    engine: Mapping[str, Any] = freeze({})
    partitioning: Partitioning = freeze({})
    stack: Callable[..., Unrolled] = stack
    merge_fn: Callable[[Array, Array], Array] = concatenate

    keyword_advice = foreign_keywords.FLAX

    def __post_init__(self) -> None:
        self.cell = check_layers("RNN", "cell", self.cell)
        check_wiring("RNN", self.cell, self.wiring)
        check_engine("RNN", self.engine)
        super().__post_init__()

    @property
    def wiring(self) -> Wiring:
        """The connections of layers and directions."""
        return Wiring(self.stack, self.merge_fn)

    @answers_keywords(foreign_keywords.FLAX)
    @nn.compact
    def __call__(
        self,
        inputs: Real[Array, "..."],
        *,
        initial_carry: Carry | None = None,
        init_key: PRNGKeyArray | Shaped[Array, "2"] | None = None,
        seq_lengths: Integer[AnyArray, "*B"] | None = None,
        mask: Bool[AnyArray, "..."] | None = None,
        reset: Bool[AnyArray, "..."] | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        use_running_average: bool | None = None,
        deterministic: bool | None = None,
    ) -> Any:
        r"""Runs the cells over ``inputs``; an argument that is None takes the value of the attribute.

        Args:
          inputs: (\*batch, time, features), or (time, \*batch, features) with ``time_major``; \*batch may be any
            number of axes, even none.
          initial_carry: the state before the first step, as an earlier call returned it: in Flax's form, a tuple
            (c, h) for an LSTM, an array for a GRU, or in that of the cell; for several cells a tuple with that of each.
            The carry comes back in the same form. None starts from the cell's initial carry.
          init_key: randomness for noise on the initial state, if the cell has any. Masks use the stream ``"dropout"``;
            so does the noise if a cell has both and you pass no ``init_key``.
          seq_lengths: number of real steps of each example (\*batch). Later outputs are zero, and an example of
            length zero returns its carry unchanged.
          mask: True on real steps, laid out like ``inputs`` without features.
          reset: True replaces the carry by the initial one before the step; laid out like ``mask``.
          return_carry: see the class.
          time_major: see the class.
          reverse: see the class.
          keep_order: see the class.
          use_running_average: see the class.
          deterministic: see the class.

        Returns:
          ``outputs``, or ``(carry, outputs)`` with ``return_carry``. Without ``initial_carry`` the carry has Flax's
          form; a cell that counts steps has a CountedCarry.
        """
        return_carry, time_major, reverse, keep_order = (
            default if value is None else value
            for default, value in (
                (self.return_carry, return_carry),
                (self.time_major, time_major),
                (self.reverse, reverse),
                (self.keep_order, keep_order),
            )
        )
        axes = hooks(all_cells(self.cell)[0]).feature_axes
        check_inputs("RNN", "inputs", inputs, axes, any_dtype=not fix_params(self.cell))
        time_axis = 0 if time_major else inputs.ndim - axes - 1
        options = {"mask": mask, "reset": reset, "seq_lengths": seq_lengths, "initial_carry": initial_carry}
        check_call("RNN", self.cell, inputs, time_axis, options)
        if init_key is not None:
            validate.key("RNN", "init_key", init_key)
        params = cell_weights(self, inputs.shape[-1], self.wiring)
        stats = CellStatistics(self)
        use_running = stats.exist and nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        cells, key = cells_and_key(self, deterministic)
        out = run_cells(
            cells,
            params,
            inputs,
            self.wiring,
            carry=initial_carry,
            lengths=seq_lengths,
            where=mask,
            reset=reset,
            stats=stats.of_cells if use_running else None,
            key=key if init_key is None else init_key if key is None else Keys(init_key, key),
            reverse=reverse,
            time_axis=time_axis,
            **self.engine,
        )
        if not use_running:
            stats.fold(out.moments)
        outputs = out.outputs
        if reverse and not keep_order:
            outputs = flip_steps(outputs, seq_lengths, time_axis=time_axis)
        return (give_back_each(self.cell, out.carry, initial_carry), outputs) if return_carry else outputs
