"""The layers of a source of Keras, a live model or a file, with their arrays by name."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm.convert.keras.files import read_layers
from jaxnorm.convert.keras.layer import CELL, NORM, KerasLayer
from jaxnorm.convert.keras.options import has_counterpart
from jaxnorm.convert.keras.renorm import STATISTICS
from jaxnorm.convert.shared import norms
from jaxnorm.convert.shared.arrays import Host, found_note, listed
from jaxnorm.convert.shared.base import UndeterminedError
from jaxnorm.convert.shared.files import is_path

NAMES = {
    "Embedding": ("embeddings",),
    "PReLU": ("alpha",),
    **{f"SeparableConv{axes}D": ("depthwise_kernel", "pointwise_kernel", "bias") for axes in (1, 2)},
    **dict.fromkeys(("Dense", "EinsumDense", "DepthwiseConv1D", "DepthwiseConv2D"), ("kernel", "bias")),
    **{f"Conv{axes}D{end}": ("kernel", "bias") for axes in (1, 2, 3) for end in ("", "Transpose")},
}
"""The names of the arrays of layers without a counterpart, in the order in which files number them."""
NORM_KINDS: dict[Any, tuple[str, ...]] = {
    norms.LayerNorm: ("LayerNormalization",),
    norms.RMSNorm: ("RMSNormalization",),
    norms.GroupNorm: ("GroupNormalization",),
    norms.InstanceNorm: ("GroupNormalization",),
    norms.BatchNorm: ("BatchNormalization",),
}


class Entry(NamedTuple):
    """A layer of a source: its names in the model, and its path in a file."""

    place: str
    path: str
    layer: KerasLayer
    known: bool
    """Whether it is a recurrent layer or a normalizer, as far as the source tells."""
    inside: bool = False
    """Whether it lies in such a layer."""
    numbered: bool = False
    """Whether its arrays are numbered, as in files."""
    matches: int = 1
    """How many layers of its name the configuration of a file has."""

    def named(self, caller: str, spec: Any) -> KerasLayer:
        """Returns the layer with its arrays by name; ``spec`` is that of a normalizer, where the source has none."""
        kind, config, arrays, _ = self.layer
        if not self.numbered:
            return self.layer
        if not self.known and spec is None:
            arrays = {path: array for path, array in arrays.items() if path.startswith("vars/")}
        kept = {path: array for path, array in arrays.items() if "seed_generator" not in path.split("/")}
        return KerasLayer(kind, config, _named(caller, KerasLayer(kind, config, kept), self.known, spec))


def entries(caller: str, source: Any) -> list[Entry]:
    """Returns all layers of a file or a live model."""
    if not is_path(source):
        return list(_live_entries(source, ""))
    found: list[Entry] = []
    for layer in read_layers(caller, source):
        known = has_counterpart(layer.kind, layer.config) if layer.kind else _is_recurrent(layer.arrays)
        inside = any(other.known and layer.path.startswith(f"{other.path}/") for other in found)
        own = KerasLayer(layer.kind, layer.config, layer.arrays)
        found.append(Entry("/".join(layer.names), layer.path, own, known, inside, numbered=True, matches=layer.matches))
    return found


def choose(caller: str, found: Sequence[Entry], wanted: str | None, spec: Any) -> tuple[Entry, tuple[str, ...]]:
    """Returns the layer with this name or path, or the only one that fits; and a note if others are left out."""
    outer = [entry for entry in found if not entry.inside]
    if wanted is not None:
        matches = [entry for entry in found if wanted in (entry.place, entry.path, entry.place.rpartition("/")[2])]
        asked = f"layer={wanted!r} names {len(matches)} layers"
        shown = matches or outer
    else:
        matches = [entry for entry in outer if _fits(entry, spec)]
        asked, shown = "layer is None", matches or outer
    if len(matches) != 1:
        names = listed(f"{entry.place!r} ({entry.path})" for entry in shown)
        raise ValueError(f"{caller}: {asked}. Pass layer=... with the name or the path of one: {names}.")
    note = wanted is None and len(outer) > 1
    return matches[0], (found_note(matches[0].place),) if note else ()


def _fits(entry: Entry, spec: Any) -> bool:
    kind, _, arrays, _ = entry.layer
    if not isinstance(spec, norms.KINDS):
        return entry.known and not (kind or "").endswith("Normalization")
    if kind is not None:
        return kind in NORM_KINDS[type(spec)]
    count = spec.use_scale + spec.use_bias + 2 * isinstance(spec, norms.BatchNorm)
    return len(arrays) == count and all(array.ndim == 1 for array in arrays.values())


def _is_recurrent(arrays: Mapping[str, Host]) -> bool:
    return any(name.startswith(("cell/", "forward_layer/cell/")) for name in arrays)


def live(layer: Any) -> KerasLayer:
    """Returns a live layer that may have a counterpart."""
    image = getattr(getattr(layer, "cell", None), "spatial_dims", None)
    config = layer.get_config() if is_known(layer) else {}
    return KerasLayer(type(layer).__name__, config, _live_arrays(layer), None if image is None else tuple(image))


def children(layer: Any) -> list[Any]:
    """Returns the layers that are parts of a live layer or model."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def is_known(layer: Any) -> bool:
    """Whether a live layer is a recurrent layer or a normalizer."""
    kind = type(layer).__name__
    own = type(layer).__module__.startswith("keras")
    return own and has_counterpart(kind, layer.get_config() if kind in ("Bidirectional", "RNN") else {})


def _live_entries(parent: Any, around: str) -> Iterator[Entry]:
    inner = children(parent)
    own = {id(variable) for child in inner for variable in child.variables}
    variables = [variable for variable in parent.weights if id(variable) not in own]
    if variables or not inner:
        layer = KerasLayer(type(parent).__name__, {}, _by_name(variables))
        if layer.kind != "InputLayer":
            yield Entry(around, around, layer, False)
    for child in inner:
        place = f"{around}/{child.name}" if around else child.name
        if is_known(child):
            yield Entry(place, place, live(child), True)
        else:
            yield from _live_entries(child, place)


def _live_arrays(layer: Any) -> dict[str, Host]:
    """Returns the weights of a live layer, keyed by name."""
    if type(layer).__name__ == "Bidirectional":
        parts = {name: _live_arrays(getattr(layer, name)) for name in ("forward_layer", "backward_layer")}
        return {f"{name}/{key}": value for name, values in parts.items() for key, value in values.items()}
    if not layer.built:
        raise ValueError(
            "convert.keras.load: the layer has no weights yet. Build it first: layer.build((batch, steps, features))."
        )
    cells = getattr(getattr(layer, "cell", None), "cells", None)
    if cells is not None:
        return {
            f"cells/{number}/{variable.name}": np.asarray(variable)
            for number, cell in enumerate(cells)
            for variable in cell.weights
        }
    return {variable.name: np.asarray(variable) for variable in layer.weights}


def _by_name(variables: Sequence[Any]) -> dict[str, Any]:
    seen: Counter[str] = Counter()
    found = {}
    for variable in variables:
        number = seen[variable.name]
        seen[variable.name] += 1
        found[f"{variable.name}_{number}" if number else variable.name] = np.asarray(variable)
    return found


def _named(caller: str, layer: KerasLayer, known: bool, spec: Any) -> dict[str, Host]:
    """Names the arrays of a layer from a file, which numbers them in the order in which the layer created them."""
    groups: dict[str, list[str]] = {}
    for path in sorted(layer.arrays, key=lambda path: (path.rpartition("/")[0], int(path.rpartition("/")[2]))):
        groups.setdefault(path.rpartition("/")[0], []).append(path)
    found: dict[str, Host] = {}
    stacked = _stacked(caller, [group for group in groups if "/cells/" in f"/{group}"], layer)
    for group, paths in groups.items():
        numbers = [int(path.rpartition("/")[2]) for path in paths]
        if numbers != list(range(len(paths))):
            raise ValueError(f"{caller} is damaged: {group} has the variables {numbers}, which are not all.")
        owner = "/".join(part for part in stacked.get(group, group).split("/") if part not in ("vars", "cell"))
        own = [layer.arrays[path] for path in paths]
        names = _names(layer, spec, group, own) if known or spec is not None else NAMES.get(layer.kind or "", ())
        names = (*names, *(f"variable {number}" for number in range(len(names), len(own))))[: len(own)]
        found |= {(f"{owner}/{name}" if owner else name): array for name, array in zip(names, own, strict=True)}
    return found


def _names(layer: KerasLayer, spec: Any, group: str, arrays: Sequence[Host]) -> tuple[str, ...]:
    """Returns the names of the arrays of one group; a file of weights has less information than options or a spec."""
    if arrays[0].ndim >= 2 or "cell" in group.split("/"):
        return CELL
    if layer.kind == "RMSNormalization" or isinstance(spec, norms.RMSNorm):
        return ("scale",)
    used = (getattr(spec, "use_scale", True), getattr(spec, "use_bias", True))
    used = (layer.config.get("scale", used[0]), layer.config.get("center", used[1]))
    names = tuple(name for name, has in zip(NORM[:2], used, strict=True) if has) + tuple(NORM[2:])
    return names + (STATISTICS[2:] if layer.config.get("renorm") else ())


def _stacked(caller: str, groups: Sequence[str], layer: KerasLayer) -> dict[str, str]:
    """Numbers the cells of a stack from input to output; files name them by class, and count each class by itself."""
    cells = layer.config.get("cell", {}).get("config", {}).get("cells", ())
    words = [re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", each["class_name"]).lower() for each in cells]
    names = [word if not (seen := words[:place].count(word)) else f"{word}_{seen}" for place, word in enumerate(words)]
    if not cells and len({re.sub(r"_\d+$", "", group.split("/")[-2]) for group in groups}) > 1:
        raise UndeterminedError(
            f"{caller}: the arrays do not tell the order of cells of several classes in one RNN. Take the live model "
            "or a .keras file."
        )
    names = names or sorted({group.split("/")[-2] for group in groups}, key=lambda name: (len(name), name))
    return {group: f"cells/{names.index(group.split('/')[-2])}" for group in groups if group.split("/")[-2] in names}
