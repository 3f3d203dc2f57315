"""Normalizers of jaxnorm by name, with sensible options for the shape of the data: those whose cost is measured."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jaxnorm as jn
from benchmarks.programs.base import EPSILON, MOMENTUM, group_count

Shape: TypeAlias = tuple[int, ...]
Make: TypeAlias = Callable[[Shape], Any]


def _always(spec: Any) -> Make:
    """The same for every shape."""
    return lambda shape: spec


def _with_positions(make: Make) -> Make:
    """Only where examples have positions; None where they have not."""
    return lambda shape: make(shape) if len(shape) > 2 else None


def _divisive(shape: Shape) -> Any:
    return jn.zoo.DivisiveNorm((3, 3), axis=(1, 2)) if len(shape) == 4 else jn.zoo.DivisiveNorm(30)


SPECS: dict[str, Make] = {
    "layer_norm": _always(jn.LayerNorm(epsilon=EPSILON)),
    "rms_norm": _always(jn.RMSNorm(epsilon=EPSILON)),
    "p_rms_norm": _always(jn.RMSNorm(epsilon=EPSILON, fraction=0.125)),
    "scale_norm": _always(jn.zoo.ScaleNorm()),
    "ada_layer_norm": _always(jn.zoo.AdaLayerNorm(8)),
    "group_norm": lambda shape: jn.GroupNorm(group_count(shape[-1]), epsilon=EPSILON),
    "instance_norm": _with_positions(_always(jn.InstanceNorm())),
    "filter_response_norm": _with_positions(_always(jn.zoo.FilterResponseNorm())),
    "evo_norm_s0": lambda shape: jn.zoo.EvoNormS0(group_count(shape[-1])),
    "evo_norm_b0": _with_positions(_always(jn.zoo.EvoNormB0())),
    "divisive_norm": _divisive,
    "assorted_time_norm": lambda shape: jn.zoo.AssortedTimeNorm(min(20, shape[0])),
    "cumulative_group_norm": lambda shape: jn.zoo.CumulativeGroupNorm(group_count(shape[-1])),
    "dynamic_tanh": _always(jn.zoo.DynamicTanh()),
    "norm_prop": _always(jn.zoo.NormProp()),
    "identity": _always(jn.Identity()),
    "batch_norm": _always(jn.BatchNorm(epsilon=EPSILON, momentum=MOMENTUM)),
    "frozen_batch_norm": _always(jn.zoo.FrozenBatchNorm()),
    "mean_only_batch_norm": _always(jn.zoo.MeanOnlyBatchNorm()),
    "in_place_batch_norm": _always(jn.zoo.InPlaceBatchNorm()),
    "batch_renorm": _always(jn.zoo.BatchRenorm()),
    "momentum_batch_norm": _always(jn.zoo.MomentumBatchNorm()),
    "streaming_norm": _always(jn.zoo.StreamingNorm()),
    "virtual_batch_norm": _always(jn.zoo.VirtualBatchNorm()),
    "ghost_batch_norm": lambda shape: jn.zoo.GhostBatchNorm(min(128, shape[0] // 2)),
    "frame_wise_batch_norm": _with_positions(lambda shape: jn.zoo.FrameWiseBatchNorm(shape[0])),
    "l1_batch_norm": _always(jn.zoo.LpBatchNorm()),
    "l_infinity_batch_norm": _always(jn.zoo.LpBatchNorm(deviation="l_infinity")),
    "top_k_batch_norm": _always(jn.zoo.LpBatchNorm(deviation="top_k")),
    "range_batch_norm": _always(jn.zoo.RangeBatchNorm()),
    "range_batch_norm_chunks": lambda shape: jn.zoo.RangeBatchNorm(
        constant="code", chunks=math.gcd(16, math.prod(shape[:-1]))
    ),
    "power_norm": _always(jn.zoo.PowerNorm()),
    "iter_norm": lambda shape: jn.zoo.IterNorm(min(32, shape[-1])),
    "decorrelated_batch_norm": lambda shape: jn.zoo.DecorrelatedBatchNorm(min(32, shape[-1])),
}
"""Each makes the spec for a shape with features last and examples (or time steps) first, or None."""


def names_for(shape: Shape) -> list[str]:
    """The normalizers that make sense at a shape."""
    return [name for name, make in SPECS.items() if make(shape) is not None]
