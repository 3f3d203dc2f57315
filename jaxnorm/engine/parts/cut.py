"""Where a call has its examples: the batch axis that is cut, and the axis of the examples in each array."""

from typing import Any

import jax

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array
from jaxnorm.engine.records import LoopInputs, PerStep


class LoopCall(NamedTuple):
    """The arguments of a loop over a sequence."""

    inputs: LoopInputs
    steps: PerStep
    head: Any = ()
    """What a function reads the outputs with, where only sums over time are wanted."""
    targets: Any = ()
    """What it compares them with, laid out like the inputs."""


class Parts(NamedTuple):
    """How to cut a batch."""

    number: int
    axis: int
    """The batch axis to cut, among those of the batch."""
    time: int
    """The axis of time in the layout of inputs and outputs."""
    weights: Any
    """Shapes of the weights for the batch of one part: masks of a sequence have an entry for each example."""
    spread: Any = None
    """The explicit axes of the mesh that spread the parts, if there are any."""
    sums: bool = False
    """Whether the loop returns sums over time in place of outputs."""

    @property
    def in_layout(self) -> int:
        """The axis to cut in the layout of inputs and outputs."""
        return self.axis + (self.axis >= self.time)


class Place(NamedTuple):
    """The examples in one array of a call."""

    axis: int | None
    """None: there are none."""
    shared: bool = False
    """Whether all parts have the same weights."""


def places(parts: Parts, call: LoopCall) -> list[Place]:
    """The place of the examples in each leaf of the arguments of a loop."""
    inputs, steps, head, targets = call
    lead, layout = parts.axis, parts.in_layout
    size = inputs.xs.shape[layout]

    def of_steps(leaf: Array) -> Place:
        return Place(lead + 1 if leaf.ndim > lead + 1 and leaf.shape[lead + 1] == size else None)

    def of_weights(leaf: Array, part: Any) -> Place:
        differ = [k for k, (a, b) in enumerate(zip(leaf.shape, part.shape, strict=True)) if a != b]
        return Place(differ[0] if differ else None, shared=True)

    def at(place: Place, tree: Any) -> Any:
        return jax.tree.map(lambda _: place, tree)

    shared = Place(None, shared=True)
    of_inputs = LoopInputs(
        jax.tree.map(of_weights, inputs.weights, parts.weights),
        at(Place(lead), inputs.carry),
        at(Place(lead), inputs.initial),
        at(Place(layout), inputs.xs),
        at(shared, inputs.stats),
    )
    of_each_step = jax.tree.map(of_steps, steps._replace(key=None))._replace(key=at(Place(None), steps.key))
    tree = (of_inputs, of_each_step, at(shared, head), at(Place(layout), targets))
    return jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, Place))
