r"""Gates in two stages: the products of the second stage need the gates of the first.

A reset gate before the product needs this, :math:`(r \odot h_{t-1}) U_n`. One product still serves the inputs of all
gates; the weights of all later operations are split into the two stages.
"""

import jax
import jax.numpy as jnp

from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, Float
from jaxnorm.cells.sites import CellNorms
from jaxnorm.cells.preactivation.gates import ReadyGates
from jaxnorm.cells.preactivation.products import Kernel
from jaxnorm.norms.base import Stats
from jaxnorm.norms.core.moments import Moments, map_moments


class Stage(NamedTuple):
    """The weights after the input product, for the gates of one stage; fields as in :class:`ReadyGates`."""

    recurrent: Kernel
    norm: CellNorms
    recurrent_bias: Float[Array, " GH"] | None
    recurrent_out: Float[Array, " GH"] | None
    summed_bias: Float[Array, " GH"] | None


def two_stages(ready: ReadyGates, first: int) -> ReadyGates:
    """Splits the weights after the input product: keeps the first ``first`` entries, moves the rest to ``more``."""
    stage = _cut(ready, slice(0, first))
    norm = stage.norm._replace(input=ready.norm.input)
    return ready._replace(**stage._replace(norm=norm)._asdict(), more=_cut(ready, slice(first, None)))


def second_stage(ready: ReadyGates, stage: Stage) -> ReadyGates:
    """Returns the weights of the second stage."""
    return ready._replace(**stage._asdict())


def _cut(ready: ReadyGates, part: slice) -> Stage:
    def cut(leaf: Array) -> Array:
        return leaf[..., part]

    return Stage(
        recurrent=jax.tree.map(cut, ready.recurrent),
        norm=CellNorms(recurrent=jax.tree.map(cut, ready.norm.recurrent), summed=jax.tree.map(cut, ready.norm.summed)),
        recurrent_bias=jax.tree.map(cut, ready.recurrent_bias),
        recurrent_out=jax.tree.map(cut, ready.recurrent_out),
        summed_bias=jax.tree.map(cut, ready.summed_bias),
    )


def stage_stats(stats: CellNorms | None, gates: slice) -> CellNorms | None:
    """Selects the statistics of some gates; they have trailing axes (G, H)."""

    def cut(m: Moments) -> Moments:
        return m._replace(mean=m.mean[..., gates, :], var=m.var[..., gates, :])

    if stats is None:
        return None
    return CellNorms(recurrent=map_moments(cut, stats.recurrent), summed=map_moments(cut, stats.summed))


def join_stages(first: CellNorms, second: CellNorms) -> CellNorms:
    """Joins the moments of both stages."""

    def join(a: Moments, b: Moments) -> Moments:
        return a._replace(mean=jnp.concatenate([a.mean, b.mean], axis=-2), var=jnp.concatenate([a.var, b.var], axis=-2))

    joined: CellNorms = map_moments(join, first, second)
    return joined


def stack_moments(*measured: Stats, axis: int) -> Stats:
    """Stacks the moments of several products on a new axis of mean and variance; their counts are equal."""

    def stack(first: Moments, *rest: Moments) -> Moments:
        every = (first, *rest)
        return first._replace(
            mean=jnp.stack([m.mean for m in every], axis), var=jnp.stack([m.var for m in every], axis)
        )

    return map_moments(stack, *measured)


def check_last_alone(caller: str, groups: tuple[int, ...]) -> None:
    """Raises ValueError if the gate of the second stage shares statistics with others."""
    if groups[-1] != 1:
        raise ValueError(
            f"{caller}: gate_groups={groups!r} joins the candidate, the last gate, with others, whose values its "
            "product needs. The last group must be 1, as in (2, 1)."
        )
