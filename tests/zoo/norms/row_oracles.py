"""More of the papers' equations in NumPy and float64; ``ORACLES`` has a function (spec, params, x, where) -> y each."""

import numpy as np

import jaxnorm as jn


def along(array, axis, ndim):
    """An array that lies along some axes, with axes of size 1 for the others; a single number stays one."""
    axes = sorted(a % ndim for a in ((axis,) if isinstance(axis, int) else axis))
    array = np.asarray(array, np.float64)
    shape = [1] * ndim
    for place, size in zip(axes[len(axes) - array.ndim :], array.shape, strict=True):
        shape[place] = size
    return array.reshape(shape)


def finish(y, scale, bias, axis, where):
    """Scale and bias along the axes, then zeros where nothing is real."""
    y = y if scale is None else y * along(scale, axis, y.ndim)
    y = y if bias is None else y + along(bias, axis, y.ndim)
    return y if where is None else np.where(where, y, 0.0)


def real(x, where):
    """The data with zeros where nothing is real, and a mask of the same shape."""
    keep = np.ones(x.shape, bool) if where is None else np.array(np.broadcast_to(where, x.shape))
    return np.where(keep, x, 0.0), keep


def scale_norm(spec, params, x, where):
    """Nguyen, Salazar 2019: x over its Euclidean norm, which the code bounds from below."""
    data, _ = real(x, where)
    axes = (spec.axis,) if isinstance(spec.axis, int) else spec.axis
    norm = np.sqrt((data**2).sum(axis=axes, keepdims=True))
    floor = np.maximum(norm, spec.epsilon)
    return finish(np.divide(data, floor, out=np.zeros_like(data), where=floor > 0), *params, spec.axis, where)


def dynamic_tanh(spec, params, x, where):
    """Zhu et al. 2025."""
    data, _ = real(x, where)
    return finish(np.tanh(params.alpha * data), params.scale, params.bias, spec.axis, where)


def rows_of(x, keep, axes):
    """Index, real values and their mask of every set of elements along some axes."""
    kept = [a for a in range(x.ndim) if a not in axes]
    for place in np.ndindex(*(x.shape[a] for a in kept)):
        index = [slice(None)] * x.ndim
        for a, i in zip(kept, place, strict=True):
            index[a] = i
        yield tuple(index), x[tuple(index)][keep[tuple(index)]]


def spread_of(x, keep, axes, statistic):
    """A statistic of the real elements of every set along some axes, at every element of it; zero for an empty set."""
    out = np.zeros(x.shape)
    for index, values in rows_of(x, keep, axes):
        out[index] = statistic(values) if values.size else 0.0
    return out


def positions_of(spec, ndim):
    """The axes of an example's own statistic: those named, or all but the first and the features."""
    if spec.axis is not None:
        return tuple(a % ndim for a in spec.axis)
    return tuple(a for a in range(1, ndim) if a != spec.feature_axis % ndim)


def filter_response_norm(spec, params, x, where):
    """Singh, Krishnan 2020."""
    data, keep = real(x, where)
    square = spread_of(data, keep, positions_of(spec, x.ndim), lambda v: (v**2).mean())
    square = square + spec.epsilon + (0.0 if params.learned_epsilon is None else abs(params.learned_epsilon))
    y = finish(data / np.sqrt(square), params.scale, params.bias, spec.feature_axis, None)
    y = y if params.threshold is None else np.maximum(y, along(params.threshold, spec.feature_axis, x.ndim))
    return np.where(keep, y, 0.0)


def evo_norm_b0(spec, params, x, where):
    """Liu et al. 2020, EvoNorm-B0."""
    data, keep = real(x, where)
    batch = tuple(range(x.ndim - 1)) if spec.axis is None else tuple(a % x.ndim for a in spec.axis)
    own = batch[1:] if spec.position_axis is None else tuple(a % x.ndim for a in spec.position_axis)
    features = tuple(a for a in range(x.ndim) if a not in batch)
    over_batch, over_positions = (np.sqrt(spread_of(data, keep, axes, np.var) + spec.epsilon) for axes in (batch, own))
    y = data / np.maximum(over_batch, along(params.slope, features, x.ndim) * data + over_positions)
    return finish(y, params.scale, params.bias, features, where)


def evo_norm_s0(spec, params, x, where):
    """Liu et al. 2020, EvoNorm-S0."""
    data, keep = real(x, where)
    feature = spec.feature_axis % x.ndim
    axes = tuple(range(1, x.ndim)) if spec.axis is None else tuple(a % x.ndim for a in np.atleast_1d(spec.axis))
    parts = zip(np.split(data, spec.num_groups, feature), np.split(keep, spec.num_groups, feature), strict=True)
    deviation = np.concatenate([np.sqrt(spread_of(d, k, axes, np.var) + spec.epsilon) for d, k in parts], feature)
    gate = 1 / (1 + np.exp(-along(params.slope, feature, x.ndim) * data))
    return finish(data * gate / deviation, params.scale, params.bias, feature, where)


def ada_layer_norm(spec, params, x, where):
    """Peebles, Xie 2023, for a condition of zeros: its SiLU is zero, so the biases of the map alone speak."""
    data, keep = real(x, where)
    axes = tuple(a % x.ndim for a in np.atleast_1d(spec.axis))
    mean = spread_of(data, keep, axes, np.mean)
    deviation = np.sqrt(spread_of(data, keep, axes, np.var) + spec.epsilon)
    return finish((data - mean) / deviation, 1 + params.bias[0], params.bias[1], axes, where)


def local_mean(data, widths):
    """The mean over a window {axis: length} around each element, None for the whole axis; zeros beyond the edge."""
    out, size = np.zeros_like(data), np.prod([data.shape[a] if w is None else w for a, w in widths.items()])
    for place in np.ndindex(data.shape):
        window = [slice(i, i + 1) for i in place]
        for a, w in widths.items():
            low = 0 if w is None else place[a] - (w - 1) // 2
            window[a] = slice(max(low, 0), max(low + (data.shape[a] if w is None else w), 0))
        out[place] = data[tuple(window)].sum() / size
    return out


def divisive_norm(spec, params, x, where):
    """Ren et al. 2017."""
    data, keep = real(x, where)
    axes, feature = tuple(np.atleast_1d(spec.axis)), spec.feature_axis % x.ndim

    def widths(window):
        lengths = window if isinstance(window, tuple) else (window,) * len(axes)
        return {feature: None} | {int(a) % x.ndim: w for a, w in zip(axes, lengths, strict=True)}

    v = np.where(keep, data - local_mean(data, widths(spec.window)), 0.0)
    square = local_mean(v**2, widths(spec.suppression_window or spec.window))
    sigma = spec.sigma if params.learned_sigma is None else params.learned_sigma
    return finish(v / np.sqrt(sigma**2 + square), params.scale, params.bias, feature, where)


def assorted_time_norm(spec, params, x, where):
    """Pospisil et al. 2022: an example and a step after the other, from the real elements of the last k steps."""
    data, keep = real(x, where)
    y = np.zeros_like(data)
    for t in range(x.shape[0]):
        for b in np.ndindex(x.shape[1:-1]):
            block = (slice(max(t - spec.steps + 1, 0), t + 1), *b)
            values = data[block][keep[block]]
            if values.size:
                y[(t, *b)] = (data[(t, *b)] - values.mean()) / np.sqrt(values.var() + spec.epsilon)
    return finish(y, *params, -1, where)


def inverse_root(spec, covariance):
    """Huang et al. 2018 by eigenvectors, Huang et al. 2019 by Newton's iterations."""
    if isinstance(spec, jn.zoo.DecorrelatedBatchNorm):
        eigenvalues, vectors = np.linalg.eigh(covariance)
        return vectors @ np.diag(eigenvalues**-0.5) @ vectors.T
    trace, p = np.trace(covariance), np.eye(len(covariance))
    for _ in range(spec.iterations):
        p = (3 * p - np.linalg.matrix_power(p, 3) @ (covariance / trace)) / 2
    return p / np.sqrt(trace)


def whitened(spec, x, where):
    """A group of features after the other: the whitened, and mean, matrix (or covariance) and count of real rows."""
    data, keep = (np.moveaxis(array, spec.feature_axis, -1) for array in real(x, where))
    features = data.shape[-1]
    size = spec.group_size or features
    out, mean, matrices, counts = np.zeros_like(data), np.zeros(features), [], []
    for low in range(0, features, size):
        part = slice(low, low + size)
        whole = keep[..., part].all(-1)
        rows = data[..., part][whole]
        center = rows.sum(0) / max(len(rows), 1)
        covariance = (rows - center).T @ (rows - center) / max(len(rows), 1) + spec.epsilon * np.eye(size)
        matrix = inverse_root(spec, covariance)
        out[..., part][whole] = (rows - center) @ matrix
        mean[part] = center
        matrices.append(matrix if spec.running == "matrix" else covariance)
        counts.append(float(len(rows)))
        keep[..., part] = whole[..., None]
    back = np.moveaxis(keep, -1, spec.feature_axis)
    return np.moveaxis(out, -1, spec.feature_axis), back, (mean, np.stack(matrices), np.array(counts))


def whitening_norm(spec, params, x, where):
    """The whitened with scale and bias, zero in rows that are not whole."""
    y, keep, _ = whitened(spec, x, where)
    return finish(y, *params, spec.feature_axis, keep)


def power_grouped(spec, x, where):
    """Rows over the root mean square of each group of their real features."""
    data, keep = real(x, where)
    feature = spec.feature_axis % x.ndim
    parts = zip(np.split(data, spec.num_groups, feature), np.split(keep, spec.num_groups, feature), strict=True)
    square = np.concatenate([spread_of(d, k, (feature,), lambda v: (v**2).mean()) for d, k in parts], feature)
    return data / np.sqrt(square + spec.epsilon), keep, tuple(a for a in range(x.ndim) if a != feature)


def power_norm(spec, params, x, where):
    """Shen et al. 2020, a training step during the warm-up."""
    data, keep, rows = power_grouped(spec, x, where)
    square = spread_of(data, keep, rows, lambda v: (v**2).mean())
    return finish(data / np.sqrt(square + spec.epsilon), *params, spec.feature_axis, where)


def power_measured(spec, x, where):
    """The quadratic means, no correction, and one batch where there is a real row."""
    data, keep, rows = power_grouped(spec, x, where)
    square = (data**2).sum(rows) / np.maximum(keep.sum(rows), 1)
    return square, np.zeros_like(square), np.asarray(keep.any(rows), np.float64)


def in_place_batch_norm(spec, params, x, where):
    """Batch normalization and a leaky rectifier, in two steps."""
    data, keep = real(x, where)
    batch = tuple(range(x.ndim - 1)) if spec.axis is None else spec.axis
    features = tuple(a for a in range(x.ndim) if a not in batch)
    mean = spread_of(data, keep, batch, np.mean)
    deviation = np.sqrt(spread_of(data, keep, batch, np.var) + spec.epsilon)
    y = finish((data - mean) / deviation, *params, features, where)
    return np.where(y >= 0, y, spec.slope * y)


MEASURED = {
    jn.zoo.PowerNorm: power_measured,
    jn.zoo.DecorrelatedBatchNorm: lambda spec, x, where: whitened(spec, x, where)[2],
    jn.zoo.IterNorm: lambda spec, x, where: whitened(spec, x, where)[2],
}

ORACLES = {
    jn.zoo.PowerNorm: power_norm,
    jn.zoo.InPlaceBatchNorm: in_place_batch_norm,
    jn.zoo.DecorrelatedBatchNorm: whitening_norm,
    jn.zoo.IterNorm: whitening_norm,
    jn.zoo.DivisiveNorm: divisive_norm,
    jn.zoo.AssortedTimeNorm: assorted_time_norm,
    jn.zoo.AdaLayerNorm: ada_layer_norm,
    jn.zoo.FilterResponseNorm: filter_response_norm,
    jn.zoo.EvoNormB0: evo_norm_b0,
    jn.zoo.EvoNormS0: evo_norm_s0,
    jn.zoo.ScaleNorm: scale_norm,
    jn.zoo.DynamicTanh: dynamic_tanh,
}
