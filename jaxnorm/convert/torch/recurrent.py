"""Recurrent layers from the arrays of one layer, with all their layers and directions."""

from typing import Any

from jaxnorm.cells.elman import Elman
from jaxnorm.convert.shared import cells, layouts
from jaxnorm.convert.shared.arrays import Arrays
from jaxnorm.convert.shared.base import Imported, UndeterminedError, refuse
from jaxnorm.convert.torch.state import RECURRENT
from jaxnorm.engine.stacks import Directions

ORDER = {4: "ifgo", 3: "rzn", 1: "h"}


def load_cells(arrays: Arrays, spec: Any, described: Any) -> Imported:
    """Loads a recurrent layer; ``described`` is what a live module tells."""
    notes = described.notes if described else ()
    kinds, ends = _ends(arrays.names)
    arrays.expect(f"{kind}{end}" for layer in ends for end in layer for kind in kinds)
    both, count = len(ends[0]) == 2, len(ends)
    layers = []
    for layer in ends:
        pairs = [_load_cell(arrays, end, spec, described) for end in layer]
        layers.append(tuple(Directions(*each) for each in zip(*pairs, strict=True)) if both else pairs[0])
    found, params = zip(*layers, strict=True)
    return Imported(found, params, (), notes) if count > 1 else Imported(found[0], params[0], (), notes)


def _load_cell(arrays: Arrays, end: str, spec: Any, described: Any) -> tuple[Any, Any]:
    where = arrays.where
    rows, fed_back = arrays.matrix(f"weight_hh{end}", "(G H, H)")
    hidden = arrays.matrix(f"weight_hr{end}", "(P, H)")[1] if f"weight_hr{end}" in arrays else fed_back
    gates = rows // hidden
    if gates * hidden != rows or gates not in ORDER:
        raise ValueError(
            f"{where}: {arrays.prefix}weight_hh{end} must have shape (4 H, H) of an LSTM, (3 H, H) of a GRU or (H, H) "
            f"of an RNN, got {(rows, fed_back)}."
        )
    _, inputs = arrays.matrix(f"weight_ih{end}", "(G H, I)")
    order = ORDER[gates]
    kernel = arrays.take(f"weight_ih{end}", (rows, inputs), f"({gates} H, I)")
    recurrent = arrays.take(f"weight_hh{end}", (rows, fed_back), f"({gates} H, H)")
    bias, recurrent_bias = None, None
    if f"bias_ih{end}" in arrays or f"bias_hh{end}" in arrays:
        bias, recurrent_bias = (
            layouts.vector_from_order(arrays.take(f"{name}{end}", (rows,), f"({gates} H,)"), order)
            for name in ("bias_ih", "bias_hh")
        )
    parts = cells.Parts(
        layouts.kernel_from_rows(kernel, order), layouts.kernel_from_rows(recurrent, order), bias, recurrent_bias
    )
    if gates == 3 and f"weight_hr{end}" not in arrays:
        return cells.gru(where, parts, spec)
    parts = parts._replace(bias=cells.add_biases(bias, recurrent_bias), recurrent_bias=None)
    if f"weight_hr{end}" in arrays:
        if gates != 4:
            refuse(where, f"{arrays.prefix}weight_hr{end} beside {gates} gates", "only an LSTM has a projection.")
        projection = arrays.take(f"weight_hr{end}", (fed_back, hidden), "(P, H)")
        return cells.projected_lstm(where, parts, projection.T, spec)
    if gates == 4:
        return cells.lstm(where, parts, spec)
    if described is not None:
        return cells.elman(where, parts, described.activation, spec)
    if not isinstance(spec, Elman):
        raise UndeterminedError(
            f"{where}: the names of arrays do not tell the nonlinearity of an RNN. Pass "
            f"spec=jaxnorm.Elman({hidden}, activation_fn=jnp.tanh), or jax.nn.relu, or the live module."
        )
    return cells.elman(where, parts, spec.activation_fn, spec)


def _ends(names: tuple[str, ...]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns the kinds of arrays in a layer, and the suffix of their names for each layer and direction.

    The names of a single cell have no suffix.
    """
    known = [match for match in map(RECURRENT.fullmatch, names) if match]
    biased = any(name.startswith("bias") for name in names)
    projected = any(match[1] == "weight_hr" for match in known)
    kinds = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if biased else ()), *("weight_hr",) * projected)
    layers = [int(match[2]) for match in known if match[2]]
    if not layers and not any("_l0" in name for name in names):
        return kinds, [("",)]
    both = any(match[3] for match in known)
    return kinds, [(f"_l{n}", f"_l{n}_reverse") if both else (f"_l{n}",) for n in range(max(layers, default=0) + 1)]
