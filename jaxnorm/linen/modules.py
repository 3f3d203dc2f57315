"""``Norm``, ``RNN`` and ``RNNCell``: one module for all normalizers, one for all cells, one for single steps."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import flax.linen as nn
import jax
from flax.core import freeze

from jaxnorm._base import foreign_keywords, validate
from jaxnorm._base.keywords import AnswersKeywords, answers_keywords
from jaxnorm._base.typing import Array, Bool, DTypeLike, Float, Integer, PRNGKeyArray, PyTree, Real, Shaped
from jaxnorm._shared.layers import cell_template, initial_statistics
from jaxnorm._shared.names import from_names, norm_template, to_names
from jaxnorm._shared.norm_dtype import data_in, result_in
from jaxnorm.cells.base import Carry, Cell, check_cell
from jaxnorm.cells.hooks import hooks
from jaxnorm.engine.arguments.carry_forms import check_step_carry, give_back
from jaxnorm.engine.arguments.checks import check_inputs, layout_shape
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
from jaxnorm.linen.population_statistics import rule
from jaxnorm.linen.variables import (
    PARAMS,
    STATS,
    CellStatistics,
    Statistics,
    cell_weights,
    cells_and_key,
    in_place,
    weights,
)
from jaxnorm.norms.base import Normalizer, check_data, check_normalizer, fresh
from jaxnorm.norms.core.moments import statistics_dtype

Partitioning: TypeAlias = Mapping[str, tuple[str | None, ...]]
"""Names of mesh or logical axes for variables: ``{"kernel": (None, None, "model")}``."""


class Norm(nn.Module):
    """Any normalizer as a linen module.

    Attributes:
      spec: the normalizer, for example ``BatchNorm()``.
      use_running_average: whether to use running statistics (True), or the statistics of the batch, which then update
        the running ones. Pass it here or in the call; normalizers without running statistics need neither.
      dtype: dtype of the result; None takes that of the data. Statistics are computed from the data as they are, in at
        least float32.
      param_dtype: dtype of scale and bias, and of running statistics, which are in at least float32; None leaves both
        to the normalizer.
      partitioning: names of mesh axes for weights, ``{"scale": ("model",)}``, as with ``nn.with_partitioning``.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm, jaxnorm.linen
      >>> module = jaxnorm.linen.Norm(jaxnorm.BatchNorm(momentum=0.5))
      >>> x = jnp.array([[1.0], [3.0]])
      >>> variables = module.init(jax.random.key(0), x, use_running_average=True)
      >>> y, updates = module.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
      >>> updates["batch_stats"]["mean"]
      Array([1.], dtype=float32)
    """

    spec: Normalizer
    use_running_average: bool | None = None
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike | None = None
    partitioning: Partitioning = freeze({})

    def __post_init__(self) -> None:
        check_normalizer("Norm", "spec", self.spec)
        if self.dtype is not None:
            validate.floating_dtype("Norm", "dtype", self.dtype)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Real[Array, "..."],
        use_running_average: bool | None = None,
        *,
        mask: Bool[Array, "..."] | None = None,
    ) -> Float[Array, "..."]:
        """Normalizes ``x``.

        Args:
          x: data.
          use_running_average: see the class.
          mask: True on real data, broadcastable to ``x``; masked elements give zeros and enter no statistics.

        Returns:
          An array like ``x``, in ``dtype`` if the module has one.
        """
        check_data("Norm", "x", x, mask)
        shape = self.spec.param_shape(x.shape)
        dtype = {} if self.param_dtype is None else {"dtype": self.param_dtype}
        wide = {name: statistics_dtype(value) for name, value in dtype.items()}
        params = weights(self, norm_template(self.spec, shape), lambda key: fresh(self.spec, shape, key=key, **dtype))
        stats = Statistics(self, self.spec.initial_stats(shape, **wide))
        use_running = stats.exist and nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        spec, x = in_place(self, self.spec), data_in(x, self.dtype)
        if use_running:
            return result_in(spec(params, x, stats.value, mask)[0], self.dtype)
        y, measured = spec.train(params, x, stats.value, mask)
        stats.update(lambda running: rule(self, self.spec, running).update_running(running, measured))
        return result_in(y, self.dtype)


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
        seq_lengths: Integer[Array, "*B"] | None = None,
        mask: Bool[Array, "..."] | None = None,
        reset: Bool[Array, "..."] | None = None,
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
          initial_carry: the state before the first step, as an earlier call returned it, or in Flax's form: a tuple
            (c, h) for an LSTM, an array for a GRU; for several cells a tuple with that of each. The carry comes back in
            the same form. None starts from the cell's initial carry.
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
          ``outputs``, or ``(carry, outputs)`` with ``return_carry``.
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

    keyword_advice = foreign_keywords.FLAX

    def __post_init__(self) -> None:
        check_cell("RNNCell", "cell", self.cell)
        super().__post_init__()

    @nn.compact
    def __call__(self, carry: Carry, inputs: Real[Array, "..."]) -> tuple[Carry, PyTree]:
        """Runs one step; returns the new carry, in the form and the dtypes of the old one, and the output."""
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
        return self.cell.initial_carry(batch_shape, params=params, key=rng)

    @property
    def num_feature_axes(self) -> int:
        """The number of feature axes of the inputs: one for cells without positions."""
        return hooks(self.cell).feature_axes
