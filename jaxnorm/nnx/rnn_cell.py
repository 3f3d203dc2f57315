"""``RNNCell``: one module for single steps, for the drivers of Flax."""

import jax
from flax import nnx

from jaxnorm._base import foreign_keywords, validate
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.typing import Array, Initializer, PyTree, Real
from jaxnorm._shared.flax_carry import flax_carry
from jaxnorm.cells.base import Carry, Cell, check_cell
from jaxnorm.cells.hooks import hooks
from jaxnorm.engine.arguments.carry_forms import check_step_carry, give_back
from jaxnorm.engine.arguments.checks import check_step_inputs, layout_shape
from jaxnorm.engine.layers import (
    run_cells,
)
from jaxnorm.nnx import variables
from jaxnorm.nnx.variables import Metadata, Randomness


class RNNCell(variables.OfCell, nnx.RNNCellBase):
    """One step of a cell, for ``flax.nnx.RNN``, ``flax.nnx.Bidirectional`` and ``flax.nnx.scan``.

    A cell with batch statistics updates the row of its own time step at each step. Steps that share a row (all beyond
    ``max_steps``) update it one after another, whereas :class:`RNN` pools them first. :class:`RNN` is also faster: it
    computes the input products of all steps at once.

    A cell that draws masks keeps a copy of the stream ``dropout`` of its ``rngs``, as ``flax.nnx.Dropout`` does. In
    ``flax.nnx.RNN`` each step then draws new masks. Masks of single steps (Zoneout, RecurrentDropout) need that, but
    masks of a whole sequence then change at every step, too. With ``broadcast_rngs="dropout"`` in that driver, and a
    stream of that name in ``rngs``, all steps share the same masks, which masks of a whole sequence need
    (VariationalDropout, DropConnect, RecurrentDropout with ``per="sequence"``). Cells with both kinds of masks need
    :class:`RNN`.

    Example:
      >>> import jax.numpy as jnp, jaxnorm, jaxnorm.nnx
      >>> from flax import nnx
      >>> rnn = nnx.RNN(jaxnorm.nnx.RNNCell(jaxnorm.ln_lstm(4), 3, rngs=nnx.Rngs(0)))
      >>> rnn(jnp.ones((2, 6, 3))).shape
      (2, 6, 4)
    """

    @answers_keywords(foreign_keywords.NNX)
    def __init__(
        self,
        cell: Cell,
        in_features: int,
        *,
        use_running_average: bool | None = False,
        deterministic: bool | None = None,
        carry_init: Initializer | None = None,
        rngs: Randomness,
        **metadata: Metadata,
    ) -> None:
        """Draws the weights.

        Args:
          cell: the spec of the cell, for example ``ln_lstm(128)``; it sets the dtypes and initializers.
          in_features: number of input features.
          use_running_average: see :class:`RNN`.
          deterministic: see :class:`RNN`.
          carry_init: draws the entries of the first carry instead of the cell, as in the cells of Flax; each has a key
            of its own.
          rngs: draws the weights, with one key of the stream ``params``; only cells that draw masks keep a stream.
          **metadata: metadata of variables, see :class:`RNN`.
        """
        check_cell("RNNCell", "cell", cell)
        self.cell = cell
        self.in_features = in_features
        self.use_running_average = use_running_average
        self.deterministic = deterministic
        self.carry_init = carry_init
        variables.declare_cells(self, variables.key("RNNCell", rngs, "params"), metadata)
        variables.keep_stream(self, rngs)

    def __call__(self, carry: Carry, inputs: Real[Array, "..."]) -> tuple[Carry, PyTree]:
        """Runs one step; returns the new carry, in the form and the dtypes of the old one, and the output."""
        check_step_inputs("RNNCell", "inputs", inputs, self.cell, "cell(carry, inputs)")
        check_step_carry("RNNCell", "carry", carry, self.cell, layout_shape(inputs, self.num_feature_axes))
        running = variables.running(self)
        use_running = variables.use_running(self, running, None)
        cell = variables.switched(self, None)
        out = run_cells(
            cell,
            variables.weights(self),
            inputs[None],
            carry=carry,
            stats=running if use_running else None,
            key=variables.mask_key(self, cell, None, None),
            method="scan",
        )
        if not use_running:
            variables.fold_cells(self, running, out.moments)
        output = jax.tree.map(lambda y: y[0], out.outputs)  # a tree, if a FunctionCell returns one
        return give_back(out.carry, carry, cast=True), output

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: Randomness | None = None,
        carry_init: Initializer | None = None,
    ) -> Carry:
        r"""Makes the carry before the first step.

        Args:
          input_shape: the shape of the inputs of a step (\*batch, features).
          rngs: randomness for cells that need it and for ``carry_init``: a key, or an NNX stream (``carry``).
          carry_init: overrides that of the constructor.

        Returns:
          The carry in the form of Flax, (c, h) for an LSTM, an array for a GRU; a cell that counts steps has a
          CountedCarry.

        Raises:
          ValueError: ``carry_init`` is given without ``rngs``.
        """
        input_shape = validate.sizes("RNNCell.initialize_carry", "input_shape", input_shape)
        key = None if rngs is None else variables.key("RNNCell.initialize_carry", rngs, "carry")
        batch_shape = input_shape[: -self.num_feature_axes]
        carry_init = self.carry_init if carry_init is None else carry_init
        return flax_carry(self.cell, batch_shape, variables.weights(self), key, carry_init)

    @property
    def num_feature_axes(self) -> int:
        """The number of feature axes of the inputs: one for cells without positions."""
        return hooks(self.cell).feature_axes

    def set_view(self, use_running_average: bool | None = None, deterministic: bool | None = None) -> None:
        """Sets the attributes that ``nnx.view`` passes, unless None."""
        variables.set_view(self, use_running_average, deterministic)
