"""The NamedTuple of all trees in this package: programs that are written to disk may hold them.

``jax.export`` writes the trees that a program takes and gives into the file, and knows those types only that have been
registered. Here that happens where a class is made, so that none can be forgotten.
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
        """Makes of a class body what ``typing.NamedTuple`` makes of it, and registers it."""

        def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, body)
            made = new_class(name, (_Plain,), exec_body=lambda namespace: namespace.update(body))
            # A module that is executed again (importlib.reload) makes its classes anew; the first keep the names.
            with suppress(ValueError):
                export.register_namedtuple_serialization(made, serialized_name=f"{made.__module__}.{made.__qualname__}")
            return made

    class NamedTuple(metaclass=_Registering):
        """``typing.NamedTuple``, known to ``jax.export`` by the names of its module and class."""
