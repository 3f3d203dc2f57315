"""The NamedTuple for all trees in this package, so that exported programs may contain them.

``jax.export`` saves the input and output trees of a program, and supports only registered types. We register each class
when it is created, so we cannot forget one.
"""

from contextlib import suppress
from types import new_class
from typing import TYPE_CHECKING, Any

from jax import export

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    from typing import NamedTuple as _Plain

    class _Registering(type):
        """Turns a class body into a ``typing.NamedTuple`` and registers it."""

        def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, body)
            made = new_class(name, (_Plain,), exec_body=lambda namespace: namespace.update(body))
            # importlib.reload creates the classes of a module again; the first classes keep the registered names.
            with suppress(ValueError):
                export.register_namedtuple_serialization(made, serialized_name=f"{made.__module__}.{made.__qualname__}")
            return made

    class NamedTuple(metaclass=_Registering):
        """A ``typing.NamedTuple`` that is registered with ``jax.export`` under the names of its module and class."""
