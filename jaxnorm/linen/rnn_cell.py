"""``RNNCell``: one module for single steps, for the drivers of Flax."""

import flax.linen as nn
import jax
from flax.core import freeze

from jaxnorm._base import foreign_keywords, validate
from jaxnorm._base.keywords import AnswersKeywords
from jaxnorm._base.typing import Array, Initializer, PRNGKeyArray, PyTree, Real, Shaped
from jaxnorm._shared.flax_carry import flax_carry
from jaxnorm._shared.layers import cell_template, initial_statistics
from jaxnorm._shared.names import from_names, to_names
from jaxnorm.cells.base import Carry, Cell, check_cell
from jaxnorm.cells.hooks import hooks
from jaxnorm.engine.arguments.carry_forms import check_step_carry, give_back
from jaxnorm.engine.arguments.checks import check_step_inputs, layout_shape
from jaxnorm.engine.layers import (
    run_cells,
)
from jaxnorm.linen.variables import (
    PARAMS,
    STATS,
    CellStatistics,
    Partitioning,
    cell_weights,
    cells_and_key,
)


class RNNCell(AnswersKeywords, nn.RNNCellBase):
    """One step of a cell, for ``flax.linen.RNN``, ``flax.linen.Bidirectional`` and ``flax.linen.scan``.

    Inside ``flax.linen.RNN`` a cell with batch statistics must carry its collection from step to step:
    ``nn.RNN(RNNCell(cell, use_running_average=False), variable_carry="batch_stats")``. Use this for initialization
    (without ``initial_carry``, since the variables are created when that driver asks for the carry) and for training,
    with ``mutable=["batch_stats"]``. For inference either keep both, which changes nothing, or pass
    ``variable_broadcast=("params", "batch_stats")`` in place of ``variable_carry``. In training each step updates the
    row of its own time step. Steps that share a row (all beyond ``max_steps``) update it one after another, whereas
    :class:`RNN` pools them first. :class:`RNN` is also faster: it computes the input products of all steps at once.

    A cell that draws masks needs the stream ``"dropout"`` in ``split_rngs`` of that driver. With ``True``
    (``nn.RNN(RNNCell(cell), split_rngs={"params": False, "dropout": True})``) each step draws new masks. Masks of
    single steps (Zoneout, RecurrentDropout) need that, but masks of a whole sequence then change at every step, too.
    With ``False`` all steps share the same masks, which masks of a whole sequence need (VariationalDropout,
    DropConnect, RecurrentDropout with ``per="sequence"``). Cells with both kinds of masks need :class:`RNN`.

    Attributes:
      cell: the spec of the cell; it sets the dtypes and initializers.
      use_running_average: whether cells with batch statistics use the running ones; other cells do not need it.
      deterministic: whether cells that draw masks compute expectations instead; None leaves it to the spec.
      partitioning: names of mesh axes for weights, see :class:`RNN`.
      carry_init: draws the entries of the first carry instead of the cell, as in the cells of Flax; each has a key of
        its own.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, jaxnorm, jaxnorm.linen
      >>> rnn = nn.RNN(jaxnorm.linen.RNNCell(jaxnorm.ln_lstm(4)))
      >>> ys, variables = rnn.init_with_output(jax.random.key(0), jnp.ones((2, 6, 3)))
      >>> ys.shape, sorted(variables["params"]["cell"])
      ((2, 6, 4), ['bias', 'kernel', 'norm', 'recurrent'])
    """

    cell: Cell
    use_running_average: bool | None = None
    deterministic: bool | None = None
    partitioning: Partitioning = freeze({})
    carry_init: Initializer | None = None

    keyword_advice = foreign_keywords.FLAX

    def __post_init__(self) -> None:
        check_cell("RNNCell", "cell", self.cell)
        super().__post_init__()

    @nn.compact
    def __call__(self, carry: Carry, inputs: Real[Array, "..."]) -> tuple[Carry, PyTree]:
        """Runs one step; returns the new carry, in the form and the dtypes of the old one, and the output."""
        check_step_inputs("RNNCell", "inputs", inputs, self.cell, "cell(carry, inputs)")
        check_step_carry("RNNCell", "carry", carry, self.cell, layout_shape(inputs, self.num_feature_axes))
        params = cell_weights(self, inputs.shape[-1])
        stats = CellStatistics(self)
        use_running = stats.exist and nn.merge_param("use_running_average", self.use_running_average, None)
        cell, key = cells_and_key(self, None)
        out = run_cells(
            cell,
            params,
            inputs[None],
            carry=carry,
            stats=stats.of_cells if use_running else None,
            key=key,
            method="scan",
        )
        if not use_running:
            stats.fold(out.moments)
        output = jax.tree.map(lambda y: y[0], out.outputs)  # a tree, if a FunctionCell returns one
        return give_back(out.carry, carry, cast=True), output

    @nn.nowrap
    def initialize_carry(self, rng: PRNGKeyArray | Shaped[Array, "2"] | None, input_shape: tuple[int, ...]) -> Carry:
        r"""Makes the carry before the first step, for inputs of the given shape (\*batch, features).

        It has the form of Flax, (c, h) for an LSTM, an array for a GRU; a cell that counts steps has a CountedCarry.
        For a learned initial carry the module must be bound, as it is inside ``flax.linen.RNN``. An unbound module
        returns the carry that training starts from.
        """
        input_shape = validate.sizes("RNNCell.initialize_carry", "input_shape", input_shape)
        params = None
        if self.scope is not None:
            stored = self.variables.get(PARAMS)
            if stored:
                params = from_names(cell_template(self.cell, input_shape[-1]), nn.meta.unbox(stored))
            stats = to_names(initial_statistics(self.cell))
            if self.is_mutable_collection(STATS):
                for name in stats:
                    if not self.has_variable(STATS, name):
                        self.put_variable(STATS, name, stats[name])
        batch_shape = input_shape[: -self.num_feature_axes]
        return flax_carry(self.cell, batch_shape, params, rng, self.carry_init)

    @property
    def num_feature_axes(self) -> int:
        """The number of feature axes of the inputs: one for cells without positions."""
        return hooks(self.cell).feature_axes
