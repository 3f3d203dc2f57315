"""What every normalizer spec offers, and the affine parameters that most of them have.

A spec is a frozen, hashable dataclass of hyper-parameters. Its weights are a plain NamedTuple of arrays, its work is
pure methods, and under it lies a plain function of arrays.
"""

from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax.numpy as jnp

from jaxnorm import _validate
from jaxnorm._typing import Array, Axis, Bool, DTypeLike, Float, Int, PyTree

Params: TypeAlias = PyTree
"""The weights of a normalizer: :class:`Affine`, or ``()`` where there are none."""

Stats: TypeAlias = PyTree
"""Statistics that outlive a call: :class:`Moments` for batch statistics, ``()`` where there are none."""


class Affine(NamedTuple):
    """Scale (gain) and bias (shift) after a normalization; None where the spec has none."""

    scale: Float[Array, "..."] | None
    bias: Float[Array, "..."] | None


@runtime_checkable
class Normalizer(Protocol):
    """The protocol of all normalizers; the arity is the same for all, so no caller branches on the kind."""

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of scale, bias and running statistics for data of the given shape."""
        ...

    def init(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Params:
        """Fresh weights for features of the given shape (see :meth:`param_shape`)."""
        ...

    def initial_stats(self, shape: tuple[int, ...]) -> Stats:
        """Running statistics before any data: mean 0, variance 1, count 0; or ``()``."""
        ...

    def __call__(
        self,
        params: Params,
        x: Float[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Normalizes ``x``; with ``stats=None`` by what is measured from ``x``, else by the given statistics.

        The second result is what was measured (or used); ``()`` for normalizers without running statistics.
        """
        ...

    def train(
        self,
        params: Params,
        x: Float[Array, "..."],
        running: Stats,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Normalizes in training, with running statistics at hand: output, and what was measured.

        For most normalizers it is ``self(params, x, None, where)``; some, such as batch renormalization, look at the
        running statistics in training too.
        """
        ...

    def fold(self, running: Stats, measured: Stats, start: int | Int[Array, ""] = 0) -> Stats:
        """Folds what a call measured into running statistics, by the rule of the spec."""
        ...

    def check_site(self, where: str) -> None:
        """Raises ValueError unless the normalizer can act on one trailing feature axis, as the sites of a cell need."""
        ...


def init_affine(shape: tuple[int, ...], dtype: DTypeLike, scale_init: float | None, bias_init: float | None) -> Affine:
    """Affine parameters filled with the given values; None leaves one out."""

    def full(value: float | None) -> Array | None:
        return None if value is None else jnp.full(shape, value, dtype)

    return Affine(full(scale_init), full(bias_init))


def affine_of(params: Any, where: str) -> Affine:
    """Checks that the weights handed to a spec are the NamedTuple that its ``init`` makes."""
    if not isinstance(params, Affine):
        raise TypeError(
            f"{where}: params must be Affine(scale, bias) as made by init(shape), got {type(params).__name__}."
        )
    return params


class TrainsByMeasuring:
    """The training of normalizers that measure what they are given and need no running statistics for it."""

    def train(
        self,
        params: Params,
        x: Float[Array, "..."],
        running: Stats,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """``self(params, x, None, where)``: the running statistics are for inference only."""
        trained: tuple[Array, Stats] = self(params, x, None, where)  # type: ignore[operator]  # it is a Normalizer
        return trained


class Stateless(TrainsByMeasuring):
    """The methods on running statistics that all normalizers without any share."""

    def initial_stats(self, shape: tuple[int, ...]) -> Stats:
        """No running statistics: ``()``."""
        return ()

    def fold(self, running: Stats, measured: Stats, start: int | Int[Array, ""] = 0) -> Stats:
        """Nothing to fold: ``()``."""
        return ()


def normalize_axis(where: str, axis: Axis) -> Axis:
    """A hashable axis for a spec: an int or a tuple of ints."""
    if isinstance(axis, list):
        axis = tuple(axis)
    entries = axis if isinstance(axis, tuple) else (axis,)
    if not entries or not all(isinstance(a, int) and not isinstance(a, bool) for a in entries):
        raise TypeError(f"{where}: axis must be an int or a non-empty tuple of ints, got {axis!r}.")
    return axis


def check_last_axis(where: str, spec: object, axis: Axis | None) -> None:
    """The site check of normalizers that reduce features: only the last axis will do."""
    if axis not in (-1, (-1,)):
        raise ValueError(
            f"{where}: {spec!r} cannot be used inside a cell, where a normalizer sees features on one last axis and "
            "any number of batch axes before it. Use axis=-1."
        )


def shape_along(where: str, shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """The part of a shape along the given axes."""
    return tuple(shape[a] for a in _validate.axes(where, axis, len(shape)))
