"""THE table: a row for every normalizer and for every cell. The contract tests loop over it; a new item is one row.

``randomize`` fills every slot of a tree of weights with random numbers: zero biases and unit scales hide missing terms.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxnorm as jn


class NormCase(NamedTuple):
    """A normalizer spec, the shape of the data it is tried on, and what it is known to be invariant to."""

    name: str
    spec: Any
    shape: tuple[int, ...]
    batch_statistics: bool = False
    invariant_to: tuple[str, ...] = ()
    """Of x -> y: "scale" and "shift" of all data by one number, "example_scale" and "example_shift" of each example by
    its own (the first axis), "feature_scale" and "feature_shift" of each feature by its own (where the weights lie)."""
    fresh_scale: float = 1.0
    """The scale of fresh weights."""

    def __str__(self) -> str:
        return self.name


LN = ("scale", "shift", "example_scale", "example_shift")
BN = ("scale", "shift", "feature_scale", "feature_shift")
IN = (*LN, "feature_scale", "feature_shift")

NORMS = (
    NormCase("identity", jn.Identity(), (6, 8)),
    NormCase("layer_norm", jn.LayerNorm(), (6, 8), invariant_to=LN),
    NormCase("layer_norm_two_axes", jn.LayerNorm((-2, -1)), (3, 4, 8), invariant_to=LN),
    NormCase("layer_norm_middle_axis", jn.LayerNorm(1, use_bias=False), (3, 8, 4), invariant_to=LN),
    NormCase("layer_norm_plain", jn.LayerNorm(use_scale=False, use_bias=False), (6, 8), invariant_to=LN),
    NormCase("rms_norm", jn.RMSNorm(), (6, 8), invariant_to=("scale", "example_scale")),
    NormCase("rms_norm_bias", jn.RMSNorm(use_bias=True), (2, 3, 8), invariant_to=("scale", "example_scale")),
    NormCase("p_rms_norm", jn.RMSNorm(fraction=0.5), (6, 8), invariant_to=("scale", "example_scale")),
    NormCase("batch_norm", jn.BatchNorm(), (6, 8), True, BN),
    NormCase("batch_norm_image", jn.BatchNorm(), (2, 3, 4, 8), True, BN),
    NormCase("batch_norm_channels_first", jn.BatchNorm((0, 2, 3)), (2, 8, 3, 4), True, BN),
    NormCase("batch_norm_unbiased", jn.BatchNorm(momentum=0.9, ddof=1), (6, 8), True, BN),
    NormCase("group_norm", jn.GroupNorm(4), (3, 5, 8), invariant_to=LN),
    NormCase("group_norm_features_only", jn.GroupNorm(2, axis=-1), (2, 3, 8), invariant_to=LN),
    NormCase("instance_norm", jn.InstanceNorm(), (3, 5, 8), invariant_to=IN),
    NormCase("instance_norm_channels_first", jn.InstanceNorm((2, 3), feature_axis=1), (2, 8, 3, 4), invariant_to=IN),
    NormCase("norm_prop", jn.NormProp(), (6, 8), fresh_scale=(1 - 1 / np.pi) ** 0.5),
    NormCase("norm_prop_tanh", jn.NormProp("tanh", use_bias=False, scale_init=1.0), (2, 3, 8)),
)


class CellCase(NamedTuple):
    """A cell on inputs with ``IN_FEATURES`` features."""

    name: str
    cell: Any
    batch_statistics: bool = False

    def __str__(self) -> str:
        return self.name


IN_FEATURES = 3
HIDDEN = 4
MAX_STEPS = 3

CELLS = (
    CellCase("elman", jn.elman(HIDDEN)),
    CellCase("lstm", jn.lstm(HIDDEN)),
    CellCase("gru", jn.gru(HIDDEN)),
    CellCase("ln_rnn", jn.ln_rnn(HIDDEN)),
    CellCase("ln_lstm", jn.ln_lstm(HIDDEN)),
    CellCase("ln_gru", jn.ln_gru(HIDDEN)),
    CellCase("rms_lstm", jn.rms_lstm(HIDDEN)),
    CellCase("rms_gru", jn.rms_gru(HIDDEN)),
    CellCase("bn_lstm", jn.bn_lstm(HIDDEN, max_steps=MAX_STEPS), True),
    CellCase("bn_gru_pooled", jn.GRU(HIDDEN, norm=jn.BatchNorm(scale_init=0.1)), True),
    CellCase("ln_lstm_per_gate_learned_carry", jn.ln_lstm(HIDDEN, gate_groups=(1, 1, 1, 1), learn_carry=True)),
    CellCase("elman_everywhere", jn.Elman(HIDDEN, norm=jn.LayerNorm(), activation=jax.nn.relu)),
    CellCase("gn_lstm_mixed", jn.LSTM(HIDDEN, norm=jn.Sites(input=jn.GroupNorm(2, axis=-1), cell=jn.RMSNorm()))),
)


def randomize(tree: Any, rng: np.random.Generator, dtype: Any = None) -> Any:
    """The same tree with a random number in every slot of every floating array."""

    def draw(leaf: jax.Array) -> jax.Array:
        return jnp.asarray(0.7 * rng.standard_normal(leaf.shape) + 0.1, dtype or leaf.dtype)

    return jax.tree.map(draw, tree)


def random_norm_params(case: NormCase, rng: np.random.Generator, dtype: Any = jnp.float32) -> Any:
    """Random weights of a normalizer."""
    return randomize(case.spec.init(case.spec.param_shape(case.shape), dtype), rng)


def random_cell_params(cell: Any, rng: np.random.Generator, in_features: int = IN_FEATURES, dtype: Any = None) -> Any:
    """Random weights of a cell, in every slot; nothing is compiled."""
    shapes = jax.eval_shape(lambda key: cell.init(key, in_features), jax.random.key(0))
    return randomize(shapes, rng, dtype)


def random_stats(stats: Any, rng: np.random.Generator) -> Any:
    """Random running statistics: any mean, positive variance, count one."""
    return jn.norms.moments.map_moments(
        lambda m: jn.Moments(
            jnp.asarray(rng.standard_normal(m.mean.shape), m.mean.dtype),
            jnp.asarray(rng.uniform(0.5, 2.0, m.var.shape), m.var.dtype),
            jnp.ones_like(m.count),
        ),
        stats,
    )


def random_inputs(
    rng: np.random.Generator, steps: int = 5, batch: tuple[int, ...] = (3,), dtype: Any = jnp.float32
) -> Any:
    """Time-major inputs (T, *B, I)."""
    return jnp.asarray(rng.standard_normal((steps, *batch, IN_FEATURES)), dtype)
