"""Rows of data that cost digits: each row is what one statistic is taken over."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_]

ROWS = 12
SIZES = (97, 650, 1_000, 4_096, 1_000_000)
CONSTANTS = (0.1, -1.0, 1 / 3, 1234.567, 6e4 / 7, 602_209.0, -1e6 / 3, 1e7 / 3, 1e8 / 7, 1e9 / 3, -1e10, 1e10 / 7)


@dataclass(frozen=True)
class Kind:
    """A kind of data, and the epsilon with which it is normalized."""

    name: str
    draw: Callable[[np.random.Generator, int, int], Rows]
    """Of a generator, a number of rows and of elements in each."""
    epsilon: float
    outliers: float | None = None
    """Elements above it are large features: the others are judged apart from them. None: there are none."""
    only_float32: bool = False


def _normal(scale: float = 1.0, offset: float = 0.0) -> Callable[[np.random.Generator, int, int], Rows]:
    return lambda rng, rows, size: rng.normal(size=(rows, size)) * scale + offset


def _large(values: tuple[float, ...], first: bool = False) -> Callable[[np.random.Generator, int, int], Rows]:
    """Data of size one with large features in every row: the first ones, or anywhere."""

    def draw(rng: np.random.Generator, rows: int, size: int) -> Rows:
        x = rng.normal(size=(rows, size))
        for row in x:
            row[np.arange(len(values)) if first else rng.choice(size, len(values), replace=False)] = values
        return x

    return draw


def _constant(rng: np.random.Generator, rows: int, size: int) -> Rows:
    return np.repeat(np.resize(CONSTANTS, rows)[:, None], size, axis=1)


def _one_ulp(rng: np.random.Generator, rows: int, size: int) -> Rows:
    """A constant, and its neighbor above."""
    low = np.resize(CONSTANTS, rows).astype(np.float32)[:, None]
    return np.where(rng.random((rows, size)) < 0.5, low, np.nextafter(low, np.float32(math.inf)))


KINDS = (
    Kind("normal", _normal(), 1e-5),
    Kind("offset 1e4", _normal(offset=1e4), 1e-5),
    Kind("offset -1e6", _normal(offset=-1e6), 1e-5),
    Kind("one large feature, first", _large((15_000.0,), first=True), 1e-5, outliers=1e3),
    Kind("one large feature, anywhere", _large((15_000.0,)), 1e-5, outliers=1e3),
    Kind("one large negative feature", _large((-15_000.0,)), 1e-5, outliers=1e3),
    Kind("large features of both signs", _large((15_000.0, -15_000.0)), 1e-5, outliers=1e3),
    Kind("constant, up to 1e10", _constant, 1e-5),
    Kind("constant, up to 1e10", _constant, 0.0),
    Kind("spread by one ulp", _one_ulp, 1e-5, only_float32=True),
    Kind("spread by one ulp", _one_ulp, 0.0, only_float32=True),
    Kind("1e-20", _normal(scale=1e-20), 1e-5),
    Kind("1e20", _normal(scale=1e20), 1e-5),
)


def rows_of(kind: Kind, rows: int, size: int, dtype: str, seed: int = 0) -> tuple[Rows, Rows]:
    """Data of a kind, and a cotangent for them, in a dtype."""
    rng = np.random.default_rng([seed, size, len(kind.name)])
    kinds: dict[str, Any] = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
    x, cotangent = kind.draw(rng, rows, size), rng.normal(size=(rows, size))
    return x.astype(kinds[dtype]), cotangent.astype(kinds[dtype])


def half_mask(rows: int, size: int) -> Mask:
    """True at about half of the places, of every row at others."""
    return np.random.default_rng(size).random((rows, size)) < 0.5
