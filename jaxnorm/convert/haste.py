"""Converts weights of Haste: LSTM, GRU, LN-LSTM and LN-GRU, as arrays keyed by the names in its layers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnorm.cells.gru import GRU, GRUParams
from jaxnorm.cells.lstm import LSTM, LSTMParams
from jaxnorm.cells.sites import CellNorms
from jaxnorm.convert.shared import cells, layouts, normalized
from jaxnorm.convert.shared.arrays import Arrays, Host, to_device, to_numpy
from jaxnorm.convert.shared.base import Imported, check_mapping, check_spec, refuse, settle
from jaxnorm.norms.identity import Identity
from jaxnorm.zoo.published.ln_gru import haste_ln_gru
from jaxnorm.zoo.published.ln_lstm_products import haste_ln_lstm

ORDER: dict[Any, str] = {LSTM: "igfo", GRU: "zrn"}
NOTES = (
    "zoneout, if the layer had any, acts at inference too and is not in its arrays: wrap the cell",
    "batch_first, if it was set: pass time_axis=1",
)


def load(arrays: Mapping[str, Any], spec: Any = None, *, prefix: str = "") -> Imported:
    """Loads weights of a layer of Haste.

    Args:
      arrays: keyed by name: ``kernel, recurrent_kernel, bias`` for an LSTM; in addition ``gamma, gamma_h, beta_h`` for
        an LN-LSTM, ``recurrent_bias`` for a GRU, ``recurrent_bias, gamma`` for an LN-GRU.
      spec: the spec you want, provided that it computes the same; None makes one.
      prefix: the prefix of the names of one layer in a larger model. It may be left out where there is only one.

    Returns:
      Imported(spec, params, stats, notes), with a spec that equals ``lstm``, ``haste_ln_lstm``, ``gru`` or
      ``haste_ln_gru``.

    Raises:
      TypeError: an array does not have a floating-point dtype that JAX supports.
      ValueError: an array is missing, unknown or has another shape, or the spec computes something else.

    Example:
      >>> import jax, jaxnorm
      >>> from jaxnorm import convert
      >>> cell = jaxnorm.zoo.haste_ln_gru(4)
      >>> arrays = convert.haste.export(cell, cell.init(jax.random.key(0), 3))
      >>> convert.haste.load(arrays).spec == cell
      True
    """
    where = "convert.haste.load"
    check_mapping(where, "arrays", arrays, "of arrays by name")
    values = {
        name: value.detach().cpu().numpy() if hasattr(value, "detach") else value for name, value in arrays.items()
    }
    own = Arrays(where, values, prefix).holding("recurrent_kernel", "a layer")
    notes = (*NOTES, *own.notes)
    kind = GRU if "recurrent_bias" in own else LSTM
    order = ORDER[kind]
    kernel, recurrent = normalized.take_kernels(own, order)
    hidden = kernel.shape[-1]
    bias = normalized.take_vector(own, "bias", order, hidden)
    other = normalized.take_vector(own, "recurrent_bias", order, hidden) if kind is GRU else None
    parts = cells.Parts(kernel, recurrent, bias, other)
    if "gamma" not in own:
        own.finish()
        plain: tuple[Any, Any] = cells.lstm(where, parts, spec) if kind is LSTM else cells.gru(where, parts, spec)
        return Imported(*plain, (), notes)
    gamma = own.take("gamma", (2, len(order) * hidden), f"(2, {len(order)} H)")
    scales = [normalized.affine(layouts.vector_from_order(row, order)) for row in gamma]
    weights = (to_device(kernel), to_device(recurrent), to_device(bias))
    if kind is GRU:
        own.finish()
        cell = settle(where, haste_ln_gru(hidden, param_dtype=kernel.dtype), spec, normalized.NEUTRAL_TO_NORMS)
        return Imported(
            cell, GRUParams(*weights, None if other is None else to_device(other), CellNorms(*scales)), (), notes
        )
    of_cell = normalized.affine(own.take("gamma_h", (hidden,), "(H,)"), own.take("beta_h", (hidden,), "(H,)"))
    own.finish()
    cell = settle(where, haste_ln_lstm(hidden, param_dtype=kernel.dtype), spec, normalized.NEUTRAL_TO_NORMS)
    norm = CellNorms(input=scales[0], recurrent=scales[1], cell=of_cell)
    return Imported(cell, LSTMParams(*weights, norm), (), notes)


def export(spec: Any, params: Any) -> dict[str, Host]:
    """Exports the arrays, keyed by name, of the Haste layer that computes the same.

    Args:
      spec: a plain ``LSTM`` or ``GRU``, or one that equals ``haste_ln_lstm`` or ``haste_ln_gru``.
      params: its weights.

    Returns:
      Arrays by name; pass ``{name: torch.tensor(array) for ...}`` to ``load_state_dict``.

    Raises:
      TypeError: params do not match spec.
      ValueError: something has no counterpart in Haste.

    Example:
      >>> import jax, jaxnorm
      >>> from jaxnorm import convert
      >>> cell = jaxnorm.zoo.haste_ln_lstm(4)
      >>> {k: v.shape for k, v in convert.haste.export(cell, cell.init(jax.random.key(0), 3)).items()}
      {'kernel': (3, 16), 'recurrent_kernel': (4, 16), 'bias': (16,), 'gamma': (2, 16), 'gamma_h': (4,), 'beta_h': (4,)}
    """
    where = "convert.haste.export"
    check_spec(where, spec)
    if not isinstance(spec, LSTM | GRU):
        refuse(where, f"{spec!r}", "of the layers of Haste only the LSTM and the GRU have a counterpart.")
    order = ORDER[type(spec)]
    plain = all(norm == Identity() for norm in spec.sites)
    if plain:
        parts = cells.parts_of(where, spec, params)
    else:
        params = normalized.checked(where, spec, haste_ln_lstm if isinstance(spec, LSTM) else haste_ln_gru, params)
        parts = cells.all_parts(params)
    found = {
        "kernel": layouts.kernel_to_columns(parts.kernel, order),
        "recurrent_kernel": layouts.kernel_to_columns(parts.recurrent, order),
        "bias": layouts.vector_to_order(cells.zeros_for_none(parts.bias, parts.kernel), order),
    }
    if isinstance(spec, GRU):
        other = cells.zeros_for_none(parts.recurrent_bias, parts.kernel)
        found["recurrent_bias"] = layouts.vector_to_order(other, order)
    if not plain:
        scales = (params.norm.input.scale, params.norm.recurrent.scale)
        found["gamma"] = np.stack([normalized.vector_of(scale, order) for scale in scales])
    if not plain and isinstance(spec, LSTM):
        found |= {"gamma_h": to_numpy(params.norm.cell.scale), "beta_h": to_numpy(params.norm.cell.bias)}
    return found
