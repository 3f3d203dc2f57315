"""Whole models of PyTorch, layer by layer."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxnorm.convert.shared.arrays import listed
from jaxnorm.convert.shared.base import NoCounterpartError, UndeterminedError
from jaxnorm.convert.shared.model import ImportedModel, check_specs, plain, tied_names
from jaxnorm.convert.torch.kernels import effective
from jaxnorm.convert.torch.layer import load_layer
from jaxnorm.convert.torch.modules import Described, class_name, describe
from jaxnorm.convert.torch.state import RECURRENT, is_recurrent, is_within, kind_of, sort, to_host


def read_model(
    caller: str, values: Mapping[str, Any], modules: Mapping[str, Any], specs: Any, prefix: str
) -> ImportedModel:
    """Reads the arrays of a model; ``modules`` are the live modules by path, none for a state dict."""
    layers, raw_notes = sort(values)
    inner = [path for path in modules if any(is_within(other, path) and other != path for other in modules)]
    paths = [path for path in modules if path in layers or path not in inner]
    paths = list(dict.fromkeys([*paths, *layers]))
    specs = check_specs(caller, specs, paths)
    found: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    notes: list[str] = []
    for path in paths:
        arrays, module = layers.get(path, {}), modules.get(path)
        start = f"{prefix}{path}." if path else prefix
        kinds[path] = kind_of(arrays) if module is None else class_name(module)
        inside = [other for other in layers if other != path and is_within(other, path)]
        layer = None
        own: tuple[str, ...] = ()
        try:
            described, own = (describe(caller, module), ()) if module is not None else _guess(caller, arrays, inside)
            if described is not None or path in specs:
                layer = load_layer(caller, arrays, start, specs.get(path), described if module is not None else None)
        except (NoCounterpartError, UndeterminedError) as error:
            own = (str(error).removeprefix(f"{caller}: "),)
        if layer is not None:
            found[path], own = layer, (*layer.notes, *raw_notes.get(path, ()))
            kinds[path] = kinds[path] or type(layer.spec).__name__
        elif arrays:
            found[path], more = _plain(caller, arrays, start)
            own += more
        notes += [f"{path}: {note}" for note in own]
    names = {(f"{path}.{leaf}" if path else leaf): array for path, own in layers.items() for leaf, array in own.items()}
    return ImportedModel(found, kinds, tied_names(names.items()), tuple(notes))


def _guess(caller: str, arrays: Mapping[str, Any], inside: Sequence[str]) -> tuple[Described | None, tuple[str, ...]]:
    """Tells a recurrent layer by the names in a state dict; else notes why it is none, if that is a surprise."""
    if not is_recurrent(arrays):
        return None, ()
    if inside:
        return None, ("it has layers of its own, so it is none of torch.nn",)
    names = effective(caller, {name: to_host(value) for name, value in arrays.items()})[0]
    unknown = [name for name in names if not RECURRENT.fullmatch(name)]
    return (None, (f"no recurrent layer of torch.nn has {listed(unknown)}",)) if unknown else (Described(), ())


def _plain(caller: str, arrays: Mapping[str, Any], prefix: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns the arrays of a layer, with the weights that weight and spectral normalization make."""
    values = {name: to_host(value) for name, value in arrays.items()}
    try:
        values, notes = effective(caller, values, prefix)
    except ValueError as error:
        notes = (f"the arrays of its parametrization are as they are: {str(error).removeprefix(f'{caller}: ')}",)
    return plain(caller, values, prefix), notes
