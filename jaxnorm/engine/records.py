"""The records that the loops exchange."""

from typing import Any, Literal, TypeAlias

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array
from jaxnorm.cells.base import Carry, Cell, Products, Weights

Save: TypeAlias = Literal["nothing", "products", "carries", "chunks"]
"""What a run saves for the backward pass: the carry before each step and its matrix products, only the carry, or only
the carry before each chunk."""


class CarryOutputs(NamedTuple):
    """What a loop returns besides the outputs, the moments and the last carry."""

    before: Save = "nothing"
    """For the backward pass."""
    after: bool = False
    """For the caller: the carry after each step."""
    rounding: Any = None
    """The dtype to which products are rounded before they are used, so that they can be saved in it; None for none."""
    wide_sums: bool = False
    """Whether weights collect their gradients in at least float32, for a loop that JAX differentiates."""


class Saved(NamedTuple):
    """What the forward pass saves of each step; time is the first axis, and an empty entry is not saved."""

    carry: Carry = ()
    """The carry before the step, after cuts and resets."""
    x_products: Products = ()
    """The input products, before any norm."""
    h_products: Products = ()
    """The recurrent products."""


class PerStep(NamedTuple):
    """The inputs of each step besides x; each has a leading time axis, or is None."""

    row: Array | None = None
    """The row of the running statistics that serves each example."""
    where: Array | None = None
    """False: the step keeps the carry and outputs zeros."""
    reset: Array | None = None
    """True: the initial carry replaces the carry before the step."""
    cut: Array | None = None
    """True: no gradient passes from the step to the previous one."""
    key: Array | None = None
    measured: Any = None
    """The moments that the forward pass kept, for the backward pass; in the forward pass a mark asks for them. See
    ``reuse``."""
    age: Array | None = None
    """The number of real steps of each example since its sequence began; only for cells that use it."""


class LoopInputs(NamedTuple):
    """The differentiable inputs of a loop over the steps of a sequence."""

    weights: Weights
    carry: Carry
    """The carry before the first step."""
    initial: Carry
    """The carry that a reset restores; None without resets."""
    xs: Array
    stats: Any
    """Rows of running statistics; None measures the batch."""


class LoopOutputs(NamedTuple):
    """The outputs of a loop."""

    last: Carry
    """The carry after the last step."""
    outputs: Any
    input_moments: Any
    """The moments of the input site at each step."""
    step_moments: Any
    """The moments of the other sites at each step."""
    carries: Any = ()
    """The carry after each step, time first; empty unless asked for."""


class Chunk(NamedTuple):
    """Sequences of three kinds: those of a chunk of steps, or those of all chunks."""

    in_layout: Any
    """One entry per step. In all chunks together it has the caller's layout, and the loop reads and writes it in place;
    in one chunk time is the first axis."""
    time_major: Any
    """One entry per step; time is the first axis."""
    per_chunk: Any
    """One entry per chunk."""


class ChunkPlan(NamedTuple):
    """The static, hashable options of a run over a sequence in chunks."""

    cell: Cell
    length: int
    """The number of steps in a chunk."""
    axis: int
    """The time axis of inputs and outputs."""
    feature_axes: int
    """The number of trailing axes of the inputs, after the axes of steps and examples."""
    outputs: Any
    """The structure of the outputs: that of a single array, in all cells but those of users."""
    output_features: tuple[Any, ...]
    """Shape (after the axes of steps and examples) and dtype of each of their leaves."""
    output_places: tuple[Any, ...]
    """The mesh axes of their axes after those of steps and examples, on a mesh with explicit axes."""
    reverse: bool
    save: Save
    """What to save for the backward pass, if there is one."""
    dtype: Any
    """The compute dtype of the cell, in which products are saved."""
    keep: Save = "nothing"
    """What to save in this call: ``save`` if it is differentiated."""
    carries: bool = False
    """Whether to return the carry after each step."""
    again: bool = False
    """Whether the derivative runs a chunk again and keeps only the carry before it, where JAX differentiates the loop
    over chunks."""
