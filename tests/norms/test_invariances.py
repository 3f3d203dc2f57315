"""Table 1 of the layer normalization paper: what a normalized layer does not notice about its weights and data."""

import jax
import numpy as np
import pytest

import jaxnorm as jn

COLUMNS = ("weights scaled", "weights centred", "one unit scaled", "data scaled", "data centred", "one case scaled")
TABLE = {
    "batch_norm": (lambda z: jn.batch_norm(z, epsilon=1e-12)[0], (True, False, True, True, True, False)),
    "layer_norm": (lambda z: jn.layer_norm(z, epsilon=1e-12), (True, True, False, True, False, True)),
    "rms_norm": (lambda z: jn.rms_norm(z, epsilon=1e-12), (True, False, False, True, False, True)),
    "p_rms_norm": (lambda z: jn.rms_norm(z, fraction=0.5, epsilon=1e-12), (True, False, False, True, False, True)),
}


@pytest.mark.parametrize("name", TABLE)
def test_table_1(name, rng):
    norm, expected = TABLE[name]
    x, w = rng.standard_normal((5, 4)), rng.standard_normal((4, 6))
    one_unit, one_case = np.ones(6), np.ones((5, 1))
    one_unit[2], one_case[3] = 3.0, 3.0
    changes = [
        (x, w),
        (x, 2.5 * w),
        (x, w + rng.standard_normal((4, 1))),
        (x, w * one_unit),
        (2.5 * x, w),
        (x + rng.standard_normal(4), w),
        (x * one_case, w),
    ]
    xs, ws = (np.stack(parts).astype(np.float32) for parts in zip(*changes, strict=True))
    ys = np.asarray(jax.jit(jax.vmap(lambda x, w: norm(x @ w)))(xs, ws))
    moved = {column: np.abs(y - ys[0]).max() for column, y in zip(COLUMNS, ys[1:], strict=True)}
    assert tuple(distance < 1e-4 for distance in moved.values()) == expected, moved
    assert all(distance > 1e-2 for distance, same in zip(moved.values(), expected, strict=True) if not same), moved
