"""Whole models of Keras, layer by layer."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from jaxnorm.convert.keras.layer import load_layer
from jaxnorm.convert.keras.source import Entry
from jaxnorm.convert.shared.base import NoCounterpartError, UndeterminedError
from jaxnorm.convert.shared.model import ImportedModel, check_specs, plain


def read_model(caller: str, entries: Sequence[Entry], specs: Any) -> ImportedModel:
    """Reads all layers that a source has."""
    outer = _distinct([entry for entry in entries if not entry.inside])
    specs = check_specs(caller, specs, [entry.place for entry in outer])
    layers: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    notes: list[str] = []
    for entry in outer:
        place, spec = entry.place, specs.get(entry.place)
        where = f"{caller}: {place}" if place else caller
        if entry.known or spec is not None:
            try:
                own = entry.named(where, spec)
                layers[place] = load_layer(where, own, spec)
                kinds[place] = own.kind or type(layers[place].spec).__name__
                notes += [f"{place}: {note}" for note in layers[place].notes]
                continue
            except (NoCounterpartError, UndeterminedError) as error:
                notes.append(str(error).removeprefix(f"{caller}: "))
                own = entry.layer
        else:
            own = entry.named(where, None)
        if own.arrays:
            layers[place] = plain(where, own.arrays)
        if own.arrays or not any(other.place.startswith(f"{place}/") for other in outer):
            kinds[place] = own.kind or ""
    return ImportedModel(layers, kinds, {}, tuple(notes))


def _distinct(entries: Sequence[Entry]) -> list[Entry]:
    """Numbers layers that have one name, as a model of a class of its own may have them."""
    seen: Counter[str] = Counter()
    found = []
    for entry in entries:
        number = seen[entry.place]
        seen[entry.place] += 1
        found.append(entry._replace(place=f"{entry.place}_{number}") if number else entry)
    return found
