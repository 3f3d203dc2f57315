"""Converts weights of PyTorch: recurrent layers and cells, normalizers; live modules, state dicts, safetensors files.

It imports PyTorch only if you pass a live module.
"""

import re
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from jaxnorm._base import objects
from jaxnorm.cells.elman import Elman
from jaxnorm.cells.gru import GRU
from jaxnorm.cells.lstm import LSTM
from jaxnorm.convert._torch_kernels import effective, read, spectral_options, write
from jaxnorm.convert._torch_modules import describe
from jaxnorm.convert.shared import cells, layouts, norms
from jaxnorm.convert.shared.arrays import Arrays, Host
from jaxnorm.convert.shared.base import Imported, check_spec, refuse, settle
from jaxnorm.convert.shared.files import caller, is_path, read_safetensors
from jaxnorm.engine.stacks import Directions
from jaxnorm.weight_norms.base import check_weight_normalizer
from jaxnorm.zoo.cells.lstm.projected_lstm import ProjectedLSTM

ORDER = {4: "ifgo", 3: "rzn", 1: "h"}
RECURRENT = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(?:_l(\d+)(_reverse)?)?")
"""The names of the arrays of a recurrent layer, and of a cell."""
NAMES = norms.Names("weight", "bias", "running_mean", "running_var")


def load(source: Any, spec: Any = None, *, prefix: str = "") -> Imported:
    """Loads weights of a recurrent layer or a normalizer of PyTorch.

    Args:
      source: a live module (``torch.nn.LSTM``, ``GRU``, ``RNN``, their cells, ``LayerNorm``, ``RMSNorm``,
        ``GroupNorm``, ``InstanceNorm1d`` to ``3d``, ``BatchNorm1d`` to ``3d``), a state dict with arrays or tensors,
        or the path of a safetensors file.
      spec: options that names and shapes do not determine. For a state dict of a normalizer pass its spec, such as
        ``LayerNorm(epsilon=1e-5)``; for one of ``torch.nn.RNN`` an ``Elman`` with its activation; otherwise None.
      prefix: the prefix of the names of one layer in the state dict of a larger model, such as ``"encoder.rnn."``.

    Returns:
      Imported(spec, params, stats, notes). For a layer with two directions and for several layers see
      :class:`Imported` and :func:`jaxnorm.convert.run`.

    Raises:
      TypeError: an array does not have a floating-point dtype that JAX supports.
      ValueError: an array is missing, unknown or has another shape, or something has no counterpart; or a file is
        damaged, truncated or of another kind.
      OSError: there is no such file, it is a folder, or it is not readable.

    Example:
      >>> import numpy as np, jaxnorm
      >>> from jaxnorm import convert
      >>> state = {"weight_ih_l0": np.ones((8, 3), "f"), "weight_hh_l0": np.ones((8, 2), "f")}
      >>> found = convert.torch.load(state | {"bias_ih_l0": np.ones(8, "f"), "bias_hh_l0": np.ones(8, "f")})
      >>> found.spec == jaxnorm.lstm(2), found.params.bias.tolist()
      (True, [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0])

    Notes:
      PyTorch has two biases. For an LSTM and an Elman cell only their sum matters, which is the bias here; a GRU keeps
      both.
    """
    where = caller("convert.torch.load", source)
    values = _values(where, source, prefix)
    described = None if isinstance(source, Mapping) or is_path(source) else describe(where, source)
    values, notes = effective(where, values)
    arrays = Arrays(where, {prefix + name: value for name, value in values.items()}, prefix)
    if _is_recurrent(arrays):
        found = _load_cells(arrays, spec, described)
        return found._replace(notes=(*found.notes, *notes))
    return _load_norm(arrays, spec, described)


def export(spec: Any, params: Any, stats: Any = ()) -> dict[str, Host]:
    """Exports the state dict, with NumPy arrays, of the PyTorch layer that computes the same.

    Args:
      spec: a plain ``LSTM``, ``ProjectedLSTM``, ``GRU`` or ``Elman`` (tanh or relu), ``Directions`` of
        two, a tuple with one entry for each layer; or a normalizer.
      params: the weights, in the same structure.
      stats: the running statistics of a ``BatchNorm``.

    Returns:
      Arrays by name; pass ``{name: torch.tensor(array) for ...}`` to ``module.load_state_dict``.

    Raises:
      TypeError: params or stats do not match spec.
      ValueError: something has no counterpart in PyTorch.

    Example:
      >>> import jax, jaxnorm
      >>> from jaxnorm import convert
      >>> cell = jaxnorm.gru(4)
      >>> {k: v.shape for k, v in convert.torch.export(cell, cell.init(jax.random.key(0), 3)).items()}
      {'weight_ih_l0': (12, 3), 'weight_hh_l0': (12, 4), 'bias_ih_l0': (12,), 'bias_hh_l0': (12,)}

    Notes:
      The one bias of an LSTM or Elman cell becomes ``bias_ih``, with zeros in ``bias_hh``.
    """
    where = "convert.torch.export"
    check_spec(where, spec)
    layers = spec if isinstance(spec, tuple) and not isinstance(spec, Directions) else (spec,)
    weights = params if layers is spec else (params,)
    if not isinstance(layers[0], Directions | LSTM | ProjectedLSTM | GRU | Elman):
        return _export_norm(where, spec, params, stats)
    if len(weights) != len(layers):
        raise ValueError(f"{where}: spec has {len(layers)} layers, params {len(weights)}.")
    _check_layers(where, layers)
    found: dict[str, Host] = {}
    for number, (layer, layer_weights) in enumerate(zip(layers, weights, strict=True)):
        both = isinstance(layer, Directions)
        for cell, cell_weights, suffix in zip(
            layer if both else (layer,), layer_weights if both else (layer_weights,), ("", "_reverse"), strict=False
        ):
            arrays = _export_cell(where, cell, cell_weights)
            found |= {f"{name}_l{number}{suffix}": array for name, array in arrays.items()}
    return found


def load_kernel(source: Any, spec: Any = None, *, name: str = "weight", gates: int = 1, prefix: str = "") -> Imported:
    """Loads the trained weights behind a kernel with weight or spectral normalization.

    Args:
      source: a live module of any kind, a state dict, or the path of a safetensors file; with
        ``torch.nn.utils.parametrizations`` or with the older hooks.
      spec: for a state dict, a ``SpectralNorm`` with the number of iterations and the epsilon, if they are not the
        defaults; a live module knows them.
      name: the weight, such as ``"weight_hh_l0"``.
      gates: 4 for a weight of an LSTM, 3 for one of a GRU, which make the kernel (I, G, H).
      prefix: the prefix of the names of one layer in the state dict of a larger model.

    Returns:
      Imported(spec, params, stats): ``WeightNorm`` or ``SpectralNorm``, ``KernelParams``, and the state.
      ``spec(params, stats)`` is the kernel: (I, O), (window..., I, O) of a convolution, or (I, G, H).

    Raises:
      TypeError: an array does not have a floating-point dtype that JAX supports.
      ValueError: the weight is not normalized, or along another axis than its first.

    Example:
      >>> import numpy as np
      >>> from jaxnorm import convert
      >>> state = {"weight_g": np.full((2, 1), 10.0, "f"), "weight_v": np.array([[3.0, 4.0], [0.0, 1.0]], "f")}
      >>> found = convert.torch.load_kernel(state)
      >>> found.spec(found.params).T.tolist()
      [[6.0, 8.0], [0.0, 10.0]]

    Notes:
      This reads only the arrays of this kernel, not its bias. A state dict does not record the axis of a spectral
      normalization; we assume the first (transposed convolutions have another).
    """
    where = caller("convert.torch.load_kernel", source)
    values = _values(where, source, prefix)
    arrays = Arrays(where, {prefix + key: value for key, value in values.items()}, prefix)
    told = None if isinstance(source, Mapping) or is_path(source) else spectral_options(where, source, name, gates)
    if told is not None:
        spec = settle(where, told, spec)
    return Imported(*read(arrays, name, gates, spec))


def export_kernel(
    spec: Any, params: Any, state: Any = (), *, name: str = "weight", hook: bool = False
) -> dict[str, Host]:
    """Exports the arrays behind a kernel with weight or spectral normalization, under the names of PyTorch.

    Args:
      spec: a ``WeightNorm`` or a ``SpectralNorm`` without a scale, with units along the last axes.
      params: its ``KernelParams``.
      state: the ``SpectralState``.
      name: the weight.
      hook: whether to use the names of the older hooks (``weight_g``) instead of parametrizations.

    Returns:
      Arrays by name, without the bias: part of a state dict.

    Raises:
      TypeError: params are not ``KernelParams``.
      ValueError: something has no counterpart in PyTorch.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> from jaxnorm import convert
      >>> spec = jaxnorm.WeightNorm()
      >>> params, _ = spec.init(jnp.ones((4, 1)))
      >>> convert.torch.export_kernel(spec, params, hook=True)["weight_g"].tolist()
      [[2.0]]
    """
    check_weight_normalizer("convert.torch.export_kernel", "spec", spec)
    return write("convert.torch.export_kernel", spec, params, state, name, hook)


def _values(caller: str, source: Any, prefix: str) -> dict[str, Any]:
    """Returns the arrays of one layer, keyed by name without the prefix."""
    if is_path(source):
        source = read_safetensors(caller, source, prefix)
    elif not isinstance(source, Mapping):
        if not hasattr(source, "state_dict"):
            raise TypeError(
                f"{caller}: source must be a module, a state dict or a path, got {objects.describe(source)}."
            )
        source = source.state_dict()
    Arrays(caller, source, prefix)  # raises, with the existing names, if nothing has the prefix
    return {name[len(prefix) :]: _host(value) for name, value in source.items() if name.startswith(prefix)}


def _load_cells(arrays: Arrays, spec: Any, described: Any) -> Imported:
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
        raise ValueError(
            f"{where}: the names of arrays do not tell the nonlinearity of an RNN. Pass "
            f"spec=jaxnorm.Elman({hidden}, activation=jnp.tanh), or jax.nn.relu, or the live module."
        )
    return cells.elman(where, parts, spec.activation, spec)


def _export_cell(caller: str, cell: Any, params: Any) -> dict[str, Host]:
    kernel, recurrent, bias, recurrent_bias, projection = cells.parts_of(caller, cell, params)
    if isinstance(cell, Elman):
        cells.name_of(caller, cell.activation, ("tanh", "relu"))
    order = ORDER[1 if isinstance(cell, Elman) else kernel.shape[1]]
    found = {
        "weight_ih": np.ascontiguousarray(layouts.kernel_to_rows(kernel, order)),
        "weight_hh": np.ascontiguousarray(layouts.kernel_to_rows(recurrent, order)),
    }
    if bias is not None:
        found["bias_ih"] = layouts.vector_to_order(bias, order)
        other = np.zeros_like(bias) if recurrent_bias is None else recurrent_bias
        found["bias_hh"] = layouts.vector_to_order(other, order)
    if projection is not None:
        found["weight_hr"] = np.ascontiguousarray(projection.T)
    return found


def _check_layers(caller: str, layers: tuple[Any, ...]) -> None:
    """Checks that all layers have one kind of cell, one size and one number of directions."""
    flat = [cell for layer in layers for cell in (layer if isinstance(layer, Directions) else (layer,))]
    kinds = {
        (type(cell), cell.hidden_features, cell.out_features, cell.use_bias, getattr(cell, "activation", None))
        for cell in flat
        if isinstance(cell, LSTM | ProjectedLSTM | GRU | Elman)
    }
    both = {isinstance(layer, Directions) for layer in layers}
    if (
        len(kinds) != 1
        or len(both) != 1
        or not all(isinstance(cell, LSTM | ProjectedLSTM | GRU | Elman) for cell in flat)
    ):
        refuse(caller, f"a stack of {flat}", "the layers of a module are alike. Export each by itself.")


def _load_norm(arrays: Arrays, spec: Any, described: Any) -> Imported:
    batches = arrays.skip("num_batches_tracked")
    notes: tuple[str, ...] = ()
    if described is not None:
        spec, notes = settle(arrays.where, described.spec, spec), described.notes
    elif spec is None:
        prefixes = {prefix: "a normalizer" for end in NAMES for prefix in arrays.prefixes(end)}
        if prefixes and "" not in prefixes and arrays.prefix not in prefixes:
            arrays.point_to(prefixes)
        raise ValueError(
            f"{arrays.where}: {', '.join(arrays.names)} may belong to several normalizers, and do not tell epsilon. "
            "Pass spec=LayerNorm(epsilon=1e-5), or another, or the live module."
        )
    return norms.load(arrays, spec, NAMES, count=1.0 if batches is None else float(np.asarray(batches)), notes=notes)


def _export_norm(caller: str, spec: Any, params: Any, stats: Any) -> dict[str, Host]:
    if isinstance(spec, norms.LayerNorm | norms.RMSNorm):
        trailing = tuple(range(-len(spec.axis), 0)) if isinstance(spec.axis, tuple) else -1
        norms.refuse_unlike(caller, spec, axis=trailing, feature_axis=None, fraction=1.0)
    if isinstance(spec, norms.RMSNorm) and spec.use_bias:
        refuse(caller, "RMSNorm with a bias", "torch.nn.RMSNorm has none.")
    found = norms.arrays_of(caller, spec, params, stats, NAMES)
    if isinstance(spec, norms.BatchNorm):
        found["num_batches_tracked"] = np.asarray(int(stats.count))
    return found


def _is_recurrent(arrays: Arrays) -> bool:
    """Whether the names belong to a recurrent layer; refuses those of a nested layer, and suggests the prefix."""
    if any(RECURRENT.match(name) for name in arrays.names):
        return True
    kinds = {}
    for end in ("weight_hh_l0", "weight_hh"):
        for prefix in arrays.prefixes(end):
            rows, columns = arrays.matrix(prefix.removeprefix(arrays.prefix) + end, "(G H, H)")
            kinds[prefix] = {4: "an LSTM", 3: "a GRU", 1: "an RNN"}.get(rows // max(columns, 1), "a recurrent layer")
    if kinds:
        arrays.point_to(kinds)
    return False


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


def _host(value: Any) -> Any:
    """Converts a tensor to an array, even bfloat16, which NumPy itself does not support."""
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        # Go through float32, which represents every bfloat16 exactly.
        return tensor.float().numpy().astype(ml_dtypes.bfloat16)
    return tensor.numpy()
