"""The layouts common to Flax linen and NNX: reads cells and normalizers by the names of arrays and attributes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm.cells.activation import check_function
from jaxnorm.cells.elman import Elman
from jaxnorm.cells.gru import GRU
from jaxnorm.cells.lstm import LSTM
from jaxnorm.convert.shared import cells, conv_lstm, layouts, norms
from jaxnorm.convert.shared.arrays import Arrays, Host
from jaxnorm.convert.shared.base import Imported, UndeterminedError, refuse
from jaxnorm.convert.shared.cells import Parts
from jaxnorm.zoo.cells.convolution.conv_lstm import ConvLSTM
from jaxnorm.zoo.cells.gru.mgu import MGU

NAMES = norms.Names("scale", "bias", "mean", "var")
ORDER: dict[Any, str] = {LSTM: "ifgo", GRU: "rzn", MGU: "fn", Elman: "h"}
PAIRS = (("dense_i", "dense_h"), ("ih", "hh"), *((f"i{gate}", f"h{gate}") for gate in ("i", "f", "o", "r", "z", "")))
"""Layers of inputs and of state; each pair locates a cell in a model."""
NORMS = ("LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm", "BatchNorm")
ARTICLES: dict[Any, str] = {
    LSTM: "an LSTM", GRU: "a GRU", MGU: "an MGU", ConvLSTM: "a ConvLSTM", Elman: "a SimpleCell", None: "a cell",
}  # fmt: skip


def cell_kind(arrays: Arrays) -> Any:
    """Returns the class of the cell with these array names, or None."""
    if "dense_h/kernel" in arrays:
        hidden, columns = arrays.matrix("dense_h/kernel", "(H, G H)")
        return {4: LSTM, 3: GRU, 1: Elman}.get(columns // max(hidden, 1))
    if "ih/kernel" in arrays or "hh/kernel" in arrays:
        return ConvLSTM

    def has(gate: str) -> bool:
        return any(f"{side}{gate}/kernel" in arrays for side in "ih")

    if any(map(has, "igo")) or (has("f") and not has("n")):
        return LSTM
    if any(map(has, "rz")):
        return GRU
    return MGU if has("f") else Elman if has("") else None


def cells_in(arrays: Arrays) -> dict[str, Any]:
    """Returns the classes of all cells, which their names identify, by prefix."""
    found = {}
    for one, other in PAIRS:
        of_other = arrays.prefixes(f"{other}/kernel")
        for prefix in arrays.prefixes(f"{one}/kernel"):
            if prefix in of_other:
                found[prefix] = cell_kind(arrays.under(prefix))
    return found


def locate(arrays: Arrays, wanted: Any) -> Arrays:
    """Returns the arrays of the one cell, whose names may lie deeper in a model, unless a normalizer is wanted."""
    if cell_kind(arrays) is not None or isinstance(wanted, norms.KINDS) or type(wanted).__name__ in NORMS:
        return arrays
    return arrays.only({prefix: ARTICLES[kind] for prefix, kind in cells_in(arrays).items()})


def load_cell(arrays: Arrays, kind: Any, module: Any, spec: Any) -> Imported:
    """Loads a plain cell; ``module``, if any, gives its nonlinearities."""
    if kind is ConvLSTM:
        return conv_lstm.load_gated(arrays, "ih/kernel", "hh/kernel", ("ih/bias", "hh/bias"), spec)
    where, notes = arrays.where, (*_check_cell(arrays.where, module), *arrays.notes)
    parts = _dense(arrays, kind) if "dense_h/kernel" in arrays else _gates(arrays, ORDER[kind])
    arrays.finish()
    functions = cells.functions_of(spec if module is None else module)
    if kind is LSTM:
        return Imported(*cells.lstm(where, parts, spec, functions), (), notes)
    if kind is MGU:
        if module is not None and module.reset_gate == (parts.recurrent_bias is None):
            has = "is missing" if module.reset_gate else "is there"
            raise ValueError(f"{where}: the module has reset_gate={module.reset_gate}, but hn/bias {has}.")
        return Imported(*cells.mgu(where, parts, spec, functions), (), notes)
    if kind is GRU:
        if parts.recurrent_bias is None:
            parts = parts._replace(recurrent_bias=np.zeros_like(parts.bias))
        return Imported(*cells.gru(where, parts, spec, functions), (), notes)
    if module is None and not isinstance(spec, Elman):
        hidden = parts.recurrent.shape[-1]
        raise UndeterminedError(
            f"{where}: the names of arrays do not tell the nonlinearity of a SimpleCell. Pass the module, or "
            f"spec=jaxnorm.Elman({hidden}, activation_fn=jnp.tanh)."
        )
    return Imported(*cells.elman(where, parts, functions["activation_fn"], spec), (), notes)


def _check_cell(caller: str, module: Any) -> tuple[str, ...]:
    if module is None:
        return ()
    if type(module).__name__ == "SimpleCell" and module.residual:
        refuse(caller, "SimpleCell with residual=True", "an Elman cell adds no old state before its nonlinearity.")
    notes = computed_in(module)
    if module.carry_init is not jax.nn.initializers.zeros:
        notes += ("carry_init: the cell there does not begin with zeros; pass carry=...",)
    return notes


def check_functions(caller: str, cell: Any, module: Any) -> None:
    """Refuses a cell whose nonlinearities are not those of the module that gets its weights."""
    for name, function in cells.functions_of(cell).items():
        found = check_function(caller, name, getattr(module, name))
        if found is not function:
            there = f"the module has {cells.shown(found)}. Make it with {name}=... of the cell."
            refuse(caller, f"{name}={cells.shown(function)}", there)


def computed_in(module: Any) -> tuple[str, ...]:
    """Notes if a module sets its own compute dtype."""
    if module.dtype is None or jnp.dtype(module.dtype) == jnp.float32:
        return ()
    name = jnp.dtype(module.dtype).name
    return (f"dtype={name}: pass it to a cell, or inputs of this dtype to a normalizer",)


def _dense(arrays: Arrays, kind: Any) -> Parts:
    """Reads all gates from one kernel; an LSTM has its bias at the recurrent kernel, other cells at the input one."""
    order = ORDER[kind]
    arrays.expect(("dense_i/kernel", "dense_h/kernel", "dense_h/bias" if kind is LSTM else "dense_i/bias"))
    hidden, columns = arrays.matrix("dense_h/kernel", "(H, G H)")
    inputs, _ = arrays.matrix("dense_i/kernel", "(I, G H)")
    symbols = f"{len(order)} H"
    kernel = arrays.take("dense_i/kernel", (inputs, columns), f"(I, {symbols})")
    recurrent = arrays.take("dense_h/kernel", (hidden, columns), f"(H, {symbols})")
    bias = arrays.take("dense_h/bias" if kind is LSTM else "dense_i/bias", (columns,), f"({symbols},)")
    return Parts(
        layouts.kernel_from_columns(kernel, order),
        layouts.kernel_from_columns(recurrent, order),
        layouts.vector_from_order(bias, order),
    )


def _gates(arrays: Arrays, order: str) -> Parts:
    """Reads one kernel per gate; an Elman cell has one kernel each for input and state, named i and h."""
    letters = ("",) if order == "h" else tuple(order)
    biased = "h" if order == "ifgo" else "i"
    kernels = (f"{side}{letter}/kernel" for side in "ih" for letter in letters)
    optional = ("hn/bias",) if "n" in order else ()
    arrays.expect((*kernels, *(f"{biased}{letter}/bias" for letter in letters)), optional)
    hidden, _ = arrays.matrix(f"h{letters[0]}/kernel", "(H, H)")
    inputs, _ = arrays.matrix(f"i{letters[0]}/kernel", "(I, H)")

    def columns(side: str, leaf: str, shape: tuple[int, ...], symbols: str) -> Host:
        return np.concatenate([arrays.take(f"{side}{letter}/{leaf}", shape, symbols) for letter in letters], axis=-1)

    parts = Parts(
        layouts.kernel_from_columns(columns("i", "kernel", (inputs, hidden), "(I, H)"), order),
        layouts.kernel_from_columns(columns("h", "kernel", (hidden, hidden), "(H, H)"), order),
        columns(biased, "bias", (hidden,), "(H,)"),
    )
    if "hn/bias" in arrays:  # only the candidate: for other gates only the sum of both biases matters
        of_candidate = arrays.take("hn/bias", (hidden,), "(H,)")
        if order == "rzn":
            of_candidate = cells.recurrent_bias(of_candidate, parts.kernel)
        parts = parts._replace(recurrent_bias=of_candidate)
    return parts


def export_conv_lstm(caller: str, cell: ConvLSTM, params: Any) -> dict[str, Host]:
    """Exports the arrays of a plain ConvLSTM, keyed by name, with all biases at the inputs."""
    kernel, recurrent, bias = conv_lstm.export_gated(caller, cell, params)
    return {"ih/kernel": kernel, "ih/bias": bias, "hh/kernel": recurrent, "hh/bias": np.zeros_like(bias)}


def export_cell(caller: str, cell: Any, params: Any, *, dense: bool) -> dict[str, Host]:
    """Exports the arrays of a plain cell, keyed by name; ``dense`` puts all gates into one kernel."""
    if isinstance(cell, MGU) and cell.reset == "state":
        refuse(caller, "reset='state'", "the gate there multiplies the product of the state, not the state.")
    parts = cells.parts_of(caller, cell, params, any_functions=True)
    order = ORDER[type(cell)]
    if isinstance(cell, GRU):
        parts = cells.candidate_bias_only(caller, parts)
    bias = cells.zeros_for_none(parts.bias, parts.kernel)
    biased = "h" if isinstance(cell, LSTM) else "i"
    if dense:
        if parts.recurrent_bias is not None and np.any(parts.recurrent_bias[-cell.hidden_features :]):
            refuse(caller, "the recurrent bias of the candidate of a GRU", "nnx.GRUCell has none. Set it to zero.")
        return {
            "dense_i/kernel": layouts.kernel_to_columns(parts.kernel, order),
            "dense_h/kernel": layouts.kernel_to_columns(parts.recurrent, order),
            f"dense_{biased}/bias": layouts.vector_to_order(bias, order),
        }
    letters = ("",) if order == "h" else tuple(order)
    kernel, recurrent = (layouts.kernel_to_columns(each, order) for each in (parts.kernel, parts.recurrent))
    found = {}
    for name, columns in (("i{}/kernel", kernel), ("h{}/kernel", recurrent), (biased + "{}/bias", bias)):
        for letter, own in zip(letters, np.split(columns, len(letters), axis=-1), strict=True):
            found[name.format(letter)] = own
    if isinstance(cell, GRU) or (isinstance(cell, MGU) and cell.reset == "recurrent"):
        found["hn/bias"] = cells.zeros_for_none(parts.recurrent_bias, parts.kernel)[-cell.hidden_features :]
    return found


def describe_norm(caller: str, arrays: Arrays, module: Any) -> tuple[Any, tuple[str, ...]]:
    """Makes the spec of a Flax normalizer."""
    name = type(module).__name__
    if name not in NORMS:
        raise TypeError(
            f"{caller}: {name} is no module that has a counterpart. Pass an LSTMCell, OptimizedLSTMCell, GRUCell, "
            "MGUCell (of linen), SimpleCell, RNN around one, LayerNorm, RMSNorm, GroupNorm, InstanceNorm or BatchNorm."
        )
    options = {"epsilon": module.epsilon, "use_scale": module.use_scale, "axis_name": module.axis_name}
    if module.axis_name is not None:
        options["axis_index_groups"] = getattr(module, "axis_index_groups", None)
    if name == "RMSNorm":
        return norms.RMSNorm(**_row_axes(module), **options), ()
    options["use_bias"] = module.use_bias
    if name == "LayerNorm":
        return norms.LayerNorm(**_row_axes(module), **options), ()
    if name == "BatchNorm":
        kept = {} if module.axis == -1 else {"feature_axis": module.axis}
        return norms.BatchNorm(momentum=module.momentum, **kept, **options), ()
    if name == "GroupNorm":
        if getattr(module, "reduction_axes", None) is not None:
            options["axis"] = module.reduction_axes
        groups = module.num_groups
        if module.group_size is not None:
            groups = arrays.shape("scale" if module.use_scale else "bias")[0] // module.group_size
        return norms.GroupNorm(groups, **options), ()
    return norms.InstanceNorm(feature_axis=_axes(module.feature_axes), **options), ()


def _row_axes(module: Any) -> dict[str, Any]:
    reduced, features = _axes(module.reduction_axes), _axes(module.feature_axes)
    return {"axis": reduced} if reduced == features else {"axis": reduced, "feature_axis": features}


def _axes(axes: Any) -> Any:
    return tuple(axes) if isinstance(axes, list | tuple) else axes


def rnn_notes(module: Any) -> tuple[str, ...]:
    """Notes the options of an RNN that are arguments of ``unroll`` here."""
    notes = [] if module.time_major else ["time_major=False: pass time_axis=-2"]
    if module.reverse:
        notes.append("reverse=True: pass reverse=True; outputs stay at the places of their inputs, as with keep_order")
    return tuple(notes)


def export_norm(caller: str, spec: Any, params: Any, stats: Any) -> dict[str, Host]:
    """Exports the arrays of a normalizer, keyed by name."""
    if isinstance(spec, norms.RMSNorm):
        norms.refuse_unlike(caller, spec, fraction=1.0, use_bias=False)
    if isinstance(spec, norms.GroupNorm | norms.InstanceNorm):
        norms.refuse_unlike(caller, spec, feature_axis=-1)
    return norms.arrays_of(caller, spec, params, stats, NAMES)
