"""Reads live models whose modules keep their children as attributes, in lists and in dicts."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm.convert.shared.base import Imported, NoCounterpartError
from jaxnorm.convert.shared.model import ImportedModel, check_specs, plain, tied_names

Found: TypeAlias = tuple[str, Any, dict[str, Any], bool]
"""The path of a module, the module, its own arrays by name, and whether it has modules of its own."""


class Library(NamedTuple):
    """What a library says of its objects."""

    is_module: Callable[[Any], bool]
    is_array: Callable[[Any], bool]
    is_known: Callable[[Any], bool]
    """Whether a module is a recurrent layer or a normalizer."""
    load: Callable[[str, Any, Any], Imported]
    """Loads such a module, for a caller and a spec."""
    value: Callable[[Any], Any] = lambda array: array
    """Returns the array of a variable."""


def read_live(caller: str, root: Any, specs: Any, library: Library) -> ImportedModel:
    """Reads all modules of a live model by path."""
    modules = list(walk(root, library, library.is_known))
    specs = check_specs(caller, specs, [path for path, module, _, _ in modules if library.is_known(module)])
    layers: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    notes: list[str] = []
    for path, module, arrays, has_children in modules:
        if arrays or not has_children:
            kinds[path] = type(module).__name__
        if library.is_known(module):
            try:
                layers[path] = library.load(f"{caller}: {path}" if path else caller, module, specs.get(path))
                notes += [f"{path}: {note}" for note in layers[path].notes]
                continue
            except NoCounterpartError as error:
                notes.append(str(error).removeprefix(f"{caller}: "))
                arrays = {
                    f"{inner}/{name}".removeprefix("/"): array
                    for inner, _, own, _ in walk(module, library, lambda _: False)
                    for name, array in own.items()
                }
        if arrays:
            values = {name: library.value(array) for name, array in arrays.items()}
            layers[path] = plain(caller, values, f"{path}/" if path else "")
    named = {f"{path}/{name}": array for path, _, arrays, _ in modules for name, array in arrays.items()}
    return ImportedModel(layers, kinds, tied_names(named.items()), tuple(notes))


def walk(root: Any, library: Library, stop: Callable[[Any], bool]) -> Iterator[Found]:
    """Yields a model and all modules in it, parents first; does not look into modules at which to ``stop``."""

    def visit(node: Any, path: str, above: tuple[int, ...]) -> Iterator[Found]:
        if id(node) in above:
            return
        items = [] if stop(node) else list(_attributes(node, library))
        arrays = {name: item for name, item in items if library.is_array(item)}
        inner = [(name, item) for name, item in items if name not in arrays]
        yield path, node, arrays, bool(inner)
        for name, item in inner:
            yield from visit(item, f"{path}/{name}" if path else name, (*above, id(node)))

    yield from visit(root, "", ())


def _attributes(node: Any, library: Library) -> Iterator[tuple[str, Any]]:
    """Yields arrays and modules among the attributes, with the names of the containers that they are in."""

    def visit(name: str, item: Any) -> Iterator[tuple[str, Any]]:
        if library.is_array(item) or (library.is_module(item) and not isinstance(item, Mapping)):
            yield name, item
        elif isinstance(item, Mapping):
            for key, value in item.items():
                yield from visit(f"{name}/{key}", value)
        elif isinstance(item, list | tuple):
            for number, value in enumerate(item):
                yield from visit(f"{name}/{number}", value)

    for name, item in vars(node).items():
        yield from visit(name, item)
