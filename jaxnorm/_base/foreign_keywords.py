"""The keywords that other libraries have for what ``unroll``, the cells and the Flax modules do, each with ours.

They are those of ``lax.scan``, of the recurrent layers of Flax, Haiku, Keras and PyTorch, and ours of the other floor.
"""

from collections.abc import Mapping

from jaxnorm._base.keywords import MISSING, SIZE, TOO_MANY, same

_DROPOUT = "Wrap the cell: VariationalDropout(cell, input_rate=0.1, rate=0.1), RecurrentDropout(cell, rate=0.1)."
_NOT_UNROLLED = "The loop is not unrolled, and chunk chooses how many steps are processed together. Leave it out."
_STATELESS = "Nothing is kept from call to call."
_MASKED_ZERO = 'Outputs of masked steps are zeros by default; masked_outputs="hold" repeats the last real one.'


OF_ANY_SPEC: Mapping[str, str] = {
    **same(
        "Weights are plain trees: add a penalty to the loss, or change them after the update. Leave it out.",
        "kernel_regularizer", "recurrent_regularizer", "bias_regularizer", "activity_regularizer",
        "kernel_constraint", "recurrent_constraint", "bias_constraint",
        "beta_regularizer", "gamma_regularizer", "beta_constraint", "gamma_constraint",
    ),
    **same("JAX chooses it. Leave it out.", "device", "use_cudnn", "keep_rngs"),
    **same("A spec has no name. Leave it out.", "name", "parent"),
}  # fmt: skip
"""Of specs of any kind, cells and normalizers."""

_RESIDUAL = ("residual", "residuals", "residual_connection", "residual_connections", "skip_connections")


UNROLL: Mapping[str, str] = {
    **same("Pass where=..., True on real steps.", "mask", "padding_mask", "attention_mask"),
    **same(
        "Pass lengths=..., the number of real steps of each example.",
        "seq_lengths", "seq_length", "sequence_length", "sequence_lengths", "segmentation_mask",
    ),
    "length": "The number of steps is that of xs; lengths=... is that of each example.",
    **same(
        "Pass carry=..., the state before the first step.",
        "initial_carry", "initial_state", "init_carry", "init", "state", "hx", "h0", "h_0", "hidden",
    ),
    **same("Pass time_axis: 0 if time comes first, 1 if it comes after a batch axis.", "time_major", "batch_first"),
    **same("The result has the last carry always: unroll(...).carry.", "return_carry", "return_state"),
    "return_sequences": "The result has the outputs of all steps always: unroll(...).outputs.",
    "return_all_states": "Pass return_carries=True; the carry after each step is unroll(...).carries.",
    "go_backwards": "Pass reverse=True; each output keeps the position of its input.",
    "keep_order": "Each output keeps the position of its input, with reverse too. Leave it out.",
    "stateful": f"{_STATELESS} Pass carry=before.carry.",
    "zero_output_for_mask": _MASKED_ZERO,
    "unroll": _NOT_UNROLLED,
    **same(
        "It belongs to the lifted scans of Flax; weights are shared by all steps here. Leave it out.",
        "variable_axes", "variable_broadcast", "variable_carry", "split_rngs", "state_axes", "broadcast_rngs",
    ),
    **same("Pass key=jax.random.key(0), or another key.", "rng", "rngs", "init_key", "seed"),
    **same(
        "A cell trains; pass jaxnorm.deterministic(cell) for evaluation, and stats=... for running statistics.",
        "training", "train", "deterministic", "use_running_average", "is_training",
    ),
    **same(_DROPOUT, "dropout", "recurrent_dropout", "dropout_rate"),
    "bidirectional": "Call jaxnorm.bidirectional((cell, cell), (params, params), xs).",
    "num_layers": "Call jaxnorm.stack(cells, params, xs).",
    **same("Call jaxnorm.residual_stack(cells, params, xs), or skip_stack for outputs side by side.", *_RESIDUAL),
    **same("Pass merge=jnp.add, or another function of both outputs, to bidirectional.", "merge_mode", "merge_fn"),
    **same("Pass it in its place, unroll(cell, params, xs).", "core", "inputs", "input", "input_sequence"),
    "engine": "It is of the Flax modules; pass its entries themselves: method, chunk, save, truncate.",
}  # fmt: skip

UNROLL_SUM: Mapping[str, str] = {
    **UNROLL,
    "return_sequences": "Outputs do not exist at once. Call jaxnorm.unroll for them.",
    **same("Carries of all steps do not exist at once. Call jaxnorm.unroll.", "return_carries", "return_all_states"),
    **same("A masked step adds nothing to the sums. Leave it out.", "masked_outputs", "zero_output_for_mask"),
    **same("The result has the last carry always: unroll_sum(...).carry.", "return_carry", "return_state"),
    **same("Pass function after xs, (head, y, target) -> (*B, ...).", "loss_fn", "loss", "fn", "f"),
    **same("Pass targets=..., laid out like xs without features.", "labels", "target", "y"),
    **same(
        "Pass it in its place, unroll_sum(cell, params, xs, function, head, targets).",
        "core", "inputs", "input", "input_sequence",
    ),
    "num_layers": "Run the layers below with jaxnorm.stack, and the last one here.",
}  # fmt: skip

_OF_ANY_CELL: Mapping[str, str] = {
    **same(_DROPOUT, "dropout", "recurrent_dropout", "dropout_rate"),
    "num_layers": "Make one cell for each layer, and call jaxnorm.stack(cells, params, xs).",
    **same("Make one cell for each layer, and call jaxnorm.residual_stack(cells, params, xs).", *_RESIDUAL),
    "bidirectional": "Make two cells, and call jaxnorm.bidirectional(cells, params, xs).",
    **same("Pass time_axis=1 to unroll.", "batch_first", "time_major"),
    **same(
        "It belongs to the run, not to the cell: see jaxnorm.unroll.",
        "return_sequences", "return_state", "return_carry", "go_backwards", "reverse", "stateful", "unroll", "mask",
        "zero_output_for_mask", "lengths", "seq_lengths", "where", "chunk", "method", "truncate",
    ),
    **same("A spec draws nothing: pass the key to cell.init(key, in_features).", "key", "rngs", "rng", "seed"),
}  # fmt: skip

CELLS: Mapping[str, str] = {
    **_OF_ANY_CELL,
    **same("Pass hidden_features.", "units", "hidden_size", "features", "num_units", "hidden_dim", "num_features"),
    **same(
        "A cell takes its number of inputs in cell.init(key, in_features).", "input_size", "in_features", "input_dim",
        "input_shape", SIZE,
    ),
    **same("Pass kernel_init.", "kernel_initializer", "w_init", "weight_init", "w_i_init"),
    **same("Pass recurrent_init.", "recurrent_initializer", "recurrent_kernel_init", "w_h_init"),
    **same("Pass use_bias.", "bias", "with_bias"),
    "unit_forget_bias": "Pass forget_bias=1.0, or 0.0.",
    **same("Pass gate_fn, a function such as jax.nn.hard_sigmoid.", "recurrent_activation", "inner_activation"),
    **same("Pass activation_fn, a function such as jax.nn.relu.", "nonlinearity", "activation_function"),
    **same("Pass bias_init, a number or an initializer.", "bias_initializer", "b_init"),
    "promote_dtype": "Pass dtype; None promotes inputs and weights.",
    "double_bias": "One bias is the sum of both. Leave it out.",
    "proj_size": "Make a jaxnorm.zoo.ProjectedLSTM.",
    **OF_ANY_SPEC,
    "reset_after": 'Pass reset="recurrent", or jaxnorm.zoo.ResetBeforeGRU for False.',
    **same("It belongs to the normalizer: norm=LayerNorm(epsilon=1e-6).", "epsilon", "eps", "momentum", "axis_name"),
    **same("Pass norm=LayerNorm().", "layer_norm", "normalizer", "normalization", "norm_type"),
    **same(
        "The state before the first step belongs to the run: see jaxnorm.unroll. A learned one is learn_carry=True.",
        "carry_init", "initial_state", "initial_carry",
    ),
}  # fmt: skip

CONVOLUTIONS: Mapping[str, str] = {
    **CELLS,
    **same("Pass hidden_features.", "filters", "output_channels", "out_channels"),
    **same("Pass kernel_size.", "kernel_shape", "window"),
    **same("Pass dilation.", "dilation_rate", "kernel_dilation"),
    **same("Pass image_shape, the sizes of the axes of an image without its channels.", "input_shape", "spatial_dims"),
    **same("Channels come last: move their axis, jnp.moveaxis(xs, 2, -1).", "data_format"),
}  # fmt: skip

WRAPPERS: Mapping[str, str] = {
    **same("Pass it to the cell inside.", *CELLS.keys() - {SIZE}),
    **_OF_ANY_CELL,
    **same("Pass rate, the probability of what is dropped or kept.", "p", "prob", "keep_prob", "zoneout", "dropout"),
}

INITIAL_CARRY: Mapping[str, str] = {
    TOO_MANY: "Flax has the key first; write cell.initial_carry((64,), key=key), with the shape of the batch alone.",
    **same("Pass key=jax.random.key(0), or another key.", "rng", "rngs", "seed"),
    **same("Pass batch_shape, (64,) for 64 examples.", "input_shape", "shape", "batch_size", "batch_dims"),
}

FUNCTION_CELL: Mapping[str, str] = {
    **_OF_ANY_CELL,
    **same("Pass it first, FunctionCell(function, carry_init).", "fn", "f", "step", "step_fn", "body", "apply"),
    **same("Pass carry_init, a carry of one example or a function.", "carry", "init_carry", "initial_carry"),
    **same("Pass params_init, a function (key, in_features).", "init", "init_params", "params", "init_fn"),
}

FLAX: Mapping[str, str] = {
    **same("Pass mask=..., True on real steps.", "where", "padding_mask"),
    **same(
        "Pass seq_lengths=..., the number of real steps of each example.",
        "lengths", "length", "sequence_length", "sequence_lengths", "segmentation_mask",
    ),
    **same("Pass initial_carry=..., the state before the first step.", "carry", "initial_state", "hx", "h_0"),
    "carry_init": "Pass initial_carry in the call; RNNCell has carry_init, for the RNN of Flax.",
    **same("Pass time_major=True if time comes first.", "time_axis", "batch_first"),
    **same("Pass return_carry=True.", "return_state", "return_all_states"),
    "return_sequences": "The outputs of all steps are returned always. Leave it out.",
    "go_backwards": "Pass reverse=True.",
    "stateful": f"{_STATELESS} Pass return_carry=True, then initial_carry=carry.",
    "zero_output_for_mask": _MASKED_ZERO,
    "unroll": _NOT_UNROLLED,
    **same(
        'Pass it in engine to the constructor: engine={"method": "scan"}.', "method", "chunk", "save", "truncate"
    ),
    **same(
        "All steps share weights, statistics and streams here; it is for jaxnorm's RNNCell in the RNN of Flax.",
        "variable_axes", "variable_broadcast", "variable_carry", "split_rngs", "state_axes", "broadcast_rngs",
    ),
    **same("Randomness comes from the stream 'dropout', and init_key or rngs.", "key", "rng", "seed"),
    **same("Pass deterministic and use_running_average.", "training", "train", "is_training"),
    "stats": "Running statistics are variables of the module: pass use_running_average=True.",
    **same(_DROPOUT, "dropout", "recurrent_dropout", "dropout_rate"),
    "num_layers": "Pass a tuple with one cell for each layer: (lstm(128), lstm(128)).",
    **same("Pass stack=jaxnorm.residual_stack with a tuple of cells, to the constructor.", *_RESIDUAL),
    "bidirectional": "Pass jaxnorm.Directions(cell, cell).",
    **same("Pass merge_fn=jnp.add, or another function of both outputs, to the constructor.", "merge_mode", "merge"),
    **same(
        "The cell has it: RNN(ln_lstm(128)).", "features", "hidden_features", "units", "hidden_size", "norm"
    ),
}  # fmt: skip

NNX: Mapping[str, str] = {
    **FLAX,
    MISSING: "Write RNN(ln_lstm(128), in_features, rngs=rngs): the cell is a spec and has no weights yet.",
}
