"""Rules, one for each kind of operation: where the examples lie in its results, if no example looks at another."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from jaxnorm.engine.parts.states import (
    Apart,
    SeesOthersError,
    Shared,
    State,
    is_one,
    meet,
    meet_all,
    moved,
    shared_value,
)

Rule: TypeAlias = Callable[[Any, list[State]], Sequence[State]]


def _shape(atom: Any) -> tuple[Any, ...]:
    shape: tuple[Any, ...] = atom.aval.shape
    return shape


def _ints(axes: Any) -> tuple[int, ...]:
    """Axes as Python's numbers; some are NumPy's."""
    return tuple(map(int, axes)) if isinstance(axes, tuple | list) else (int(axes),)


def _numbers(operation: Any) -> Any:
    """What the axes of a lookup or a convolution stand for."""
    numbers = operation.params["dimension_numbers"]
    return numbers._replace(**{name: _ints(axes) for name, axes in numbers._asdict().items()})


def elementwise(operation: Any, states: list[State]) -> Sequence[State]:
    """Entry by entry; scalars meet all entries."""
    rank = max((len(_shape(atom)) for atom in operation.invars), default=0)
    found: State = Shared(frozenset(range(rank)))
    for atom, state in zip(operation.invars, states, strict=True):
        if len(_shape(atom)) == rank:
            found = meet(found, state)
        elif _shape(atom):
            raise SeesOthersError("arrays of several ranks")
    return [found] * len(operation.outvars)


def each_as_it_is(operation: Any, states: list[State]) -> Sequence[State]:
    """Hands on what it gets."""
    return states


def broadcast(operation: Any, states: list[State]) -> Sequence[State]:
    """New axes, and axes of size one that grow."""
    places, shape = _ints(operation.params["broadcast_dimensions"]), operation.params["shape"]
    size = _shape(operation.invars[0])
    new = [axis for axis in range(len(shape)) if axis not in places]
    grown = [place for place, old in zip(places, size, strict=True) if is_one(old)]
    return [moved(states[0], lambda axis: places[axis], [*new, *grown])]


def reshape(operation: Any, states: list[State]) -> Sequence[State]:
    """Axes that split and merge: we find the one that holds the examples."""
    old, new = _shape(operation.invars[0]), _shape(operation.outvars[0])
    if not all(isinstance(size, int) for size in (*old, *new)) or operation.params.get("dimensions") is not None:
        raise SeesOthersError("reshape")
    state = states[0]
    if isinstance(state, Apart):
        return [_regrouped(state, old, new)]
    if len(state.same) == len(old):
        return [Shared(frozenset(range(len(new))))]

    def to(axis: int) -> int | None:
        before = math.prod(old[:axis])
        return next((k for k, size in enumerate(new) if size == old[axis] and math.prod(new[:k]) == before), None)

    return [moved(state, to, [axis for axis, size in enumerate(new) if size == 1])]


def _regrouped(state: Apart, old: tuple[int, ...], new: tuple[int, ...]) -> Apart:
    """The axis that holds the examples after a reshape: as many entries come before them as did."""
    if 0 in old:
        raise SeesOthersError("nothing there")
    examples, before = old[state.axis] // (state.outer * state.inner), math.prod(old[: state.axis]) * state.outer
    for axis, size in enumerate(new):
        outer, rest = divmod(before, math.prod(new[:axis]))
        if outer and not rest and size % (outer * examples) == 0:
            return Apart(axis, outer, size // (outer * examples))
    raise SeesOthersError("reshape")


def transpose(operation: Any, states: list[State]) -> Sequence[State]:
    """Axes in another order."""
    return [moved(states[0], _ints(operation.params["permutation"]).index)]


def reduce(operation: Any, states: list[State]) -> Sequence[State]:
    """Sums and the like, over some axes."""
    params = operation.params
    gone = _ints(params["axes"] if "axes" in params else params["dimensions"])
    operands = states[: len(operation.outvars)]  # each result may come of all of them
    return [meet_all(moved(state, lambda axis: _after(axis, gone)) for state in operands)] * len(operands)


def _after(axis: int, gone: tuple[int, ...]) -> int | None:
    return None if axis in gone else axis - sum(other < axis for other in gone)


def along(name: str) -> Rule:
    """Operations that mix the entries along the axes that a parameter names: cumulative sums, sorting, joining."""

    def rule(operation: Any, states: list[State]) -> Sequence[State]:
        mixed = _ints(operation.params[name])
        found = meet_all(moved(state, lambda axis: None if axis in mixed else axis) for state in states)
        return [found] * len(operation.outvars)

    return rule


def window(operation: Any, states: list[State]) -> Sequence[State]:
    """A slice: axes that are taken whole keep their examples."""
    old, new = _shape(operation.invars[0]), _shape(operation.outvars[0])
    if any(isinstance(state, Apart) for state in states[1:]):
        raise SeesOthersError("slices of their own")
    shared = isinstance(states[0], Shared)
    return [moved(states[0], lambda axis: axis if shared or old[axis] == new[axis] else None)]


def update(operation: Any, states: list[State]) -> Sequence[State]:
    """An update in place: of axes that it covers whole."""
    if any(isinstance(state, Apart) for state in states[2:]):
        raise SeesOthersError("places of their own")
    whole, part = _shape(operation.invars[0]), _shape(operation.invars[1])
    covers = [axis for axis, size in enumerate(part) if size == whole[axis]]
    return [meet(states[0], moved(states[1], lambda axis: axis if axis in covers else None))]


def pad(operation: Any, states: list[State]) -> Sequence[State]:
    """Padding of other axes."""
    padded = [axis for axis, widths in enumerate(operation.params["padding_config"]) if tuple(widths) != (0, 0, 0)]
    if isinstance(states[1], Apart):
        raise SeesOthersError("pad")
    return [moved(states[0], lambda axis: None if axis in padded else axis)]


def iota(operation: Any, states: list[State]) -> Sequence[State]:
    """Numbers along one axis."""
    rank = len(_shape(operation.outvars[0]))
    return [Shared(frozenset(range(rank)) - set(_ints(operation.params["dimension"])))]


def dot(operation: Any, states: list[State]) -> Sequence[State]:
    """Products of matrices: examples lie along a free axis of one side, or along an axis that both sides share."""
    contracted, shared = ([_ints(axes) for axes in pair] for pair in operation.params["dimension_numbers"])
    before, results = len(shared[0]), []
    for side, state in enumerate(states):
        rank = len(_shape(operation.invars[side]))
        free = [axis for axis in range(rank) if axis not in contracted[side] and axis not in shared[side]]
        first = before if side == 0 else len(_shape(operation.outvars[0])) - len(free)

        def to(axis: int, side: int = side, free: list[int] = free, first: int = first) -> int | None:
            if axis in shared[side]:
                return shared[side].index(axis)
            return first + free.index(axis) if axis in free else None

        # The free axes of the other side: along them all entries come from the same entries of this one.
        others = [k for k in range(before, len(_shape(operation.outvars[0]))) if not first <= k < first + len(free)]
        results.append(moved(state, to, others))
    return [meet(*results)]


def convolve(operation: Any, states: list[State]) -> Sequence[State]:
    """Convolutions of examples with one kernel."""
    numbers, params = _numbers(operation), operation.params
    images, kernel = states
    if isinstance(images, Shared) and isinstance(kernel, Shared):
        return [shared_value(operation.outvars[0].aval)]
    alone = isinstance(kernel, Shared) and params["batch_group_count"] == 1
    if not alone or isinstance(images, Shared) or images.axis != numbers.lhs_spec[0]:
        raise SeesOthersError("convolution")
    return [images._replace(axis=numbers.out_spec[0])]


def gather(operation: Any, states: list[State]) -> Sequence[State]:
    """Looking up: indices of the examples in a table that they share, or the same indices for all of them."""
    numbers, sizes = _numbers(operation), operation.params["slice_sizes"]
    table, result = (_shape(atom) for atom in (operation.invars[0], operation.outvars[0]))
    of_indices = [axis for axis in range(len(result)) if axis not in numbers.offset_dims]
    paired = dict(zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True))
    of_slices = [axis for axis in range(len(table)) if axis not in (*numbers.collapsed_slice_dims, *paired)]

    def index_to(axis: int) -> int | None:
        return of_indices[axis] if axis < len(of_indices) else None

    def table_to(axis: int) -> int | None:
        if axis in paired:
            return of_indices[paired[axis]]
        whole = axis in of_slices and sizes[axis] == table[axis]
        return numbers.offset_dims[of_slices.index(axis)] if whole else None

    free = [axis for k, axis in enumerate(of_indices) if k not in paired.values()]
    return [meet(moved(states[0], table_to, free), moved(states[1], index_to, numbers.offset_dims))]


def scatter(operation: Any, states: list[State]) -> Sequence[State]:
    """Writing at places that all examples share, or at places of their own in their own entry."""
    numbers = _numbers(operation)
    array, _, new = (_shape(atom) for atom in operation.invars)
    paired = dict(zip(numbers.scatter_indices_batching_dims, numbers.operand_batching_dims, strict=True))
    of_indices = [axis for axis in range(len(new)) if axis not in numbers.update_window_dims]
    inside = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    windows = dict(zip(numbers.update_window_dims, (k for k in range(len(array)) if k not in inside), strict=True))

    def update_to(axis: int) -> int | None:
        if axis in windows:
            return windows[axis] if new[axis] == array[windows[axis]] else None
        return paired.get(of_indices.index(axis))

    covered = [place for axis, place in windows.items() if new[axis] == array[place]]
    written = meet(moved(states[2], update_to), moved(states[1], paired.get, covered))
    return [meet(states[0], written)]


def tile(operation: Any, states: list[State]) -> Sequence[State]:
    """Repeats along axes, but not along that of the examples."""
    times, shared = operation.params["reps"], isinstance(states[0], Shared)
    return [moved(states[0], lambda axis: axis if shared or is_one(times[axis]) else None)]


def same_axes(operation: Any, states: list[State]) -> Sequence[State]:
    """Axes stay; others may follow, or the last may end: keys as numbers, numbers as keys, numbers of other bits."""
    rank = len(_shape(operation.outvars[0]))
    return [moved(states[0], lambda axis: axis if axis < rank else None)]


def draw(operation: Any, states: list[State]) -> Sequence[State]:
    """What keys draw: with JAX's own generator a key of an example's own draws numbers of its own."""
    if operation.invars[0].aval.dtype._impl.tag != "fry":  # others draw for all keys together
        if any(isinstance(state, Apart) for state in states):
            raise SeesOthersError("another generator")
        return [shared_value(operation.outvars[0].aval)]
    if len(states) > 1:
        return elementwise(operation, states)
    return same_axes(operation, states)


def stack(operation: Any, states: list[State]) -> Sequence[State]:
    """A new axis."""
    (new,) = _ints(operation.params["axis"])
    return [meet_all(moved(state, lambda axis: axis + (axis >= new)) for state in states)]


def unstack(operation: Any, states: list[State]) -> Sequence[State]:
    """An axis ends, and each of its entries is a result."""
    gone = _ints(operation.params["axis"])
    return [moved(states[0], lambda axis: _after(axis, gone))] * len(operation.outvars)


def largest(operation: Any, states: list[State]) -> Sequence[State]:
    """The largest entries along an axis, the last one in older releases."""
    mixed = operation.params.get("axis", len(_shape(operation.invars[0])) - 1)
    return [moved(states[0], lambda axis: None if axis == mixed else axis)] * len(operation.outvars)


ELEMENTWISE = """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz complex
    conj convert_element_type cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma
    igammac imag integer_pow is_finite le le_to lgamma log log1p log2 logistic lt lt_to max min mul mulhi ne neg
    nextafter not one_minus_square or polygamma population_count pow real reduce_precision
    regularized_incomplete_beta rem round rsqrt select_n shift_left shift_right_arithmetic shift_right_logical sign
    sin sinh sqrt square sub tan tanh threefry2x32 xor zeta
"""
UNCHANGED = """
    copy copy_p device_put name optimization_barrier pcast pvary random_clone reshard sharding_constraint stop_gradient
"""
REDUCTIONS = """
    argmax argmin reduce reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum reduce_xor squeeze
"""

SCATTERS = "scatter scatter-add scatter-max scatter-min scatter-mul scatter-sub scatter_add scatter_max scatter_min"

RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE.split(), elementwise),
    **dict.fromkeys(UNCHANGED.split(), each_as_it_is),
    **dict.fromkeys(REDUCTIONS.split(), reduce),
    **dict.fromkeys(("cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum", "split"), along("axis")),
    **dict.fromkeys(("sort", "concatenate"), along("dimension")),
    **dict.fromkeys(("slice", "dynamic_slice"), window),
    **dict.fromkeys(("bitcast_convert_type", "random_seed", "random_unwrap", "random_wrap"), same_axes),
    **dict.fromkeys(("random_bits", "random_fold_in", "random_split"), draw),
    "rev": along("dimensions"),
    "broadcast_in_dim": broadcast,
    "reshape": reshape,
    "transpose": transpose,
    "dynamic_update_slice": update,
    "pad": pad,
    "iota": iota,
    "dot_general": dot,
    "conv_general_dilated": convolve,
    "gather": gather,
    **dict.fromkeys(SCATTERS.split(), scatter),
    "stack": stack,
    "tile": tile,
    "top_k": largest,
    "unstack": unstack,
}
