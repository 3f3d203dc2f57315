"""Whole trees of Flax: cells by the names of their layers, normalizers by specs, and all other arrays as they are."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxnorm.convert.shared import flax
from jaxnorm.convert.shared.arrays import Arrays
from jaxnorm.convert.shared.base import Imported, UndeterminedError
from jaxnorm.convert.shared.model import ImportedModel, check_specs, plain


def read_tree(
    caller: str, values: Mapping[str, Any], specs: Any, load: Callable[[Arrays, Any], Imported], prefix: str = ""
) -> ImportedModel:
    """Reads arrays by path; ``load`` makes a layer of the arrays and the spec, or the module, of one."""
    arrays = Arrays(caller, values, prefix)
    notes: list[str] = []
    places = [place for place, kind in flax.cells_in(arrays).items() if kind is not None]
    layers: dict[str, dict[str, Any]] = {}
    for name in (f"{prefix}{rest}" for rest in arrays.names):
        own = name.rpartition("/")[0]
        place = next((each for each in places if name.startswith(each)), f"{own}/" if own else "")
        layers.setdefault(place, {})[name] = values[name]
    specs = check_specs(caller, specs, [_path(place, prefix) for place in layers])
    found: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    for place, own_arrays in layers.items():
        path = _path(place, prefix)
        if place in places or path in specs:
            try:
                layer = load(Arrays(caller, own_arrays, place), specs.get(path))
                found[path], kinds[path] = layer, type(layer.spec).__name__
                notes += [f"{path}: {note}" for note in layer.notes]
                continue
            except UndeterminedError as error:
                notes.append(f"{path}: {str(error).removeprefix(f'{caller}: ')}")
        found[path] = plain(caller, {name[len(place) :]: value for name, value in own_arrays.items()}, place)
    return ImportedModel(found, kinds, {}, tuple(notes))


def _path(place: str, prefix: str) -> str:
    return place[len(prefix) :].removesuffix("/")
