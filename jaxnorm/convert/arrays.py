"""Arrays by name, of which every one is accounted for: taken, with the shape that it must have, or refused."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm import _validate

Host: TypeAlias = np.ndarray[Any, np.dtype[Any]]
"""An array in the memory of the host, copied: nobody else writes into it."""


def flatten(values: Any, separator: str, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings by their path."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from flatten(value, separator, f"{path}{separator}{name}" if path else str(name))
    else:
        yield path, values


def to_host(where: str, name: str, value: Any) -> Host:
    """A copy in the memory of the host, in the dtype that it has."""
    array = np.array(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{where}: {name} must have a real floating-point dtype, got {array.dtype}. "
            "Quantized, integer and complex weights have no counterpart here."
        )
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise TypeError(
            f"{where}: {name} is in {array.dtype}, which JAX would cut to float32. "
            "Set jax_enable_x64, or convert it first, for example with astype('float32')."
        )
    return array


class Arrays:
    """The arrays of one layer by name. ``take`` checks a shape, ``finish`` refuses what was not taken."""

    def __init__(self, where: str, values: Mapping[str, Any], prefix: str = "") -> None:
        self.where = where
        self.prefix = prefix
        self._values = {name[len(prefix) :]: value for name, value in values.items() if name.startswith(prefix)}
        self.taken: set[str] = set()
        if prefix and not self._values:
            raise ValueError(
                f"{where}: no array has a name that begins with prefix={prefix!r}; there are {listed(values)}."
            )

    def __contains__(self, name: str) -> bool:
        return name in self._values

    @property
    def names(self) -> tuple[str, ...]:
        """All names, without the prefix."""
        return tuple(self._values)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array that has to be there."""
        return tuple(int(size) for size in np.shape(self._value(name)))

    def matrix(self, name: str, symbols: str) -> tuple[int, int]:
        """The shape of an array that has to be there and to have two axes."""
        shape = self.shape(name)
        if len(shape) != 2:
            raise ValueError(f"{self.where}: {self.prefix}{name} must have shape {symbols}, got {shape}.")
        return shape[0], shape[1]

    def take(self, name: str, shape: Sequence[int] | None = None, symbols: str = "") -> Host:
        """The array of this name, which must have this shape."""
        array = to_host(self.where, self.prefix + name, self._value(name))
        if shape is not None:
            hint = "Was another layer, or another size, meant?"
            _validate.shape(self.where, self.prefix + name, array.shape, shape, symbols, hint)
        self.taken.add(name)
        return array

    def skip(self, name: str) -> Any:
        """Marks something as seen that is no weight, such as a counter; its value, or None."""
        self.taken.add(name)
        return self._values.get(name)

    def finish(self, hint: str = "") -> None:
        """Refuses arrays that nobody has taken, since leaving one out would change what is computed."""
        left = [self.prefix + name for name in self._values if name not in self.taken]
        if left:
            raise ValueError(
                f"{self.where}: {listed(left)} not understood, and nothing is left out silently. "
                f"{hint or 'Pass the arrays of this one layer only.'}"
            )

    def _value(self, name: str) -> Any:
        if name not in self._values:
            raise ValueError(
                f"{self.where}: {self.prefix}{name} is missing; there are {listed(self._values)}. "
                "Pass the arrays of one layer, all of them."
            )
        return self._values[name]


def listed(names: Any) -> str:
    """The first few names, for a message."""
    found = list(names)
    shown = ", ".join(map(str, found[:8]))
    return f"{shown} and {len(found) - 8} more" if len(found) > 8 else shown or "none"


def to_device(array: Host) -> jax.Array:
    """A JAX array with memory of its own."""
    return jnp.array(array)


def to_numpy(array: Any) -> Host:
    """A NumPy array with memory of its own that can be written to."""
    return np.array(array)
