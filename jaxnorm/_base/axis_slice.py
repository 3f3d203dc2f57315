"""A slice of axes in a spec. Specs hash, and Python's own slices do not before Python 3.12."""

from dataclasses import dataclass


@dataclass(frozen=True, repr=False)
class AxisSlice:
    """The axes that ``range(ndim)[start:stop:step]`` gives, for data of any number of axes."""

    start: int | None
    stop: int | None
    step: int | None

    def __repr__(self) -> str:
        return f"slice({self.start}, {self.stop}, {self.step})"

    def axes(self, ndim: int) -> tuple[int, ...]:
        """The axes of an array with ``ndim`` axes."""
        return tuple(range(ndim)[self.start : self.stop : self.step])
