"""``Norm``, ``RNN`` and ``RNNCell``: one module for all normalizers, one for all cells, one for single steps."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import flax.linen as nn
import jax
from flax.core import freeze

from jaxnorm._base import foreign_keywords, validate
from jaxnorm._base.keywords import AnswersKeywords, answers_keywords
from jaxnorm._base.paths import option_finder, paths
from jaxnorm._base.typing import Array, Bool, DTypeLike, Float, Integer, PRNGKeyArray, PyTree, Shaped
from jaxnorm._shared.names import cell_template, check_mesh_axes, from_names, norm_template, to_names
from jaxnorm.cells.base import Carry, Cell, check_cell
from jaxnorm.cells.hooks import hooks
from jaxnorm.cells.wrappers.base import deterministic as set_deterministic
from jaxnorm.engine.arguments.carry_forms import check_step_carry, give_back
from jaxnorm.engine.arguments.checks import check_inputs, check_steps, layout_shape
from jaxnorm.engine.arguments.keys import Keys
from jaxnorm.engine.arguments.lengths import flip_steps
from jaxnorm.engine.arguments.options import check_engine
from jaxnorm.engine.unroll import unroll
from jaxnorm.linen.population_statistics import rule
from jaxnorm.norms.base import Normalizer, check_data, check_normalizer, fresh
from jaxnorm.norms.core.moments import statistics_dtype

Partitioning: TypeAlias = Mapping[str, tuple[str | None, ...]]
"""Names of mesh or logical axes for variables: ``{"kernel": (None, None, "model")}``."""

PARAMS, STATS, MASKS = "params", "batch_stats", "dropout"
SITES = "norm"
"""The name of a cell's running statistics, the same as that of its normalizers' weights."""


class Norm(nn.Module):
    """Any normalizer as a linen module.

    Attributes:
      spec: the normalizer, for example ``BatchNorm()``.
      use_running_average: whether to use running statistics (True), or the statistics of the batch, which then update
        the running ones. Pass it here or in the call; normalizers without running statistics need neither.
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
    param_dtype: DTypeLike | None = None
    partitioning: Partitioning = freeze({})

    def __post_init__(self) -> None:
        check_normalizer("Norm", "spec", self.spec)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "..."],
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
          An array like ``x``.
        """
        check_data("Norm", "x", x, mask)
        shape = self.spec.param_shape(x.shape)
        dtype = {} if self.param_dtype is None else {"dtype": self.param_dtype}
        wide = {name: statistics_dtype(value) for name, value in dtype.items()}
        params = _weights(self, norm_template(self.spec, shape), lambda key: fresh(self.spec, shape, key=key, **dtype))
        stats = _Statistics(self, self.spec.initial_stats(shape, **wide))
        use_running = stats.exist and nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        if use_running:
            return self.spec(params, x, stats.value, mask)[0]
        y, measured = self.spec.train(params, x, stats.value, mask)
        stats.update(lambda running: rule(self, self.spec, running).update_running(running, measured))
        return y


class RNN(AnswersKeywords, nn.Module):
    r"""Runs a cell over whole sequences, with the arguments and results of ``flax.linen.RNN``.

    Attributes:
      cell: the spec of the cell, for example ``ln_lstm(128)``; it sets the dtypes and initializers.
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

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm, jaxnorm.linen
      >>> rnn = jaxnorm.linen.RNN(jaxnorm.bn_lstm(4, max_steps=6))
      >>> xs = jax.random.normal(jax.random.key(0), (2, 6, 3))  # batch, time, features
      >>> variables = rnn.init(jax.random.key(1), xs, use_running_average=True)
      >>> ys, updates = rnn.apply(variables, xs, use_running_average=False, mutable=["batch_stats"])
      >>> ys.shape, updates["batch_stats"]["norm"]["cell"]["mean"].shape
      ((2, 6, 4), (6, 4))
    """

    cell: Cell
    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False
    use_running_average: bool | None = None
    deterministic: bool | None = None
    engine: Mapping[str, Any] = freeze({})
    partitioning: Partitioning = freeze({})

    keyword_advice = foreign_keywords.FLAX

    def __post_init__(self) -> None:
        check_cell("RNN", "cell", self.cell)
        check_engine("RNN", self.engine)
        super().__post_init__()

    @answers_keywords(foreign_keywords.FLAX)
    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "..."],
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
        r"""Runs the cell over ``inputs``; an argument that is None takes the value of the attribute.

        Args:
          inputs: (\*batch, time, features), or (time, \*batch, features) with ``time_major``; \*batch may be any
            number of axes, even none.
          initial_carry: the state before the first step, as an earlier call returned it, or in Flax's form: a tuple
            (c, h) for an LSTM, an array for a GRU. The carry comes back in the same form. None starts from the cell's
            initial carry.
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
        axes = hooks(self.cell).feature_axes
        check_inputs("RNN", "inputs", inputs, axes)
        time_axis = 0 if time_major else inputs.ndim - axes - 1
        options = {"mask": mask, "reset": reset, "seq_lengths": seq_lengths, "initial_carry": initial_carry}
        check_steps("RNN", self.cell, inputs, time_axis, options)
        if init_key is not None:
            validate.key("RNN", "init_key", init_key)
        params = _cell_weights(self, inputs.shape[-1])
        stats = _Statistics(self, {SITES: self.cell.initial_stats()})
        use_running = stats.exist and nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        cell, key = _cell_and_key(self, deterministic)
        out = unroll(
            cell,
            params,
            inputs,
            carry=initial_carry,
            lengths=seq_lengths,
            where=mask,
            reset=reset,
            stats=stats.value[SITES] if use_running else None,
            key=key if init_key is None else init_key if key is None else Keys(init_key, key),
            reverse=reverse,
            time_axis=time_axis,
            **self.engine,
        )
        if not use_running:
            _fold_cell(self, stats, out.moments)
        outputs = out.outputs
        if reverse and not keep_order:
            outputs = flip_steps(outputs, seq_lengths, time_axis=time_axis)
        return (give_back(out.carry, initial_carry), outputs) if return_carry else outputs


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
    def __call__(self, carry: Carry, inputs: Float[Array, "*B I"]) -> tuple[Carry, PyTree]:
        """Runs one step; returns the new carry, in the form and the dtypes of the old one, and the output."""
        check_step_carry("RNNCell", "carry", carry, self.cell, layout_shape(inputs, self.num_feature_axes))
        params = _cell_weights(self, inputs.shape[-1])
        stats = _Statistics(self, {SITES: self.cell.initial_stats()})
        use_running = stats.exist and nn.merge_param("use_running_average", self.use_running_average, None)
        cell, key = _cell_and_key(self, None)
        out = unroll(
            cell,
            params,
            inputs[None],
            carry=carry,
            stats=stats.value[SITES] if use_running else None,
            key=key,
            method="scan",
        )
        if not use_running:
            _fold_cell(self, stats, out.moments)
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
            stats = to_names({SITES: self.cell.initial_stats()})
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


def _cell_weights(module: Any, in_features: int) -> PyTree:
    cell = module.cell
    return _weights(module, cell_template(cell, in_features), lambda key: cell.init(key, in_features), cell)


def _cell_and_key(module: Any, deterministic: bool | None) -> tuple[Cell, Any]:
    """Returns the cell in training or evaluation mode, and a key if it draws masks."""
    cell: Cell = module.cell
    if module.deterministic is not None or deterministic is not None:
        value = nn.merge_param("deterministic", module.deterministic, deterministic)
        cell = set_deterministic(cell, value=value)
    return cell, module.make_rng(MASKS) if hooks(cell).needs_key else None


def _weights(module: Any, template: PyTree, init: Callable[[Any], PyTree], cell: Cell | None = None) -> PyTree:
    """Declares the weights, one variable per field, and returns them as the NamedTuples of the spec."""
    partition = option_finder(type(module).__name__, module.partitioning, [path for path, _ in paths(template)])

    def boxed(key: Any) -> dict[str, Any]:
        def box(path: Any, leaf: Array) -> Any:
            own = tuple(entry.key for entry in path)
            axes = partition(own)
            if axes is None:
                return leaf
            if cell is not None:
                check_mesh_axes(type(module).__name__, "partitioning", cell, own, leaf.shape, axes)
            return nn.Partitioned(leaf, names=axes)

        weights: dict[str, Any] = jax.tree_util.tree_map_with_path(box, to_names(init(key)))
        return weights

    names = list(to_names(template))
    missing = any(not module.has_variable(PARAMS, name) for name in names)
    # Draw all weights at once, so that they equal those of ``cell.init`` with this key.
    fresh = boxed(module.make_rng(PARAMS)) if missing and module.is_mutable_collection(PARAMS) else None

    def declare(name: str) -> Any:
        return module.param(name, lambda key: (boxed(key) if fresh is None else fresh)[name])

    return from_names(template, {name: declare(name) for name in names})


class _Statistics:
    """The running statistics of a module: one variable per field, read and written as the tuples of the spec."""

    def __init__(self, module: Any, initial: PyTree) -> None:
        start = to_names(initial)
        if start and not module.is_mutable_collection(STATS) and not module.has_variable(STATS, next(iter(start))):
            raise ValueError(
                f"{type(module).__name__}: there are no {STATS!r} here, and none can be made. Pass the variables of "
                f"init to apply; inside flax.linen.RNN also "
                f"give variable_carry={STATS!r} (or, for inference only, variable_broadcast=('params', {STATS!r}))."
            )
        self._initializing = module.is_initializing()
        self._initial = initial
        self._variables = {name: module.variable(STATS, name, lambda name=name: start[name]) for name in start}

    @property
    def exist(self) -> bool:
        return bool(self._variables)

    @property
    def value(self) -> PyTree:
        return from_names(self._initial, {name: variable.value for name, variable in self._variables.items()})

    def update(self, change: Callable[[PyTree], PyTree]) -> None:
        """Writes changed statistics back, except in initialization."""
        if self._variables and not self._initializing:
            changed = to_names(change(self.value))
            for name, variable in self._variables.items():
                variable.value = changed[name]


def _fold_cell(module: Any, stats: _Statistics, moments: PyTree) -> None:
    """Folds the moments of a call into the running statistics."""
    stats.update(lambda running: {SITES: rule(module, module.cell, running).update_running(running[SITES], moments)})
