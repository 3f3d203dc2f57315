"""Which elements share a statistic, and how a statistic is laid over them again."""

import jax.numpy as jnp
from jax import lax

from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, AxisName
from jaxnorm.norms.core.moments import across, average, count_over


class Groups(NamedTuple):
    """Neighboring features that share statistics."""

    axis: int
    """The axis of the features, which is not among those that are reduced."""
    size: int
    """How many features there are to a group."""


class Extent(NamedTuple):
    """The elements behind each statistic: those along some axes, over all members of named ones.

    A statistic is an array with the other axes only: size-one axes in their place stand between passes over the data
    that XLA's CPU compiler otherwise joins. The features of a group are added up when their positions have been, so
    that they lie side by side in the long loops.
    """

    axes: tuple[int, ...]
    axis_name: AxisName | None = None
    leading: int | None = None
    """How many first coordinates of the (single) axis are measured; None for all."""
    groups: Groups | None = None

    def sums(self, *data: Array) -> tuple[Array, ...]:
        """The sum of each of several arrays; devices are asked once for all of them."""
        own = tuple(self._add_members(jnp.sum(self._first(each), axis=self.axes)) for each in data)
        return across(own, self.axis_name)

    def mean(self, data: Array, count: Array) -> Array:
        """The sum divided by a count, or by one where that is zero."""
        (total,) = self.sums(data)
        return average(total, count)

    def number(self, x: Array, where: Array | None) -> Array:
        """The number of elements behind each mean, of size one along axes where that does not vary."""
        if where is not None:
            where = self._first(where)
        return self._add_members(jnp.squeeze(count_over(self._first(x), where, self.axes, self.axis_name), self.axes))

    def lay(self, statistic: Array) -> Array:
        """A statistic with as many axes as the data, which it broadcasts against."""
        if self.groups is not None and statistic.shape[self._feature] != 1:
            # Not jnp.repeat, which refuses features that are spread over a mesh with explicit axes.
            before, groups, after = self._split(statistic.shape)
            repeated = jnp.broadcast_to(
                jnp.expand_dims(statistic, self._feature + 1), (*before, groups, self.groups.size, *after)
            )
            statistic = repeated.reshape(*before, groups * self.groups.size, *after)
        return jnp.expand_dims(statistic, self.axes)

    @property
    def _feature(self) -> int:
        """The axis of the features, or groups, in a statistic."""
        assert self.groups is not None
        return self.groups.axis - sum(a < self.groups.axis for a in self.axes)

    def _first(self, data: Array) -> Array:
        """The coordinates that are measured."""
        if self.leading is None or data.shape[self.axes[0]] == 1:
            return data
        return lax.slice_in_dim(data, 0, self.leading, axis=self.axes[0])

    def _add_members(self, sums: Array) -> Array:
        """The sum over the features of each group; those that do not vary count as often as there are features."""
        if self.groups is None:
            return sums
        axis, size = self._feature, self.groups.size
        if sums.shape[axis] == 1:
            return sums * jnp.asarray(size, sums.dtype)
        before, features, after = self._split(sums.shape)
        return jnp.sum(sums.reshape(*before, features // size, size, *after), axis=axis + 1)

    def _split(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
        """The shape before the axis of the features or groups, its size, and the shape after it."""
        return shape[: self._feature], shape[self._feature], shape[self._feature + 1 :]
