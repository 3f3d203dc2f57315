"""Statistics of large data are measured a block of rows at a time; here, of small data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm.norms import blocks

NORMS = {
    "layer_norm": lambda x: jn.layer_norm(x),
    "layer_norm without epsilon": lambda x: jn.layer_norm(x, epsilon=0.0),
    "layer_norm without anchor": lambda x: jn.layer_norm(x, anchor=False),
    "layer_norm over two axes": lambda x: jn.layer_norm(x, axis=(1, 2)),
    "rms_norm": lambda x: jn.rms_norm(x),
    "partial rms_norm": lambda x: jn.rms_norm(x, fraction=0.5),
    "group_norm": lambda x: jn.group_norm(x, num_groups=2),
}


@pytest.fixture
def by_blocks(monkeypatch):
    """Cuts twelve rows of six into blocks of four, at most; counts what is cut."""
    cut = []

    def note(x, original=blocks.cut):
        cut.append(original(x))
        return cut[-1]

    monkeypatch.setattr(blocks, "LARGE", 1)
    monkeypatch.setattr(blocks, "BLOCK", 24)
    monkeypatch.setattr(blocks, "cut", note)
    return cut


def everything(norm, x, along):
    """Values, both modes, a second derivative, and the norm of each example under vmap."""

    def loss(x):
        return jnp.sum(norm(x) * jnp.cos(x))

    def run(x, along):
        change = jax.jvp(norm, (x,), (along,))
        curvature = jax.jvp(jax.grad(loss), (x,), (along,))[1]
        return *change, jax.grad(loss)(x), curvature, jax.vmap(norm)(jnp.stack([x, along]))

    return jax.jit(run)(x, along)


@pytest.mark.parametrize("name", NORMS)
def test_blocks_give_what_the_whole_gives(name, request, rng, x64):
    x, along = rng.standard_normal((2, 12, 2, 6)) + 3.0
    whole = everything(NORMS[name], x, along)
    cut = request.getfixturevalue("by_blocks")
    for got, want in zip(everything(NORMS[name], x, along), whole, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)
    assert (6, 2) in {found[:2] for found in cut if found}, "twelve rows of twelve elements, two to a block"


def test_the_loop_is_there_on_a_cpu_only(by_blocks):
    traced = jax.jit(lambda x: jn.layer_norm(x)).trace(jnp.ones((12, 6)))
    assert "while" in traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "while" not in traced.lower(lowering_platforms=("tpu",)).as_text()


@pytest.mark.parametrize(
    ("shape", "cut"),
    [((12, 6), (3, 4, 6)), ((13, 4), None), ((4, 6), None), ((14, 6), (7, 2, 6)), ((2, 1, 50), (2, 1, 1, 50))],
)
def test_rows_that_cannot_be_cut_well_stay_together(by_blocks, shape, cut):
    jn.layer_norm(jnp.ones(shape))
    assert set(by_blocks) == {cut}


def test_masks_and_first_axes_are_not_cut(by_blocks, rng):
    x = jnp.asarray(rng.standard_normal((12, 6)), jnp.float32)
    np.testing.assert_allclose(jn.layer_norm(x, where=jnp.ones((12, 6), bool)), jn.layer_norm(x), atol=1e-6)
    jn.layer_norm(x, axis=0)
    assert by_blocks == [(3, 4, 6)]


def test_large_normalized_data_are_computed_again_and_not_kept():
    def barriers(rows):
        lowered = jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(jn.rms_norm(x))))).lower(jnp.ones((rows, 64)))
        return lowered.as_text().count("optimization_barrier")

    assert barriers(blocks.LARGE // 64) == 1
    assert barriers(64) == 0
