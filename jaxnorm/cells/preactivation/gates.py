r"""Pre-activations of concatenated gates: two products, three sites for normalizers, and the places of the biases.

.. math:: N_s\bigl(N_x(x_t W + b_x) + N_h(h_{t-1} U + b_h)\bigr) + b
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, Bool, DTypeLike, Float
from jaxnorm.cells import base
from jaxnorm.cells.base import CellNorms
from jaxnorm.cells.preactivation import products
from jaxnorm.cells.preactivation.centering import after_centering, center
from jaxnorm.cells.preactivation.products import Kernel, add_biases, gather_bias, merge_gates, ready_kernel, split_gates
from jaxnorm.norms.base import Normalizer, Params, Stats
from jaxnorm.norms.core.moments import Moments, map_moments
from jaxnorm.norms.identity import Identity


class ReadyGates(NamedTuple):
    """The weights prepared for a sequence: gates concatenated, kernels centered and cast, biases gathered."""

    kernel: Float[Array, "I GH"]
    recurrent: Kernel
    norm: CellNorms
    bias: Float[Array, " GH"] | None
    """Added to the normalized input product."""
    input_bias: Float[Array, " GH"] | None
    """Added to the input product before its norm."""
    recurrent_bias: Float[Array, " GH"] | None
    """Added to the recurrent product before its norm."""
    recurrent_out: Float[Array, " GH"] | None
    """Added to the normalized recurrent product, in cells where it cannot be merged into ``bias``."""
    summed_bias: Float[Array, " GH"] | None
    """Added to the normalized sum."""
    more: Any = ()
    """Further weights of a cell."""
    candidate_scale: Float[Array, "*B H"] | Float[Array, ""] | None = None
    """A constant that multiplies the candidate of a step; dropout sets it."""

    def scale_of_candidate(self, like: Array) -> Array | None:
        """Returns the factor of the candidate in the dtype of ``like``; None leaves the candidate alone."""
        return None if self.candidate_scale is None else self.candidate_scale.astype(like.dtype)


def prepare(
    params: Any,
    sites: CellNorms,
    groups: tuple[int, ...],
    dtype: DTypeLike | None,
    *,
    input_bias: Float[Array, "G H"] | None = None,
    recurrent_bias: Float[Array, "G H"] | None = None,
    bias: Float[Array, "G H"] | None = None,
    recurrent_out: Float[Array, "G H"] | None = None,
    apart: bool = False,
) -> ReadyGates:
    """Prepares weights with separate gates for a sequence.

    Args:
      params: has ``kernel`` (I, G, H), ``recurrent`` (H, G, H) and ``norm``.
      sites: the normalizers.
      groups: sizes of the groups of consecutive gates that share statistics.
      dtype: dtype of the kernels; None keeps theirs.
      input_bias: enters before the input norm.
      recurrent_bias: enters before the recurrent norm.
      bias: enters after all norms; if the sum has a norm, it becomes ``summed_bias``.
      recurrent_out: enters after the recurrent norm.
      apart: whether to keep the biases of input and recurrent part separate, for cells that do not just add both parts.
    """
    input_bias, recurrent_bias, bias, recurrent_out = (
        None if leaf is None else merge_gates(leaf) for leaf in (input_bias, recurrent_bias, bias, recurrent_out)
    )
    merged = {name: jax.tree.map(merge_gates, getattr(params.norm, name)) for name in ("input", "recurrent", "summed")}
    norm: CellNorms = params.norm._replace(**merged)
    # If only the sum is normalized, its mean is the sum of both products' means: centering both kernels removes it.
    joint = sites.input == sites.recurrent == Identity() != sites.summed
    over_input, over_recurrent = (sites.summed,) * 2 if joint else (sites.input, sites.recurrent)

    def ready(over: Normalizer, kernel: Array) -> Array:
        return ready_kernel(over, groups, merge_gates(kernel), dtype)

    input_weights, after_input = gather_bias(sites.input, norm.input, None)
    recurrent_weights, recurrent_out = gather_bias(sites.recurrent, norm.recurrent, recurrent_out)
    summed_weights, summed_bias = norm.summed, None
    if sites.summed != Identity():
        summed_weights, summed_bias = gather_bias(sites.summed, norm.summed, bias)
    else:
        after_input = add_biases(after_input, bias)
    if not apart:
        after_input, recurrent_out = add_biases(after_input, recurrent_out), None
    return ReadyGates(
        kernel=ready(over_input, params.kernel),
        recurrent=Kernel(ready(over_recurrent, params.recurrent)),
        norm=norm._replace(input=input_weights, recurrent=recurrent_weights, summed=summed_weights),
        bias=after_input,
        input_bias=None if input_bias is None else center(over_input, groups, input_bias),
        recurrent_bias=None if recurrent_bias is None else center(over_recurrent, groups, recurrent_bias),
        recurrent_out=recurrent_out,
        summed_bias=summed_bias,
    )


def project(
    where_from: str,
    ready: ReadyGates,
    sites: CellNorms,
    groups: tuple[int, ...],
    xs: Float[Array, "T *B I"],
    stats: CellNorms | None,
    where: Bool[Array, "T *B"] | None,
) -> tuple[Float[Array, "T *B GH"], CellNorms]:
    """Computes the normalized input products of all steps plus biases, in the compute dtype."""
    products.check_features(where_from, xs, ready.kernel)
    zs = base.add_bias(products.matmul(xs, ready.kernel), ready.input_bias)
    function = partial(normalize, sites.input, groups, ready.norm.input)
    zs, measured = base.over_steps(function, zs, None if stats is None else stats.input, where)
    return base.add_bias(zs, ready.bias).astype(ready.kernel.dtype), CellNorms(input=measured)


def normalize_recurrent(
    ready: ReadyGates,
    sites: CellNorms,
    groups: tuple[int, ...],
    a_t: Float[Array, "*B GH"],
    stats_t: CellNorms | None,
    where_t: Bool[Array, "*B"] | None,
) -> tuple[Float[Array, "*B GH"], Stats]:
    """Normalizes the recurrent product of one step; also returns its moments."""
    stats = None if stats_t is None else stats_t.recurrent
    a_t = base.add_bias(a_t, ready.recurrent_bias)
    return normalize(sites.recurrent, groups, ready.norm.recurrent, a_t, stats, where_t)


def total(
    ready: ReadyGates,
    sites: CellNorms,
    groups: tuple[int, ...],
    z_t: Float[Array, "*B GH"],
    a_t: Float[Array, "*B GH"],
    stats_t: CellNorms | None,
    where_t: Bool[Array, "*B"] | None,
) -> tuple[Float[Array, "*B GH"], CellNorms]:
    """Computes the pre-activations of one step from projected input and recurrent product; also returns the moments."""
    r, m_recurrent = normalize_recurrent(ready, sites, groups, a_t, stats_t, where_t)
    s = z_t.astype(r.dtype) + r
    if sites.summed == Identity():
        return s, CellNorms(recurrent=m_recurrent)
    centered = sites.input == sites.recurrent == Identity()
    stats = None if stats_t is None else stats_t.summed
    s, m_summed = normalize(sites.summed, groups, ready.norm.summed, s, stats, where_t, centered=centered)
    return base.add_bias(s, ready.summed_bias), CellNorms(recurrent=m_recurrent, summed=m_summed)


def shift_last_norm(sites: CellNorms, norm: CellNorms, gate: int | slice, start: float | Array) -> CellNorms:
    """Adds the initial bias of some gates to the bias of the last norm before the gates that has one."""
    for name in ("summed", "recurrent", "input"):
        weights = getattr(norm, name)
        if getattr(sites, name) != Identity() and getattr(weights, "bias", None) is not None:
            return norm._replace(**{name: weights._replace(bias=weights.bias.at[gate].add(start))})
    return norm


def check_groups(caller: str, groups: tuple[int, ...], gates: int) -> None:
    """Raises ValueError unless the group sizes are positive and add up to the number of gates."""
    if not isinstance(groups, tuple) or not all(isinstance(g, int) and g > 0 for g in groups) or sum(groups) != gates:
        raise ValueError(
            f"{caller}: gate_groups must be a tuple of positive sizes that add up to {gates}, got {groups!r}. "
            f"({gates},) shares statistics over all gates, {(1,) * gates} keeps each gate apart."
        )


def normalize(
    norm: Normalizer,
    groups: tuple[int, ...],
    params: Params,
    x: Float[Array, "*B GH"],
    stats: Stats | None,
    where: Bool[Array, "*B"] | None,
    *,
    centered: bool = True,
) -> tuple[Float[Array, "*B GH"], Stats]:
    """Applies a normalizer to pre-activations, each group of gates concatenated into one feature axis.

    Data and weights are merged (see :func:`merge_gates`); statistics have trailing axes (G, H). Unless ``centered`` is
    False, the data must come from kernels and biases that :func:`prepare` centered.
    """
    if norm == Identity():
        return x, ()
    norm = after_centering(norm) if centered else norm
    gates = sum(groups)
    hidden = x.shape[-1] // gates
    stats = None if stats is None else _map_features(merge_gates, stats)
    outputs, measured, low = [], [], 0
    for size in groups:
        part = slice(low * hidden, (low + size) * hidden)
        low += size

        def cut(leaf: Array, part: slice = part) -> Array:
            return leaf[..., part]

        used = None if stats is None else _map_features(cut, stats)
        y, m = norm(jax.tree.map(cut, params), cut(x), used, None if where is None else where[..., None])
        outputs.append(y)
        measured.append(m)
    # All groups count the same batch, so the counts of the first group serve for all.
    together = measured[0] if len(groups) == 1 else _concatenate_features(measured)
    return (
        outputs[0] if len(groups) == 1 else jnp.concatenate(outputs, axis=-1),
        _map_features(partial(split_gates, gates=gates), together),
    )


def _map_features(function: Any, stats: Stats) -> Stats:
    """Applies a function to mean and variance of every Moments and keeps the counts."""
    return map_moments(lambda m: m._replace(mean=function(m.mean), var=function(m.var)), stats)


def _concatenate_features(parts: list[Stats]) -> Stats:
    def join(first: Moments, *rest: Moments) -> Moments:
        both = (first, *rest)
        return first._replace(
            mean=jnp.concatenate([m.mean for m in both], axis=-1), var=jnp.concatenate([m.var for m in both], axis=-1)
        )

    return map_moments(join, *parts)
