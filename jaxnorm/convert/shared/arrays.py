"""Arrays by name, with full accounting: a converter takes each one, with its required shape, or refuses it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm._base import objects, validate

Host: TypeAlias = np.ndarray[Any, np.dtype[Any]]
"""A private copy of an array in host memory: nobody else writes to it."""


def flatten(values: Any, separator: str, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of nested mappings with their paths."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from flatten(value, separator, f"{path}{separator}{name}" if path else str(name))
    else:
        yield path, values


def to_host(caller: str, name: str, value: Any) -> Host:
    """Copies an array to host memory in its own dtype."""
    array = np.array(value)
    if array.dtype.kind in "OUS":
        raise TypeError(f"{caller}: {name} must be an array, got {objects.describe(value)}.")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{caller}: {name} must have a real floating-point dtype, got {array.dtype}. "
            "Quantized, integer and complex weights have no counterpart here."
        )
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise TypeError(
            f"{caller}: {name} is in {array.dtype}, which JAX would cut to float32. "
            "Set jax_enable_x64, or convert it first, for example with astype('float32')."
        )
    return array


class Arrays:
    """The arrays of one layer, keyed by name. ``take`` checks a shape, ``finish`` refuses the arrays nobody took.

    ``choose`` is the advice in error messages on how to pass a prefix.
    """

    def __init__(
        self, caller: str, values: Mapping[str, Any], prefix: str = "", *, choose: str = "Pass prefix={!r}."
    ) -> None:
        if not isinstance(values, Mapping):
            raise TypeError(f"{caller}: arrays must be a dict of arrays by name, got {objects.describe(values)}.")
        names = [name for name in values if not isinstance(name, str)]
        if names:
            raise TypeError(f"{caller}: the names of arrays must be strings, got {objects.describe(names[0])}.")
        self.where = caller
        self.choose = choose
        self.prefix = prefix
        self._values = {name[len(prefix) :]: value for name, value in values.items() if name.startswith(prefix)}
        self.taken: set[str] = set()
        self.notes: tuple[str, ...] = ()
        if prefix and not self._values:
            raise ValueError(
                f"{caller}: no array has a name that begins with prefix={prefix!r}; there are {listed(values)}."
            )

    def __contains__(self, name: str) -> bool:
        return name in self._values

    @property
    def names(self) -> tuple[str, ...]:
        """All names, without the prefix."""
        return tuple(self._values)

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a required array."""
        return tuple(int(size) for size in np.shape(self._value(name)))

    def matrix(self, name: str, symbols: str) -> tuple[int, int]:
        """Returns the shape of a required array with two axes."""
        shape = self.shape(name)
        if len(shape) != 2:
            raise ValueError(f"{self.where}: {self.prefix}{name} must have shape {symbols}, got {shape}.")
        return shape[0], shape[1]

    def take(self, name: str, shape: Sequence[int] | None = None, symbols: str = "") -> Host:
        """Takes the array of this name; it must have this shape."""
        array = to_host(self.where, self.prefix + name, self._value(name))
        if shape is not None:
            hint = "Was another layer, or another size, meant?"
            validate.shape(self.where, self.prefix + name, array.shape, shape, symbols, hint)
        self.taken.add(name)
        return array

    def skip(self, name: str) -> Any:
        """Marks an entry that is not a weight as taken, such as a counter; returns its value, or None."""
        self.taken.add(name)
        return self._values.get(name)

    def expect(self, names: Iterable[str], optional: Iterable[str] = ()) -> None:
        """Refuses a layer with missing or unknown arrays; the message names all of them."""
        names = tuple(names)
        missing = [name for name in names if name not in self._values]
        known = {*names, *optional, *self.taken}
        unknown = [self.prefix + name for name in self._values if name not in known]
        if missing:
            self._refuse_missing(missing, unknown)
        self._refuse_unknown(unknown)

    def finish(self, hint: str = "") -> None:
        """Refuses arrays that nobody took, since ignoring one would change the function."""
        self._refuse_unknown([self.prefix + name for name in self._values if name not in self.taken], hint)

    def prefixes(self, end: str) -> list[str]:
        """Returns all prefixes with an array of this name, even the empty one."""
        places = [name.removesuffix(end) for name in self._values if name.endswith(end)]
        return [self.prefix + place for place in places if not place or place[-1] in "./"]

    def under(self, prefix: str) -> "Arrays":
        """Returns the arrays with names that begin with a longer prefix; a note says which."""
        values = {self.prefix + name: value for name, value in self._values.items()}
        found = Arrays(self.where, values, prefix, choose=self.choose)
        if prefix != self.prefix:
            found.notes = (found_note(prefix),)
        return found

    def remaining(self) -> dict[str, Any]:
        """Returns the arrays that nobody took, by name without the prefix."""
        return {name: value for name, value in self._values.items() if name not in self.taken}

    def holding(self, name: str, kind: str) -> "Arrays":
        """Returns the arrays of the one layer with an array of this name, which may lie deeper in a model."""
        return self if name in self else self.only(dict.fromkeys(self.prefixes(name), kind))

    def only(self, kinds: Mapping[str, str]) -> "Arrays":
        """Returns the arrays of the one layer that fits, if there is one; ``kinds`` has the kind of each by prefix."""
        if len(kinds) > 1:
            self.point_to(kinds)
        return self.under(next(iter(kinds), self.prefix))

    def point_to(self, kinds: Mapping[str, str]) -> NoReturn:
        """Raises the error for several layers that fit, with the kind of each by prefix."""
        several = listed(f"{prefix!r} ({kind})" for prefix, kind in kinds.items())
        raise ValueError(
            f"{self.where}: there are layers under the prefixes {several}. "
            f"{self.choose.format(next(iter(kinds)))[:-1]}, or another of them."
        )

    def _refuse_unknown(self, unknown: Sequence[str], hint: str = "") -> None:
        if unknown:
            raise ValueError(
                f"{self.where}: {listed(unknown)} not understood, and nothing is left out silently. "
                f"{hint or 'Pass the arrays of this one layer only.'}"
            )

    def _refuse_missing(self, missing: Sequence[str], unknown: Sequence[str] = ()) -> NoReturn:
        common = set.intersection(*({*self.prefixes(name)} for name in missing))
        there = listed(self._values)
        hint = f"There are {there}. Pass the arrays of one layer, all of them."
        if common:
            prefix = min(common, key=len)
            hint = f"There are {there}, so the prefix is {prefix!r}. {self.choose.format(prefix)}"
        besides = f", and {listed(unknown)} not understood" if unknown and not common else ""
        names = listed(self.prefix + name for name in missing)
        raise ValueError(f"{self.where}: {names} {'is' if len(missing) == 1 else 'are'} missing{besides}. {hint}")

    def _value(self, name: str) -> Any:
        if name not in self._values:
            self._refuse_missing([name])
        return self._values[name]


def found_note(prefix: str) -> str:
    """The note on the one layer that was found among others."""
    return f"the one layer that fits has the prefix {prefix!r}; the other arrays are left out"


def listed(names: Any) -> str:
    """Lists the first few names, for a message."""
    found = list(names)
    shown = ", ".join(map(str, found[:8]))
    return f"{shown} and {len(found) - 8} more" if len(found) > 8 else shown or "none"


def to_device(array: Host) -> jax.Array:
    """Makes a JAX array with its own memory."""
    return jnp.array(array)


def to_numpy(array: Any) -> Host:
    """Makes a writable NumPy array with its own memory."""
    return np.array(array)
