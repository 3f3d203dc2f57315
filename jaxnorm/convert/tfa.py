"""Converts weights of TensorFlow Addons: ``LayerNormLSTMCell``, as arrays keyed by the names of its variables."""

from collections.abc import Mapping
from typing import Any

from jaxnorm.cells.lstm import LSTM, LSTMParams
from jaxnorm.cells.sites import CellNorms
from jaxnorm.convert.shared import layouts, normalized
from jaxnorm.convert.shared.arrays import Arrays, Host, to_device, to_numpy
from jaxnorm.convert.shared.base import Imported, check_mapping, check_spec, refuse, settle
from jaxnorm.norms.layer_norm import LayerNorm
from jaxnorm.zoo.published.ln_lstm_products import tfa_ln_lstm

ORDER = "ifgo"
NORMS = {"kernel_norm": "input", "recurrent_norm": "recurrent", "state_norm": "cell"}
"""The names of its layer normalizations, and our sites."""


def load(arrays: Mapping[str, Any], spec: Any = None, *, prefix: str = "") -> Imported:
    """Loads weights of a ``LayerNormLSTMCell`` of TensorFlow Addons.

    Args:
      arrays: by name: ``kernel, recurrent_kernel, bias``, and ``gamma`` and ``beta`` below ``kernel_norm/``,
        ``recurrent_norm/`` and ``state_norm/``; a trailing ``:0`` of a name is ignored.
      spec: ``tfa_ln_lstm(H, epsilon=...)`` if ``norm_epsilon`` was not 1e-3; None makes one with 1e-3.
      prefix: the prefix of the names of one cell in a larger model. It may be left out where there is only one.

    Returns:
      Imported(spec, params).

    Raises:
      TypeError: an array does not have a floating-point dtype that JAX supports.
      ValueError: an array is missing, unknown or has another shape, or the spec computes something else.

    Example:
      >>> import jax, jaxnorm
      >>> from jaxnorm import convert
      >>> cell = jaxnorm.zoo.tfa_ln_lstm(4)
      >>> arrays = convert.tfa.export(cell, cell.init(jax.random.key(0), 3))
      >>> convert.tfa.load(arrays).spec == cell
      True

    Notes:
      The cell must have its own nonlinearities, tanh and sigmoid. Its dropouts act only in training.
    """
    where = "convert.tfa.load"
    check_mapping(where, "arrays", arrays, "of arrays by name")
    values = {name.removesuffix(":0"): value for name, value in arrays.items()}
    own = Arrays(where, values, prefix).holding("recurrent_kernel", "a cell")
    kernel, recurrent = normalized.take_kernels(own, ORDER)
    hidden = kernel.shape[-1]
    bias = normalized.take_vector(own, "bias", ORDER, hidden) if "bias" in own else None
    sites: dict[str, Any] = {}
    for name, site in NORMS.items():
        if site == "cell":
            scale, shift = (own.take(f"{name}/{leaf}", (hidden,), "(H,)") for leaf in ("gamma", "beta"))
        else:
            scale, shift = (normalized.take_vector(own, f"{name}/{leaf}", ORDER, hidden) for leaf in ("gamma", "beta"))
        sites[site] = normalized.affine(scale, shift)
    own.finish()
    epsilon = spec.sites.cell.epsilon if isinstance(spec, LSTM) and isinstance(spec.sites.cell, LayerNorm) else 1e-3
    made = tfa_ln_lstm(hidden, epsilon=epsilon, use_bias=bias is not None, param_dtype=kernel.dtype)
    cell = settle(where, made, spec, normalized.NEUTRAL_TO_NORMS)
    weights = (to_device(kernel), to_device(recurrent), None if bias is None else to_device(bias))
    return Imported(cell, LSTMParams(*weights, CellNorms(**sites)), (), own.notes)


def export(spec: Any, params: Any) -> dict[str, Host]:
    """Exports the arrays, keyed by name, of the ``LayerNormLSTMCell`` that computes the same.

    Args:
      spec: an ``LSTM`` that equals ``tfa_ln_lstm``, with any epsilon; give the cell the same ``norm_epsilon``.
      params: its weights.

    Returns:
      Arrays in the order of the cell's weights.

    Raises:
      TypeError: params do not match spec.
      ValueError: the spec computes something else.

    Example:
      >>> import jax, jaxnorm
      >>> from jaxnorm import convert
      >>> cell = jaxnorm.zoo.tfa_ln_lstm(4)
      >>> list(convert.tfa.export(cell, cell.init(jax.random.key(0), 3)))[:5]
      ['kernel', 'recurrent_kernel', 'bias', 'kernel_norm/gamma', 'kernel_norm/beta']
    """
    where = "convert.tfa.export"
    check_spec(where, spec)
    if not isinstance(spec, LSTM) or not isinstance(spec.sites.cell, LayerNorm):
        refuse(where, f"{spec!r}", "of its cells only the layer-normalized LSTM has a counterpart.")
    epsilon = spec.sites.cell.epsilon
    params = normalized.checked(
        where, spec, lambda size, **options: tfa_ln_lstm(size, epsilon=epsilon, **options), params
    )
    found = normalized.kernels_of(params, ORDER)
    if params.bias is not None:
        found["bias"] = normalized.vector_of(params.bias, ORDER)
    for name, site in NORMS.items():
        weights = getattr(params.norm, site)
        for leaf, array in (("gamma", weights.scale), ("beta", weights.bias)):
            own = to_numpy(array)
            found[f"{name}/{leaf}"] = own if site == "cell" else layouts.vector_to_order(own, ORDER)
    return found
