"""The entrances of the converter of PyTorch: one layer, or a whole model."""

from collections.abc import Mapping
from typing import Any

from jaxnorm.convert.shared.arrays import Arrays, found_note
from jaxnorm.convert.shared.files import caller
from jaxnorm.convert.shared.model import ImportedModel
from jaxnorm.convert.shared.norms import KINDS
from jaxnorm.convert.torch.layer import load_layer
from jaxnorm.convert.torch.model import read_model
from jaxnorm.convert.torch.modules import describe, modules_of
from jaxnorm.convert.torch.state import is_within, kind_of, read, sort


def load(source: Any, spec: Any = None, *, prefix: str = "") -> Any:
    """Loads weights of a recurrent layer or a normalizer of PyTorch.

    Args:
      source: a live module (``torch.nn.LSTM``, ``GRU``, ``RNN``, their cells, ``LayerNorm``, ``RMSNorm``,
        ``GroupNorm``, ``InstanceNorm1d`` to ``3d``, ``BatchNorm1d`` to ``3d``), a state dict with arrays or tensors,
        or the path of a safetensors file; or a module of any other class, whose layers all come as by
        :func:`load_model`.
      spec: options that names and shapes do not determine. For a state dict of a normalizer pass its spec, such as
        ``LayerNorm(epsilon=1e-5)``; for one of ``torch.nn.RNN`` an ``Elman`` with its activation; otherwise None.
      prefix: the prefix of the names of one layer in the state dict of a larger model, such as ``"encoder.rnn."``. It
        may be left out where only one layer fits: the only recurrent one, or the only one that has the arrays of the
        normalizer that ``spec`` is.

    Returns:
      Imported(spec, params, stats, notes); :class:`ImportedModel` for a live module of several layers. For a recurrent
      layer with two directions and for several recurrent layers see
      :class:`Imported` and :func:`jaxnorm.convert.run`.

    Raises:
      TypeError: an array does not have a floating-point dtype that JAX supports.
      ValueError: several layers fit; or an array is missing, unknown or has another shape, or something has no
        counterpart; or a file is damaged, truncated or of another kind.
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
    values, prefix = read(where, source, prefix)
    module = modules_of(source).get(prefix.removesuffix("."))
    described = None if module is None else describe(where, module)
    if described is not None:
        arrays, notes = _within(values, "")
        found = load_layer(where, arrays, prefix, spec, described)
        return found._replace(notes=(*found.notes, *notes))
    if module is not None:
        if not any(True for _ in module.children()):
            raise TypeError(
                f"{where}: {type(module).__name__} is no layer that has a counterpart. Pass one recurrent layer or "
                "normalizer of torch.nn, a model of several layers, a state dict, or the path of a safetensors file."
            )
        return read_model(where, values, modules_of(module), spec, prefix)
    path = "" if isinstance(spec, KINDS) else _find(where, values, prefix)
    arrays, notes = _within(values, path)
    start = f"{prefix}{path}." if path else prefix
    found = load_layer(where, arrays, start, spec)
    return found._replace(notes=(*found.notes, *notes, *([found_note(start)] if path else [])))


def load_model(source: Any, specs: Mapping[str, Any] | None = None, *, prefix: str = "") -> ImportedModel:
    """Loads a whole model of PyTorch: all layers by the names that they have there.

    Recurrent layers and normalizers come as :func:`load` gives them. All other layers come as dicts of their arrays
    with PyTorch's names and shapes: the weight of a ``Linear`` is (O, I), of a convolution (O, I / groups, *window), of
    an ``Embedding`` (N, F). Weights with weight or spectral normalization come as what the layer multiplies by.

    Args:
      source: a live module of any class, a state dict, or the path of a safetensors file.
      specs: specs of jaxnorm by the name of a layer. The names in a state dict do not tell normalizers apart, nor the
        nonlinearity of an RNN; those without a spec come as their arrays. A live module needs none.
      prefix: the prefix of the names of a part of the model.

    Returns:
      ImportedModel(layers, kinds, tied, notes), a dict of layers.

    Raises:
      TypeError: an array does not have a dtype that JAX supports.
      ValueError: an array of a layer is missing or has another shape, specs has a name without a layer, or a file is
        damaged.
      OSError: there is no such file, it is a folder, or it is not readable.

    Example:
      >>> import numpy as np, jaxnorm
      >>> from jaxnorm import convert
      >>> state = {"encoder.weight": np.ones((9, 3), "f"), "norm.weight": np.ones(2, "f"), "norm.bias": np.ones(2, "f")}
      >>> state |= {"rnns.0.module.weight_ih_l0": np.ones((8, 3), "f")}  # an AWD-LSTM
      >>> state |= {"rnns.0.module.weight_hh_l0_raw": np.ones((8, 2), "f")}
      >>> model = convert.torch.load_model(state, {"norm": jaxnorm.LayerNorm(epsilon=1e-6)})
      >>> {name: type(spec).__name__ for name, spec in model.specs.items()}
      {'norm': 'LayerNorm', 'rnns.0.module': 'LSTM'}

    Notes:
      Weights that an AWD-LSTM keeps as ``weight_hh_l0_raw``, because a wrapper drops their connections in training, are
      those of the recurrent layer, in the layout of its authors and in that of fastai. Arrays that two layers share are
      in both, and listed in ``tied``.
    """
    where = caller("convert.torch.load_model", source)
    values, prefix = read(where, source, prefix)
    modules = modules_of(source)
    if modules:
        within = {path: module for path, module in modules.items() if is_within(path, prefix.removesuffix("."))}
        modules = {path[len(prefix) :]: module for path, module in within.items()}
    return read_model(where, values, modules, specs, prefix)


def _find(caller: str, values: Mapping[str, Any], prefix: str) -> str:
    """Returns the path of the only recurrent layer, or the root."""
    kinds = {path: kind_of(arrays) for path, arrays in sort(values)[0].items()}
    paths = [path for path, kind in kinds.items() if kind]
    if "" in paths or not paths:
        return ""
    if len(paths) > 1:
        named = {f"{prefix}{path}.": f"{'an' if kinds[path][0] in 'LR' else 'a'} {kinds[path]}" for path in paths}
        Arrays(caller, values).point_to(named)
    return paths[0]


def _within(values: Mapping[str, Any], path: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns the arrays of the layer at a path, and of what lies in it, by the rest of their names; and notes."""
    layers, notes = sort(values)
    found: dict[str, Any] = {}
    for other, arrays in layers.items():
        if is_within(other, path):
            start = f"{other[len(path) :].removeprefix('.')}." if other != path else ""
            found |= {start + name: value for name, value in arrays.items()}
    return found, notes.get(path, ())
