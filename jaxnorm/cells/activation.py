"""Activations as fields of specs, pickled by name."""

import importlib
import sys
from collections.abc import Callable
from typing import Any


class NamedActivation:
    """Makes a spec with a field ``activation`` picklable: jitted functions such as ``jnp.tanh`` are not."""

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"activation": _by_name(vars(self)["activation"])}

    def __setstate__(self, state: dict[str, Any]) -> None:
        found = state["activation"]
        if isinstance(found, tuple):
            found = getattr(importlib.import_module(found[0]), found[1])
        vars(self).update(state | {"activation": found})


def _by_name(function: Callable[..., Any]) -> tuple[str, str] | Callable[..., Any]:
    """Returns module and name of a function, for pickle, which refuses jitted functions such as ``jnp.tanh``."""
    module, name = getattr(function, "__module__", None), getattr(function, "__name__", "")
    return (module, name) if module and getattr(sys.modules.get(module), name, None) is function else function
