r"""Gates in two stages: the products of the second stage need the gates of the first.

A reset gate before the product needs this, :math:`(r \odot h_{t-1}) U_n`. One product still serves the inputs of all
gates; the weights and statistics of all later operations are cut into the two stages.
"""

from jaxnorm.cells.base import StepInput
from jaxnorm.cells.preactivation.groups import cut, cut_moments
from jaxnorm.cells.preactivation.weights import GateWeights
from jaxnorm.cells.sites import CellNorms


def split_weights(weights: GateWeights, first: int) -> GateWeights:
    """Cuts the weights after the input product: keeps the first features, and moves the others to ``extra``."""
    after = weights._replace(kernel=None, bias=None, input_bias=None, norm=weights.norm._replace(input=()))
    kept: GateWeights = cut(after, slice(0, first))
    later: GateWeights = cut(after, slice(first, None))
    return kept._replace(
        kernel=weights.kernel,
        bias=weights.bias,
        input_bias=weights.input_bias,
        norm=kept.norm._replace(input=weights.norm.input),
        extra=later,
    )


def split_input(t: StepInput, first: int) -> tuple[StepInput, StepInput]:
    """Cuts the projected inputs and the statistics of a step; both stages get the same ``h_proj``."""
    parts = slice(0, first), slice(first, None)
    kept, later = (cut_stats(t._replace(x_proj=t.x_proj[..., part]), part) for part in parts)
    return kept, later


def cut_stats(t: StepInput, part: slice) -> StepInput:
    """Picks the statistics of some features at the sites that a step normalizes."""

    def pick(stats: CellNorms | None) -> CellNorms | None:
        if stats is None:
            return None
        return CellNorms(recurrent=cut_moments(stats.recurrent, part), summed=cut_moments(stats.summed, part))

    return t._replace(stats=pick(t.stats), measured=pick(t.measured))


def check_last_alone(caller: str, groups: tuple[int, ...]) -> None:
    """Raises ValueError if the gate of the second stage shares statistics with others."""
    if groups[-1] != 1:
        raise ValueError(
            f"{caller}: gate_groups={groups!r} joins the candidate, the last gate, with others, whose values its "
            "product needs. The last group must be 1, as in (2, 1)."
        )
