"""How the vectors of gates lie in memory: flat, (G*H,), gate after gate."""

from jaxnorm._base.typing import Array, Float


def gate_slice(gate: int, hidden: int) -> slice:
    """The features of one gate in a flat vector."""
    return slice(gate * hidden, (gate + 1) * hidden)


def group_slices(groups: tuple[int, ...], hidden: int) -> list[slice]:
    """The features of each group of consecutive gates in a flat vector."""
    ends = [sum(groups[: k + 1]) * hidden for k in range(len(groups))]
    return [slice(end - size * hidden, end) for end, size in zip(ends, groups, strict=True)]


def by_gate(vector: Float[Array, "*lead GH"], gates: int) -> Float[Array, "*lead G H"]:
    """Views a flat vector gate by gate."""
    return vector.reshape(*vector.shape[:-1], gates, -1)


def flat_kernel(kernel: Float[Array, "..."]) -> Float[Array, "*N I GH"]:
    """Views a kernel (I, H), (I, G, H) or, for each of N blocks, (N, I, G, H) as matrices, in the same memory order."""
    return kernel if kernel.ndim == 2 else kernel.reshape(*kernel.shape[:-2], -1)


def with_gate(vector: Float[Array, " GH"], gate: int, values: Float[Array, " H"]) -> Float[Array, " GH"]:
    """Returns a flat vector with the given values at one gate."""
    return vector.at[gate_slice(gate, values.size)].set(values)
