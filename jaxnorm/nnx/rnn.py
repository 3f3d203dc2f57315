"""``RNN``: one module for whole sequences, of one cell or of several."""

from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx
from flax.core import freeze

from jaxnorm._base import foreign_keywords
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.typing import AnyArray, Array, Bool, Integer, Real
from jaxnorm.cells.base import Carry
from jaxnorm.cells.hooks import hooks
from jaxnorm.engine.arguments.checks import check_inputs
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
from jaxnorm.nnx import variables
from jaxnorm.nnx.variables import Metadata, Randomness


class RNN(variables.OfCell, nnx.Module):
    """Runs cells over whole sequences, with the arguments and results of ``flax.nnx.RNN``.

    Example:
      >>> import jax.numpy as jnp, jaxnorm, jaxnorm.nnx
      >>> from flax import nnx
      >>> rnn = jaxnorm.nnx.RNN(jaxnorm.bn_lstm(4, max_steps=6), 3, rngs=nnx.Rngs(0))
      >>> rnn(jnp.ones((2, 6, 3))).shape  # batch, time, features
      (2, 6, 4)
      >>> rnn.norm.cell.mean.shape, rnn.norm.cell.scale.shape
      ((6, 4), (4,))

    Notes:
      Variables of layers and directions are in ``layers_0``, ``layers_1``, ... and ``forward``, ``backward``. Carries
      are tuples with one entry for each layer, and Directions for a bidirectional layer. Each cell draws masks of its
      own. With ``reverse`` every layer runs in reverse, which bidirectional layers cannot.
    """

    @answers_keywords(foreign_keywords.NNX)
    def __init__(
        self,
        cell: Cells,
        in_features: int,
        *,
        time_major: bool = False,
        return_carry: bool = False,
        reverse: bool = False,
        keep_order: bool = False,
        use_running_average: bool | None = False,
        deterministic: bool | None = None,
        engine: Mapping[str, Any] = freeze({}),
        stack: Callable[..., Unrolled] = stack,
        merge_fn: Callable[[Array, Array], Array] = concatenate,
        rngs: Randomness,
        **metadata: Metadata,
    ) -> None:
        r"""Draws the weights.

        Args:
          cell: the spec of the cell, for example ``ln_lstm(128)``; it sets the dtypes and initializers. A tuple of
            cells makes layers, one after the other; ``jaxnorm.Directions(forward, backward)`` makes a bidirectional
            layer, alone or in a tuple.
          in_features: number of input features.
          time_major: whether inputs and outputs are (time, \*batch, features) instead of (\*batch, time, features).
          return_carry: whether a call returns ``(carry, outputs)`` instead of ``outputs``.
          reverse: whether to process sequences from their last real step to the first.
          keep_order: whether each output of a reversed run keeps the position of its input; otherwise outputs come in
            processing order, with padding still at the end.
          use_running_average: whether cells with batch statistics use the running ones (True), or those of the batch,
            which then update the running ones. ``train()``, ``eval()`` and ``nnx.view`` switch it; other cells ignore
            it.
          deterministic: whether cells that draw masks compute expectations instead (True), as in evaluation, or draw
            masks (False); None leaves it to the spec. ``train()``, ``eval()`` and ``nnx.view`` switch it, too.
          engine: options of the loop: ``method``, ``chunk``, ``save``, ``truncate`` and ``masked_outputs`` of
            :func:`jaxnorm.unroll`.
          stack: connects layers: :func:`jaxnorm.stack`, :func:`jaxnorm.residual_stack` or :func:`jaxnorm.skip_stack`,
            with options as ``functools.partial(jaxnorm.residual_stack, first=0)``.
          merge_fn: merges the outputs of both directions, as in ``flax.nnx.Bidirectional``; by default it concatenates
            features.
          rngs: draws the weights, with one key of the stream ``params``. For cells that draw masks the module keeps a
            copy of the stream ``dropout``, as ``flax.nnx.Dropout`` does.
          **metadata: metadata of variables, as ``kernel_metadata={"out_sharding": (None, None, "model")}``. Name a
            variable by its path (``norm_cell_scale_metadata``) or by the end of its path (``scale_metadata`` for all
            sites). The recurrent kernel also has Flax's name, ``recurrent_kernel_metadata``.
        """
        check_engine("RNN", engine)
        self.cell = nnx.static(check_layers("RNN", "cell", cell))
        self.in_features = in_features
        self.time_major = time_major
        self.return_carry = return_carry
        self.reverse = reverse
        self.keep_order = keep_order
        self.use_running_average = use_running_average
        self.deterministic = deterministic
        self.engine = freeze(engine)
        self.wiring = nnx.static(Wiring(stack, merge_fn))
        check_wiring("RNN", self.cell, self.wiring)
        variables.declare_cells(self, variables.key("RNN", rngs, "params"), metadata, self.wiring)
        variables.keep_stream(self, rngs)

    @answers_keywords(foreign_keywords.FLAX)
    def __call__(
        self,
        inputs: Real[Array, "..."],
        *,
        initial_carry: Carry | None = None,
        seq_lengths: Integer[AnyArray, "*B"] | None = None,
        mask: Bool[AnyArray, "..."] | None = None,
        reset: Bool[AnyArray, "..."] | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        use_running_average: bool | None = None,
        deterministic: bool | None = None,
        rngs: Randomness | None = None,
    ) -> Any:
        r"""Runs the cells over ``inputs``; an argument that is None takes the value of the attribute.

        Args:
          inputs: (\*batch, time, features), or (time, \*batch, features) with ``time_major``; \*batch may be any
            number of axes, even none.
          initial_carry: the state before the first step, as an earlier call returned it: in Flax's form, a tuple
            (c, h) for an LSTM, an array for a GRU, or in that of the cell; for several cells a tuple with that of each.
            The carry comes back in the same form. None starts from the cell's initial carry.
          seq_lengths: number of real steps of each example (\*batch). Later outputs are zero, and an example of
            length zero returns its carry unchanged.
          mask: True on real steps, laid out like ``inputs`` without features.
          reset: True replaces the carry by the initial one before the step; laid out like ``mask``.
          return_carry: see the constructor.
          time_major: see the constructor.
          reverse: see the constructor.
          keep_order: see the constructor.
          use_running_average: see the constructor.
          deterministic: overrides the attribute.
          rngs: randomness for cells that need it: a key, or an NNX stream (``dropout`` for cells that draw masks, else
            ``carry`` for noise on the initial state). None draws masks from the stream of the module.

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
        running = variables.running(self)
        use_running = variables.use_running(self, running, use_running_average)
        cells = variables.switched(self, deterministic)
        out = run_cells(
            cells,
            variables.weights(self, self.wiring),
            inputs,
            self.wiring,
            carry=initial_carry,
            lengths=seq_lengths,
            where=mask,
            reset=reset,
            stats=running if use_running else None,
            key=variables.mask_key(self, cells, rngs, "carry"),
            reverse=reverse,
            time_axis=time_axis,
            **self.engine,
        )
        if not use_running:
            variables.fold_cells(self, running, out.moments)
        outputs = out.outputs
        if reverse and not keep_order:
            outputs = flip_steps(outputs, seq_lengths, time_axis=time_axis)
        return (give_back_each(self.cell, out.carry, initial_carry), outputs) if return_carry else outputs

    def set_view(self, use_running_average: bool | None = None, deterministic: bool | None = None) -> None:
        """Sets the attributes that ``nnx.view`` passes, unless None."""
        variables.set_view(self, use_running_average, deterministic)
