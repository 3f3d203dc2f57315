"""Sums over named axes: over all their members, or over each of several groups of members."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base.typing import Array, AxisIndexGroups, AxisName

Arrays = TypeVar("Arrays", Array, tuple[Array, ...])


@dataclass(frozen=True)
class AxisGroups:
    """Named axes whose members form groups, each of which has statistics of its own."""

    names: AxisName
    groups: tuple[tuple[int, ...], ...]

    def members(self) -> tuple[Array, Array]:
        """The number of this member's own group, and for each member the number of its group."""
        size = lax.axis_size(self.names)
        if size != sum(map(len, self.groups)):
            raise ValueError(
                f"axis_index_groups={self.groups} must name each of the {size} members of axis_name={self.names!r} "
                f"once. Write the numbers from 0 to {size - 1}."
            )
        number = {member: k for k, group in enumerate(self.groups) for member in group}
        of_members = jnp.asarray([number[member] for member in range(size)], jnp.int32)
        return of_members[lax.axis_index(self.names)], of_members

    def reduce(self, collective: Callable[..., Any], data: Arrays, neutral: float) -> Arrays:
        """Reduces over the members of the own group, with one collective for all arrays.

        ``jax.lax.psum`` has such groups too, but neither under ``vmap`` nor under ``shard_map`` with its defaults. So
        each group has an entry of its own in a reduction over all members.
        """
        own, _ = self.members()
        here = jnp.arange(len(self.groups), dtype=jnp.int32) == own

        def entries(x: Array) -> Array:
            return jnp.where(_beside(here, x[None]), x[None], jnp.asarray(neutral, x.dtype))

        def entry(of_groups: Array) -> Array:
            chosen = jnp.where(_beside(here, of_groups), of_groups, jnp.zeros((), of_groups.dtype))
            return jnp.sum(chosen, axis=0, dtype=of_groups.dtype)

        reduced: Arrays = jax.tree.map(entry, collective(jax.tree.map(entries, data), self.names))
        return reduced

    def gather(self, x: Array) -> tuple[Array, Array]:
        """The arrays of all members on a new first axis, zero for other groups; and the size of the own group."""
        own, of_members = self.members()
        here = of_members == own
        gathered = lax.all_gather(x, self.names)
        return jnp.where(_beside(here, gathered), gathered, jnp.zeros((), x.dtype)), jnp.sum(here, dtype=jnp.int32)


def _beside(mask: Array, like: Array) -> Array:
    """Gives a mask of the first axis as many axes as another array."""
    return mask.reshape(mask.shape + (1,) * (like.ndim - 1))


NamedAxes: TypeAlias = AxisName | AxisGroups
"""What statistics span besides array axes: all members of named axes, or groups of them."""


def named_axes(caller: str, axis_name: AxisName | None, axis_index_groups: AxisIndexGroups | None) -> NamedAxes | None:
    """Joins both arguments of a normalizer; raises ValueError unless the groups name members 0, 1, ... once each."""
    if axis_index_groups is None:
        return axis_name
    if axis_name is None:
        raise ValueError(
            f"{caller}: axis_index_groups={axis_index_groups} groups the members of axis_name, got None. Name the axis."
        )
    groups = check_index_groups(caller, axis_index_groups)
    return AxisGroups(axis_name, groups)


def check_index_groups(caller: str, value: Any) -> tuple[tuple[int, ...], ...]:
    """Returns the groups as tuples, which hash."""
    try:
        groups = tuple(tuple(map(int, group)) for group in value)
    except (TypeError, ValueError):
        groups = ()
    if not groups or sorted(member for group in groups for member in group) != list(range(sum(map(len, groups)))):
        raise ValueError(
            f"{caller}: axis_index_groups must name each member of axis_name once, from 0 on, as ((0, 1), (2, 3)), got "
            f"{value!r}."
        )
    return groups


def across(sums: Arrays, axes: NamedAxes | None) -> Arrays:
    """Sums one or several arrays over named axes, if there are any."""
    return sums if axes is None else _over(lax.psum, sums, axes, 0.0)


def maximum_across(x: Array, axes: NamedAxes | None) -> Array:
    """The maximum over named axes, if there are any."""
    return x if axes is None else _over(lax.pmax, x, axes, -jnp.inf)


def _over(collective: Callable[..., Any], data: Arrays, axes: NamedAxes, neutral: float) -> Arrays:
    try:
        if isinstance(axes, AxisGroups):
            return axes.reduce(collective, data, neutral)
        reduced: Arrays = collective(data, axes)
    except NameError:
        name = axes.names if isinstance(axes, AxisGroups) else axes
        raise ValueError(
            f"axis_name={name!r} is not bound here. Call inside jax.vmap(..., axis_name={name!r}) or "
            "jax.shard_map over a mesh with that axis, or leave axis_name out."
        ) from None
    return reduced
