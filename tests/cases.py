"""The tables of normalizers and weight normalizers; cells are in ``cell_cases.py``. The contract tests loop over them.

``randomize`` fills every slot of a tree of weights with random numbers: zero biases and unit scales hide missing terms.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxnorm as jn
from jaxnorm.cells.wrappers.base import map_inner
from jaxnorm.norms.core.moment_trees import map_moments
from tests.cell_cases import CELLS as CELLS
from tests.cell_cases import HIDDEN as HIDDEN
from tests.cell_cases import IN_FEATURES as IN_FEATURES
from tests.cell_cases import MAX_STEPS as MAX_STEPS
from tests.cell_cases import SPECIFIED as SPECIFIED
from tests.cell_cases import CellCase as CellCase
from tests.cell_cases import rows as rows
from tests.tools.docs import load
from tests.zoo.norms.sequence.test_cumulative_group_norm import oracle as cumulative_group_norm

PUBLIC = {name: getattr(space, name) for space in (jn, jn.weight_norms, jn.zoo) for name in space.__all__}
"""All that users can import, by its name."""


class NormCase(NamedTuple):
    """A normalizer spec, the shape of the data it is tried on, and what it is known to be invariant to."""

    name: str
    spec: Any
    shape: tuple[int, ...]
    batch_statistics: bool = False
    invariant_to: tuple[str, ...] = ()
    """Of x -> y: "scale" and "shift" of all data by one number, "example_scale" and "example_shift" of each example by
    its own (the first axis), "feature_scale" and "feature_shift" of each feature by its own (where the weights lie)."""
    own_derivative: bool = False
    """Some of the derivative is left out on purpose; finite differences say nothing, the test of the item does."""
    replays: bool = True
    """What was measured, handed back as statistics, gives the output of the training again."""
    rows: tuple[int, ...] = ()
    """The leading shape of running statistics that are kept for each time step."""
    smallest_batch: int = 1
    """The smallest number of examples that can be normalized."""
    spans_devices: bool = True
    """Batch statistics can be taken over a named axis in place of the first one."""
    function: str = ""
    """The plain function that speaks in messages, where it is not the name of the spec in small letters."""
    fresh: Mapping[str, tuple[tuple[int, ...], float]] = MappingProxyType({})
    """Shape and initial value of those weights that are not a scale of ones or a bias of zeros in the usual shape."""
    initial: Any = None
    """Running statistics before any data, where they are not Moments(0, 1, count 0)."""
    own_backward: bool = False
    """Whether the backward pass is the paper's own and no derivative; the file of the item tests it then."""
    epsilon_may_be_zero: bool = True
    """Whether a row of zeros has finite values, and gradient zero, without epsilon too."""
    oracle: Any = None
    """The paper's equation in NumPy, ``oracle(spec, params, x, where)``; None: one of ``tests/**/*oracles.py``."""

    def __str__(self) -> str:
        return self.name


LN = ("scale", "shift", "example_scale", "example_shift")
RMS = ("scale", "example_scale")
BN = ("scale", "shift", "feature_scale", "feature_shift")
IN = (*LN, "feature_scale", "feature_shift")


def whitening(features: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean 0, the identity for each group, count 0."""
    return np.zeros(features), np.broadcast_to(np.eye(size), (features // size, size, size)), np.zeros(())


def streaming(shape: tuple[int, ...]) -> Any:
    """Long: mean 0, variance 1, count 0; everything else 0, the short ones with a count for each feature."""
    zeros = np.zeros(shape)
    nothing = jn.Moments(zeros, zeros, zeros)
    return jn.zoo.StreamingStats(
        jn.Moments(zeros, zeros + 1, np.zeros(())), nothing, nothing._replace(count=np.zeros(())), nothing
    )


NORMS = (
    NormCase("identity", jn.Identity(), (6, 8)),
    NormCase("layer_norm", jn.LayerNorm(), (6, 8), invariant_to=LN),
    NormCase("layer_norm_two_axes", jn.LayerNorm((-2, -1)), (3, 4, 8), invariant_to=LN),
    NormCase("layer_norm_middle_axis", jn.LayerNorm(1, use_bias=False), (3, 8, 4), invariant_to=LN),
    NormCase(
        "skeleton",
        load("normalizer").AbsNorm(),
        (6, 8),
        invariant_to=("scale", "example_scale"),
        epsilon_may_be_zero=False,
        oracle=load("test_normalizer").oracle,
    ),
    NormCase("layer_norm_plain", jn.LayerNorm(use_scale=False, use_bias=False), (6, 8), invariant_to=LN),
    NormCase("rms_norm", jn.RMSNorm(), (6, 8), invariant_to=RMS),
    NormCase("rms_norm_bias", jn.RMSNorm(use_bias=True), (2, 3, 8), invariant_to=RMS),
    NormCase("p_rms_norm", jn.RMSNorm(fraction=0.5), (6, 8), invariant_to=RMS),
    NormCase("batch_norm", jn.BatchNorm(), (6, 8), True, BN),
    NormCase("batch_norm_image", jn.BatchNorm(), (2, 3, 4, 8), True, BN),
    NormCase("batch_norm_channels_first", jn.BatchNorm((0, 2, 3)), (2, 8, 3, 4), True, BN),
    NormCase("batch_norm_unbiased", jn.BatchNorm(momentum=0.9, ddof=1), (6, 8), True, BN),
    NormCase("group_norm", jn.GroupNorm(4), (3, 5, 8), invariant_to=LN),
    NormCase("group_norm_features_only", jn.GroupNorm(2, axis=-1), (2, 3, 8), invariant_to=LN),
    NormCase("instance_norm", jn.InstanceNorm(), (3, 5, 8), invariant_to=IN),
    NormCase("instance_norm_channels_first", jn.InstanceNorm((2, 3), feature_axis=1), (2, 8, 3, 4), invariant_to=IN),
    NormCase("norm_prop", jn.zoo.NormProp(), (6, 8), fresh={"scale": ((8,), (1 - 1 / np.pi) ** 0.5)}),
    NormCase("norm_prop_tanh", jn.zoo.NormProp("tanh", use_bias=False, scale_init=1.0), (2, 3, 8)),
    NormCase("scale_norm", jn.zoo.ScaleNorm(), (6, 8), invariant_to=RMS, fresh={"scale": ((), 8**0.5)}),
    NormCase(
        "scale_norm_two_axes",
        jn.zoo.ScaleNorm((1, 2), use_bias=True, scale_init=3.0),
        (3, 4, 8),
        invariant_to=RMS,
        fresh={"scale": ((), 3.0)},
    ),
    NormCase("dynamic_tanh", jn.zoo.DynamicTanh(), (6, 8), fresh={"alpha": ((), 0.5)}),
    NormCase("dynamic_tanh_first", jn.zoo.DynamicTanh(1, use_bias=False), (3, 8, 2), fresh={"alpha": ((), 0.5)}),
    NormCase(
        "filter_response_norm",
        jn.zoo.FilterResponseNorm(),
        (3, 2, 4, 8),
        invariant_to=(*RMS, "feature_scale"),
        fresh={"threshold": ((8,), 0.0)},
    ),
    NormCase(
        "filter_response_norm_learned_epsilon",
        jn.zoo.FilterResponseNorm((2, 3), feature_axis=1, use_threshold=False, use_learned_epsilon=True),
        (2, 8, 3, 4),
        fresh={"learned_epsilon": ((), 1e-4)},
        epsilon_may_be_zero=False,
    ),
    NormCase(
        "evo_norm_b0",
        jn.zoo.EvoNormB0(position_axis=(-3, -2)),
        (2, 3, 4, 8),
        True,
        ("scale", "feature_scale"),
        fresh={"slope": ((8,), 1.0)},
    ),
    NormCase("evo_norm_s0", jn.zoo.EvoNormS0(4), (3, 5, 8), fresh={"slope": ((8,), 1.0)}),
    NormCase("evo_norm_s0_features_only", jn.zoo.EvoNormS0(2, axis=-1), (6, 8), fresh={"slope": ((8,), 1.0)}),
    NormCase(
        "ada_layer_norm",
        jn.zoo.AdaLayerNorm(5),
        (6, 8),
        invariant_to=LN,
        fresh={"kernel": ((5, 2, 8), 0.0), "bias": ((2, 8), 0.0)},
    ),
    NormCase(
        "ada_layer_norm_gate",
        jn.zoo.AdaLayerNorm(3, (-2, -1), use_gate=True),
        (3, 4, 2),
        invariant_to=LN,
        fresh={"kernel": ((3, 3, 4, 2), 0.0), "bias": ((3, 4, 2), 0.0)},
    ),
    NormCase("divisive_norm", jn.zoo.DivisiveNorm(4, suppression_window=3, sigma=0.1), (6, 8)),
    NormCase(
        "divisive_norm_image",
        jn.zoo.DivisiveNorm((3, 2), axis=(1, 2), use_learned_sigma=True),
        (2, 4, 5, 3),
        fresh={"learned_sigma": ((), 1.0)},
    ),
    NormCase(
        "decorrelated_batch_norm",
        jn.zoo.DecorrelatedBatchNorm(4, epsilon=1e-2),
        (6, 4, 8),
        True,
        ("scale", "shift", "feature_shift"),
        initial=whitening(8, 4),
    ),
    NormCase(
        "decorrelated_batch_norm_covariance",
        jn.zoo.DecorrelatedBatchNorm(running="covariance", epsilon=0.1, feature_axis=-2, use_bias=False),
        (7, 3, 5),
        True,
        ("scale", "shift", "feature_shift"),
        initial=whitening(3, 3),
    ),
    NormCase(
        "iter_norm",
        jn.zoo.IterNorm(4, epsilon=1e-2),
        (6, 4, 8),
        True,
        ("scale", "shift", "feature_shift"),
        initial=whitening(8, 4),
    ),
    NormCase(
        "power_norm",
        jn.zoo.PowerNorm(2),
        (6, 8),
        True,
        RMS,
        initial=(np.ones(8), np.zeros(8), np.zeros(())),
        own_backward=True,
    ),
    NormCase("in_place_batch_norm", jn.zoo.InPlaceBatchNorm(slope=0.5), (3, 4, 8), True, BN),
    NormCase("in_place_batch_norm_first", jn.zoo.InPlaceBatchNorm((0, 2), use_scale=False), (3, 8, 4), True, BN),
    NormCase("assorted_time_norm", jn.zoo.AssortedTimeNorm(3), (5, 2, 8), invariant_to=("scale", "shift")),
    NormCase(
        "cumulative_group_norm",
        jn.zoo.CumulativeGroupNorm(2),
        (5, 2, 8),
        invariant_to=("scale", "shift"),
        oracle=cumulative_group_norm,
    ),
)

BATCH_NORMS = (
    NormCase(
        "batch_renorm", jn.zoo.BatchRenorm(r_max=1.3, d_max=0.4), (6, 8), True, own_derivative=True, replays=False
    ),
    NormCase("batch_renorm_image", jn.zoo.BatchRenorm((0, 2), momentum=0.5), (2, 8, 3), True, (), True, replays=False),
    NormCase("l1_batch_norm", jn.zoo.LpBatchNorm(), (6, 8), True, BN),
    NormCase("l_infinity_batch_norm", jn.zoo.LpBatchNorm((0, 1), deviation="l_infinity"), (3, 4, 8), True, BN),
    NormCase("top_k_batch_norm", jn.zoo.LpBatchNorm(deviation="top_k", k=3), (2, 5, 8), True, BN),
    NormCase("range_batch_norm", jn.zoo.RangeBatchNorm(), (6, 8), True, BN),
    NormCase(
        "range_batch_norm_chunks",
        jn.zoo.RangeBatchNorm((0, 2, 3), constant="code", chunks=4),
        (2, 8, 3, 4),
        True,
        BN,
        spans_devices=False,
    ),
    NormCase(
        "ghost_batch_norm", jn.zoo.GhostBatchNorm(3, ddof=1), (6, 8), True, BN, spans_devices=False, smallest_batch=3
    ),
    NormCase(
        "ghost_batch_norm_image",
        jn.zoo.GhostBatchNorm(2, (0, 2)),
        (4, 8, 3),
        True,
        BN,
        spans_devices=False,
        smallest_batch=2,
    ),
    NormCase("virtual_batch_norm", jn.zoo.VirtualBatchNorm(), (6, 8), True, BN, replays=False, function="batch_norm"),
    NormCase("mean_only_batch_norm", jn.zoo.MeanOnlyBatchNorm(), (3, 4, 8), True, ("shift", "feature_shift")),
    NormCase(
        "frame_wise_batch_norm", jn.zoo.FrameWiseBatchNorm(2), (3, 4, 8), True, IN, spans_devices=False, rows=(2,)
    ),
    NormCase("momentum_batch_norm", jn.zoo.MomentumBatchNorm(momentum=0.3), (6, 8), True, replays=False),
    NormCase(
        "momentum_batch_norm_constants",
        jn.zoo.MomentumBatchNorm((0, 2), momentum=0.3, through_batch=False),
        (2, 8, 3),
        True,
        own_derivative=True,
        replays=False,
    ),
    NormCase(
        "streaming_norm",
        jn.zoo.StreamingNorm(),
        (6, 8),
        True,
        own_backward=True,
        replays=False,
        initial=streaming((8,)),
    ),
    NormCase(
        "streaming_norm_recurrent",
        jn.zoo.StreamingNorm.recurrent(axis=(0, 2)),
        (2, 8, 3),
        True,
        own_backward=True,
        replays=False,
        initial=streaming((8,)),
    ),
    NormCase("frozen_batch_norm", jn.zoo.FrozenBatchNorm(), (6, 8), True, spans_devices=False, function="batch_norm"),
)
NORMS += BATCH_NORMS


class WeightCase(NamedTuple):
    """A weight normalizer spec, the shape of the kernel it is tried on, and what holds of it."""

    name: str
    spec: Any
    shape: tuple[int, ...]
    invariant_to: tuple[str, ...] = ()
    """Of v -> w, with state and scale fixed: "kernel_scale" of all weights by one number, "unit_scale" of those of each
    output unit by its own, "unit_shift" by one number for each unit. The gradient has no part along such a change."""
    keeps_kernel: bool = False
    """Whether fresh weights and state give the kernel that they were made from."""

    def __str__(self) -> str:
        return self.name


UNIT_SCALE = ("kernel_scale", "unit_scale")
CENTERED = (*UNIT_SCALE, "unit_shift")

WEIGHTS = (
    WeightCase("weight_norm", jn.WeightNorm(), (5, 4), UNIT_SCALE, True),
    WeightCase("weight_norm_gates", jn.WeightNorm(0), (3, 4, 2), UNIT_SCALE, True),
    WeightCase("weight_norm_recurrent", jn.WeightNorm(0), (4, 3, 4), UNIT_SCALE, True),
    WeightCase("weight_norm_image", jn.WeightNorm(), (3, 2, 2, 4), UNIT_SCALE, True),
    WeightCase("weight_norm_convolution_1d", jn.WeightNorm((0, 1)), (3, 2, 4), UNIT_SCALE, True),
    WeightCase("bounded_weight_norm", jn.weight_norms.BoundedWeightNorm(), (5, 4), UNIT_SCALE),
    WeightCase(
        "bounded_weight_norm_gain",
        jn.weight_norms.BoundedWeightNorm("gain_bounded", axis=0),
        (3, 4, 2),
        UNIT_SCALE,
        True,
    ),
    WeightCase("centered_weight_norm", jn.weight_norms.CenteredWeightNorm(), (5, 4), CENTERED),
    WeightCase(
        "centered_weight_norm_learned", jn.weight_norms.CenteredWeightNorm(learn_scale=True), (3, 2, 2, 4), CENTERED
    ),
    WeightCase(
        "centered_weight_norm_code",
        jn.weight_norms.CenteredWeightNorm(0, scale_init=1.414, epsilon=1e-5),
        (4, 3, 4),
        CENTERED[2:],
    ),
    WeightCase("weight_standardization", jn.WeightStandardization(), (3, 2, 2, 4), CENTERED[2:]),
    WeightCase("weight_standardization_unbiased", jn.WeightStandardization(ddof=1), (5, 4), CENTERED[2:]),
    WeightCase("weight_standardization_plain", jn.WeightStandardization(0, epsilon=0.0), (4, 3, 4), CENTERED),
    WeightCase("spectral_norm", jn.SpectralNorm(), (5, 4), ("kernel_scale",)),
    WeightCase("spectral_norm_gates", jn.SpectralNorm(0, iterations=3, use_scale=True), (3, 4, 2), ("kernel_scale",)),
    WeightCase("spectral_norm_image", jn.SpectralNorm(-1), (3, 2, 2, 4), ("kernel_scale",)),
    WeightCase("unit_norm", jn.weight_norms.UnitNorm(), (5, 4), UNIT_SCALE),
    WeightCase("unit_rows_gates", jn.weight_norms.UnitNorm(0), (4, 3, 4), UNIT_SCALE),
)


def randomize(tree: Any, rng: np.random.Generator, dtype: Any = None) -> Any:
    """The same tree with a random number in every slot of every floating array."""

    def draw(leaf: jax.Array) -> jax.Array:
        return jnp.asarray(0.7 * rng.standard_normal(leaf.shape) + 0.1, dtype or leaf.dtype)

    return jax.tree.map(draw, tree)


def with_fields(cell: Any, **changes: Any) -> Any:
    """The cell with other hyper-parameters, below whatever is wrapped around it."""
    return map_inner(cell, lambda inner: dataclasses.replace(inner, **changes))


def random_norm_params(case: NormCase, rng: np.random.Generator, dtype: Any = jnp.float32) -> Any:
    """Random weights of a normalizer."""
    return randomize(case.spec.init(case.spec.param_shape(case.shape), dtype), rng)


def running_of(case: NormCase) -> Any:
    """Running statistics for the training of a row; the same at every call."""
    shape = case.spec.param_shape(case.shape)
    return random_stats(case.spec.initial_stats(shape), np.random.default_rng(2017))


def random_weights(case: WeightCase, rng: np.random.Generator, dtype: Any = jnp.float32) -> tuple[Any, Any]:
    """A random kernel with what the spec makes of it: random scales, and a state that no longer fits exactly."""
    kernel = jnp.asarray(0.7 * rng.standard_normal(case.shape) + 0.1, dtype)
    params, state = case.spec.init(kernel, jax.random.key(int(rng.integers(1000))))
    if isinstance(state, jn.weight_norms.BoundedState):
        state = jn.weight_norms.BoundedState(state.rho * 1.7)
    return randomize(params, rng), state


def random_cell_params(cell: Any, rng: np.random.Generator, in_features: int = IN_FEATURES, dtype: Any = None) -> Any:
    """Random weights of a cell, in every slot; nothing is compiled."""
    shapes = jax.eval_shape(lambda key: cell.init(key, in_features), jax.random.key(0))
    return randomize(shapes, rng, dtype)


def random_stats(stats: Any, rng: np.random.Generator) -> Any:
    """Random running statistics: any mean, positive variance, count one; positive numbers in other kinds."""

    def draw(part: Any) -> Any:
        if not isinstance(part, jn.Moments):
            return jnp.asarray(rng.uniform(0.5, 2.0, part.shape), part.dtype)
        return jn.Moments(
            jnp.asarray(rng.standard_normal(part.mean.shape), part.mean.dtype),
            jnp.asarray(rng.uniform(0.5, 2.0, part.var.shape), part.var.dtype),
            jnp.ones_like(part.count),
        )

    return map_moments(draw, stats)


def random_inputs(
    rng: np.random.Generator, steps: int = 5, batch: tuple[int, ...] = (3,), dtype: Any = jnp.float32
) -> Any:
    """Time-major inputs (T, *B, I)."""
    return jnp.asarray(rng.standard_normal((steps, *batch, IN_FEATURES)), dtype)
