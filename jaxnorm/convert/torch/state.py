"""State dicts of PyTorch: their arrays in host memory, sorted by the layer that they belong to."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from jaxnorm._base import objects
from jaxnorm.convert.shared.arrays import Arrays
from jaxnorm.convert.shared.files import is_path, read_safetensors

Layers: TypeAlias = dict[str, dict[str, Any]]
"""Arrays by their name in a layer, by the path of the layer."""
RECURRENT = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(?:_l(\d+)(_reverse)?)?")
"""The names of the arrays of a recurrent layer, and of a cell."""
RAW = "_raw"
"""The end of the names of weights that a wrapper drops in training, as in AWD-LSTM."""


def read(caller: str, source: Any, prefix: str = "") -> tuple[dict[str, Any], str]:
    """Returns the arrays and tensors with names that begin with ``prefix``, by the rest of the name; and the prefix."""
    if is_path(source):
        source = read_safetensors(caller, source, prefix)
    elif not isinstance(source, Mapping):
        if not hasattr(source, "state_dict"):
            raise TypeError(
                f"{caller}: source must be a module, a state dict or a path, got {objects.describe(source)}."
            )
        source = source.state_dict()
    if prefix and any(str(name).startswith(f"{prefix}.") for name in source):
        prefix += "."
    Arrays(caller, source, prefix)  # raises, with the existing names, if nothing has the prefix
    return {name[len(prefix) :]: value for name, value in source.items() if name.startswith(prefix)}, prefix


def sort(values: Mapping[str, Any]) -> tuple[Layers, dict[str, tuple[str, ...]]]:
    """Sorts arrays by layer; returns notes by layer, too."""
    layers: Layers = {}
    for name, value in values.items():
        owner, found, inner = f".{name}".partition(".parametrizations.")
        owner, leaf = (owner, f"parametrizations.{inner}") if found else owner.rsplit(".", 1)
        layers.setdefault(owner.removeprefix("."), {})[leaf] = value
    return layers, _put_back(layers)


def _put_back(layers: Layers) -> dict[str, tuple[str, ...]]:
    """Gives weights that a wrapper keeps under the name ``..._raw`` their place in the recurrent layer."""
    notes: dict[str, tuple[str, ...]] = {}
    for path, arrays in [*layers.items()]:
        raw = [name for name in arrays if name.endswith(RAW) and is_recurrent([name])]
        around = [other for other in layers if is_within(other, path) and is_recurrent(set(layers[other]) - {*raw})]
        if len(around) == 1 or path in around:
            below = path if path in around else around[0]
            for leaf in raw:
                name = leaf.removesuffix(RAW)
                layers[below][name] = arrays.pop(leaf)
                notes[below] = (
                    *notes.get(below, ()),
                    f"{name} is dropped in training: wrap the cell in jaxnorm.DropConnect",
                )
        if not arrays:
            del layers[path]
    return notes


def is_within(path: str, root: str) -> bool:
    """Whether a layer is the one at ``root``, or lies in it."""
    return not root or path == root or path.startswith(f"{root}.")


def is_recurrent(names: Iterable[str]) -> bool:
    """Whether the names of the arrays of a layer are those of a recurrent layer, also with normalized weights."""
    leaves = (name.removeprefix("parametrizations.").partition(".")[0] for name in names)
    return any(RECURRENT.match(leaf) for leaf in leaves)


def kind_of(arrays: Mapping[str, Any]) -> str:
    """Returns the class of a recurrent layer by the shape of its recurrent weight; empty for another layer."""
    if not is_recurrent(arrays):
        return ""
    shapes = {name: np.shape(value) for name, value in arrays.items() if np.ndim(value) == 2}
    rows, columns = next((shape for name, shape in [*shapes.items()][::-1] if "weight_hh" in name), (0, 1))
    hidden = next((shape[1] for name, shape in shapes.items() if "weight_hr" in name), columns)
    return {4: "LSTM", 3: "GRU", 1: "RNN"}.get(rows // max(hidden, 1), "recurrent layer")


def to_host(value: Any) -> Any:
    """Converts a tensor to an array, even bfloat16, which NumPy itself does not support."""
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        # Go through float32, which represents every bfloat16 exactly.
        return tensor.float().numpy().astype(ml_dtypes.bfloat16)
    return tensor.numpy()
