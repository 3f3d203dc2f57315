"""How running statistics move, in NumPy and float64, one kind of statistics after the other."""

from typing import Any

import numpy as np

import jaxnorm as jn


def toward(old: np.ndarray, new: np.ndarray, momentum: float | np.ndarray) -> np.ndarray:
    """A moving average."""
    return momentum * old + (1 - momentum) * new


def moments(old: Any, new: Any, momentum: float | None, ddof: int, debias: bool = False) -> jn.Moments:
    """Mean, variance and count of entries (rows, ...) whose counts lie along the rows; every count exceeds ddof."""
    count = np.reshape(new.count, np.shape(new.count) + (1,) * (new.mean.ndim - np.ndim(new.count)))
    before = np.reshape(old.count, np.shape(old.count) + (1,) * (old.mean.ndim - np.ndim(old.count)))
    if momentum is not None:
        var = new.var * count / (count - ddof)
        keep = np.minimum(momentum, before / (before + count)) if debias else momentum
        return jn.Moments(toward(old.mean, new.mean, keep), toward(old.var, var, keep), old.count + new.count)
    # The sums of all that was seen: of the values, and of their squares around the new mean.
    biased = old.var * np.where(before > ddof, (before - ddof) / np.maximum(before, 1), 1.0)
    total = np.maximum(before + count, 1)
    mean = (before * old.mean + count * new.mean) / total
    squares = before * (biased + (old.mean - mean) ** 2) + count * (new.var + (new.mean - mean) ** 2)
    return jn.Moments(mean, squares / (total - ddof), old.count + new.count)


def pooled(measured: Any, rows: int) -> jn.Moments:
    """Statistics of steps in rows, the last row for all later steps."""
    place = np.minimum(np.arange(len(measured.count)), rows - 1)
    means, variances, counts = [], [], []
    for row in range(rows):
        n, mean, var = (leaf[place == row] for leaf in (measured.count, measured.mean, measured.var))
        share = (n / n.sum()).reshape(-1, *(1,) * (mean.ndim - 1))
        center = (share * mean).sum(0)
        means.append(center)
        variances.append((share * (var + (mean - center) ** 2)).sum(0))
        counts.append(n.sum())
    return jn.Moments(*map(np.stack, (means, variances, counts)))


def folded(spec: Any, old: Any, new: Any) -> Any:
    """What ``spec.update_running(old, new)`` must give."""
    if isinstance(spec, jn.zoo.FrozenBatchNorm):
        return old
    if isinstance(spec, jn.zoo.VirtualBatchNorm):
        return new
    if isinstance(spec, jn.zoo.PowerNorm):
        step = old.count + 1
        mean = old.square * old.count / step + new.square / step if step < spec.warmup else old.square
        return jn.zoo.PowerStats(toward(mean, new.square, spec.momentum), old.correction, step)
    if isinstance(spec, jn.zoo.IterNorm | jn.zoo.DecorrelatedBatchNorm):
        mean, matrix = (toward(o, n, spec.momentum) for o, n in zip(old[:2], new[:2], strict=True))
        return jn.zoo.WhiteningStats(mean, matrix, old.count + new.count)
    if isinstance(spec, jn.zoo.StreamingNorm):
        short, nothing = moments(old.short, new, None, 0), jn.Moments(*map(np.zeros_like, old.short))
        gradient, none = old.gradient_long, jn.Moments(*map(np.zeros_like, old.gradient_short))
        if old.gradient_short.count.all():
            gradient = moments(gradient, old.gradient_short, spec.backward_momentum, 0)
        return jn.zoo.StreamingStats(moments(old.long, short, spec.momentum, 0), nothing, gradient, none)
    if isinstance(spec, jn.zoo.BatchRenorm):
        deviations = (m._replace(var=np.sqrt(m.var + spec.epsilon)) for m in (old, new))
        moved = moments(*deviations, spec.momentum, 0)
        return moved._replace(var=moved.var**2 - spec.epsilon)
    ddof, debias = getattr(spec, "ddof", 0), getattr(spec, "debias", False)
    if isinstance(spec, jn.zoo.GhostBatchNorm):
        for part in zip(*new, strict=True):
            old = moments(old, jn.Moments(*part), spec.momentum, ddof)
        return old
    if isinstance(spec, jn.zoo.FrameWiseBatchNorm):
        new = pooled(new, spec.max_steps)
    return moments(old, new, spec.momentum, ddof, debias)
