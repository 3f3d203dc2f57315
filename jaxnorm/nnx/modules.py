"""``Norm``, ``RNN`` and ``RNNCell``: one module for all normalizers, one for all cells, one for single steps."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from flax.core import freeze

from jaxnorm._base import foreign_keywords, validate
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.typing import Array, Bool, DTypeLike, Float, Initializer, Integer, PRNGKeyArray, PyTree, Shaped
from jaxnorm._shared.names import norm_template
from jaxnorm.cells.base import Carry, Cell, check_cell
from jaxnorm.cells.hooks import hooks
from jaxnorm.engine.arguments.carry_forms import check_step_carry, give_back
from jaxnorm.engine.arguments.checks import check_inputs, check_steps, layout_shape
from jaxnorm.engine.arguments.lengths import flip_steps
from jaxnorm.engine.arguments.options import check_engine
from jaxnorm.engine.unroll import unroll
from jaxnorm.nnx import variables
from jaxnorm.nnx.variables import SITES, Metadata
from jaxnorm.norms.base import Normalizer, check_data, check_normalizer, fresh
from jaxnorm.norms.core.moments import statistics_dtype

Randomness: TypeAlias = nnx.Rngs | nnx.RngStream | PRNGKeyArray | Shaped[Array, "2"]


class Norm(variables.OfNorm, nnx.Module):
    """Any normalizer as an NNX module.

    Example:
      >>> import jax.numpy as jnp, jaxnorm, jaxnorm.nnx
      >>> module = jaxnorm.nnx.Norm(jaxnorm.BatchNorm(momentum=0.5), 1)
      >>> y = module(jnp.array([[1.0], [3.0]]))
      >>> module.mean[...]
      Array([1.], dtype=float32)
      >>> module.eval()  # from now on the running statistics
      >>> module(jnp.array([[1.0], [3.0]])).round(1).tolist()
      [[0.0], [2.0]]
    """

    def __init__(
        self,
        spec: Normalizer,
        num_features: int | tuple[int, ...],
        *,
        use_running_average: bool | None = False,
        param_dtype: DTypeLike | None = None,
        rngs: Randomness | None = None,
        **metadata: Metadata,
    ) -> None:
        """Declares the variables.

        Args:
          spec: the normalizer, for example ``BatchNorm()``.
          num_features: number of features, or the shape of scale, bias and statistics (``spec.param_shape``).
          use_running_average: whether to use running statistics (True), or those of the batch, which then update the
            running ones. ``train()``, ``eval()`` and ``nnx.view`` switch it; normalizers without running statistics
            ignore it.
          param_dtype: dtype of scale and bias, and of running statistics, which are in at least float32; None leaves
            both to the normalizer.
          rngs: randomness for initializers, from the stream ``params``; a normalizer that starts with numbers needs
            none.
          **metadata: metadata of variables, as ``scale_metadata={"out_sharding": ("model",)}``.
        """
        check_normalizer("Norm", "spec", spec)
        self.spec = spec
        self.param_shape = (num_features,) if isinstance(num_features, int) else tuple(num_features)
        self.use_running_average = use_running_average
        dtype = {} if param_dtype is None else {"dtype": param_dtype}
        wide = {name: statistics_dtype(value) for name, value in dtype.items()}
        key = jax.random.key(0) if rngs is None else variables.key("Norm", rngs, "params")
        params = fresh(spec, self.param_shape, key=key, **dtype)
        running = spec.initial_stats(self.param_shape, **wide)
        variables.declare(self, params, running, metadata)

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
          use_running_average: overrides the attribute.
          mask: True on real data, broadcastable to ``x``; masked elements give zeros and enter no statistics.

        Returns:
          An array like ``x``.

        Raises:
          ValueError: the features of ``x`` do not fit the module, or ``use_running_average`` is None everywhere.
        """
        check_data("Norm", "x", x, mask)
        shape = self.spec.param_shape(x.shape)
        if shape != self.param_shape:
            raise ValueError(
                f"Norm: x with shape {x.shape} has features of shape {shape}, but the module was made for "
                f"{self.param_shape}. Pass num_features={shape} to the constructor, or another axis to the normalizer: "
                f"that of batch statistics names what is averaged, so leave it out for features on the last axis."
            )
        params = variables.read(self, norm_template(self.spec, shape))
        running = variables.statistics(self)
        if variables.use_running(self, running, use_running_average):
            return self.spec(params, x, running, mask)[0]
        y, measured = self.spec.train(params, x, running, mask)
        variables.write(self, self.spec.update_running(running, measured))
        return y

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Sets the attributes that ``nnx.view`` passes, unless None."""
        variables.set_view(self, use_running_average)


class RNN(variables.OfCell, nnx.Module):
    """Runs a cell over whole sequences, with the arguments and results of ``flax.nnx.RNN``.

    Example:
      >>> import jax.numpy as jnp, jaxnorm, jaxnorm.nnx
      >>> from flax import nnx
      >>> rnn = jaxnorm.nnx.RNN(jaxnorm.bn_lstm(4, max_steps=6), 3, rngs=nnx.Rngs(0))
      >>> rnn(jnp.ones((2, 6, 3))).shape  # batch, time, features
      (2, 6, 4)
      >>> rnn.norm.cell.mean.shape, rnn.norm.cell.scale.shape
      ((6, 4), (4,))
    """

    @answers_keywords(foreign_keywords.NNX)
    def __init__(
        self,
        cell: Cell,
        in_features: int,
        *,
        time_major: bool = False,
        return_carry: bool = False,
        reverse: bool = False,
        keep_order: bool = False,
        use_running_average: bool | None = False,
        deterministic: bool | None = None,
        engine: Mapping[str, Any] = freeze({}),
        rngs: Randomness,
        **metadata: Metadata,
    ) -> None:
        r"""Draws the weights.

        Args:
          cell: the spec of the cell, for example ``ln_lstm(128)``; it sets the dtypes and initializers.
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
          rngs: draws the weights, with one key of the stream ``params``; not stored.
          **metadata: metadata of variables, as ``kernel_metadata={"out_sharding": (None, None, "model")}``. Name a
            variable by its path (``norm_cell_scale_metadata``) or by the end of its path (``scale_metadata`` for all
            sites). The recurrent kernel also has Flax's name, ``recurrent_kernel_metadata``.
        """
        check_cell("RNN", "cell", cell)
        check_engine("RNN", engine)
        self.cell = cell
        self.in_features = in_features
        self.time_major = time_major
        self.return_carry = return_carry
        self.reverse = reverse
        self.keep_order = keep_order
        self.use_running_average = use_running_average
        self.deterministic = deterministic
        self.engine = freeze(engine)
        variables.declare(
            self,
            cell.init(variables.key("RNN", rngs, "params"), in_features),
            {SITES: cell.initial_stats()},
            metadata,
            cell,
        )

    @answers_keywords(foreign_keywords.FLAX)
    def __call__(
        self,
        inputs: Float[Array, "..."],
        *,
        initial_carry: Carry | None = None,
        seq_lengths: Integer[Array, "*B"] | None = None,
        mask: Bool[Array, "..."] | None = None,
        reset: Bool[Array, "..."] | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        use_running_average: bool | None = None,
        deterministic: bool | None = None,
        rngs: Randomness | None = None,
    ) -> Any:
        r"""Runs the cell over ``inputs``; an argument that is None takes the value of the attribute.

        Args:
          inputs: (\*batch, time, features), or (time, \*batch, features) with ``time_major``; \*batch may be any
            number of axes, even none.
          initial_carry: the state before the first step, as an earlier call returned it, or in Flax's form: a tuple
            (c, h) for an LSTM, an array for a GRU. The carry comes back in the same form. None starts from the cell's
            initial carry.
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
            ``carry`` for noise on the initial state).

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
        running = variables.running(self)
        use_running = variables.use_running(self, running, use_running_average)
        cell = variables.switched(self, deterministic)
        out = unroll(
            cell,
            variables.weights(self),
            inputs,
            carry=initial_carry,
            lengths=seq_lengths,
            where=mask,
            reset=reset,
            stats=running if use_running else None,
            key=variables.mask_key(self, cell, rngs, "carry"),
            reverse=reverse,
            time_axis=time_axis,
            **self.engine,
        )
        if not use_running:
            variables.fold_cell(self, running, out.moments)
        outputs = out.outputs
        if reverse and not keep_order:
            outputs = flip_steps(outputs, seq_lengths, time_axis=time_axis)
        return (give_back(out.carry, initial_carry), outputs) if return_carry else outputs

    def set_view(self, use_running_average: bool | None = None, deterministic: bool | None = None) -> None:
        """Sets the attributes that ``nnx.view`` passes, unless None."""
        variables.set_view(self, use_running_average, deterministic)


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
        rngs: Randomness,
        **metadata: Metadata,
    ) -> None:
        """Draws the weights.

        Args:
          cell: the spec of the cell, for example ``ln_lstm(128)``; it sets the dtypes and initializers.
          in_features: number of input features.
          use_running_average: see :class:`RNN`.
          deterministic: see :class:`RNN`.
          rngs: draws the weights, with one key of the stream ``params``; only cells that draw masks keep a stream.
          **metadata: metadata of variables, see :class:`RNN`.
        """
        check_cell("RNNCell", "cell", cell)
        self.cell = cell
        self.in_features = in_features
        self.use_running_average = use_running_average
        self.deterministic = deterministic
        variables.declare(
            self,
            cell.init(variables.key("RNNCell", rngs, "params"), in_features),
            {SITES: cell.initial_stats()},
            metadata,
            cell,
        )
        variables.keep_stream(self, rngs)

    def __call__(self, carry: Carry, inputs: Float[Array, "*B I"]) -> tuple[Carry, PyTree]:
        """Runs one step; returns the new carry, in the form and the dtypes of the old one, and the output."""
        check_step_carry("RNNCell", "carry", carry, self.cell, layout_shape(inputs, self.num_feature_axes))
        running = variables.running(self)
        use_running = variables.use_running(self, running, None)
        cell = variables.switched(self, None)
        out = unroll(
            cell,
            variables.weights(self),
            inputs[None],
            carry=carry,
            stats=running if use_running else None,
            key=variables.mask_key(self, cell, getattr(self, "rngs", None), None),
            method="scan",
        )
        if not use_running:
            variables.fold_cell(self, running, out.moments)
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
          carry_init: draws the entries of the carry instead of the cell, each with its own key.

        Returns:
          The carry.

        Raises:
          ValueError: ``carry_init`` is given without ``rngs``.
        """
        input_shape = validate.sizes("RNNCell.initialize_carry", "input_shape", input_shape)
        key = None if rngs is None else variables.key("RNNCell.initialize_carry", rngs, "carry")
        batch_shape = input_shape[: -self.num_feature_axes]
        if carry_init is None:
            return self.cell.initial_carry(batch_shape, params=variables.weights(self), key=key)
        if key is None:
            raise ValueError("RNNCell.initialize_carry: carry_init needs randomness, but rngs is None. Pass rngs too.")
        entries, structure = jax.tree.flatten(
            self.cell.initial_carry(batch_shape, params=variables.weights(self), key=key)
        )
        drawn = [  # a step count is an integer: keep it
            carry_init(k, entry.shape, entry.dtype) if jnp.issubdtype(entry.dtype, jnp.floating) else entry
            for k, entry in zip(jax.random.split(key, len(entries)), entries, strict=True)
        ]
        return jax.tree.unflatten(structure, drawn)

    @property
    def num_feature_axes(self) -> int:
        """The number of feature axes of the inputs: one for cells without positions."""
        return hooks(self.cell).feature_axes

    def set_view(self, use_running_average: bool | None = None, deterministic: bool | None = None) -> None:
        """Sets the attributes that ``nnx.view`` passes, unless None."""
        variables.set_view(self, use_running_average, deterministic)
