"""The equations in float64, and errors in units in the last place of a row."""

import numpy as np

from benchmarks.accuracy.inputs import Kind, Mask, Rows


def normalized(
    x: Rows, cotangent: Rows, epsilon: float, *, where: Mask | None = None, center: bool = True
) -> tuple[Rows, Rows]:
    """Each row (x - mean) / sqrt(var + epsilon), and its pull-back of a cotangent; zero where masked."""
    real = np.ones(x.shape, bool) if where is None else where
    count = np.maximum(real.sum(axis=1, keepdims=True), 1)

    def mean(values: Rows) -> Rows:
        total: Rows = np.where(real, values, 0.0).sum(axis=1, keepdims=True, dtype=np.longdouble)
        mean: Rows = total / count
        return mean

    data, g = x.astype(np.longdouble), cotangent.astype(np.longdouble)
    deviation = data - mean(data) if center else data
    # A row of equal elements has no deviation, whatever the rounding of its mean says.
    same = np.where(real, data, -np.inf).max(axis=1, keepdims=True) == np.where(real, data, np.inf).min(
        axis=1, keepdims=True
    )
    deviation = np.where(same & center, 0.0, deviation)
    power = mean(deviation**2) + epsilon
    inverse = np.where(power > 0, 1 / np.sqrt(np.where(power > 0, power, 1.0)), 0.0)
    y = deviation * inverse
    gradient = (g - (mean(g) if center else 0.0) - y * mean(g * y)) * inverse
    return np.where(real, y, 0.0).astype(np.float64), np.where(real, gradient, 0.0).astype(np.float64)


def ulps(got: Rows, want: Rows, kind: Kind, x: Rows, where: Mask | None) -> float:
    """The largest error, in units in the last place of the largest result of its row; infinite where zero is due.

    Beside large features the others are judged by the largest of the others.
    """
    real = np.ones(x.shape, bool) if where is None else where
    judged = [real]
    if kind.outliers is not None:
        others = real & (np.abs(x.astype(np.float64)) <= kind.outliers)
        judged.append(others)
    error = np.abs(got.astype(np.float64) - want)
    return max(_worst(error, np.abs(want), got.dtype.itemsize, part) for part in judged)


def _worst(error: Rows, size: Rows, itemsize: int, part: Mask) -> float:
    largest = np.where(part, size, 0.0).max(axis=1)
    unit = np.spacing(largest.astype(np.float32)).astype(np.float64) * (2.0**16 if itemsize == 2 else 1.0)
    off = np.where(part, error, 0.0).max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(off == 0, 0.0, off / np.where(largest == 0, 0.0, unit))
    return float(np.where(np.isnan(ratio), np.inf, ratio).max())
