"""Which elements share a statistic, and how to broadcast the statistic back over them."""

from typing import cast

import jax.numpy as jnp
from jax import lax

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array
from jaxnorm.norms.core.moments import average, count_over
from jaxnorm.norms.core.named_axes import NamedAxes, across


class FeatureGroups(NamedTuple):
    """Neighboring features that share statistics."""

    axis: int
    """The feature axis. It is not one of the reduced axes."""
    size: int
    """The number of features in a group."""


class Reduction(NamedTuple):
    """The elements that share a statistic: all elements along some axes, on all members of the named axes.

    A statistic has only the other axes: keeping size-one axes would prevent XLA's CPU compiler from fusing the passes
    over the data. We sum over the positions first and over the features of a group afterwards, so that neighboring
    features stay contiguous in the long loops.
    """

    axes: tuple[int, ...]
    axis_name: NamedAxes | None = None
    leading: int | None = None
    """Measure only this many leading coordinates of the (single) axis; None means all."""
    groups: FeatureGroups | None = None

    def sums(self, *data: Array) -> tuple[Array, ...]:
        """Sums each of several arrays, with a single collective over devices for all of them."""
        own = tuple(self._add_members(jnp.sum(self._first(each), axis=self.axes)) for each in data)
        return across(own, self.axis_name)

    def means(self, count: Array, *data: Array) -> list[Array]:
        """Divides the sums by a count, or by one where the count is zero; with a single collective for all of them."""
        return [average(total, count) for total in self.sums(*data)]

    def count_and_sum(self, where: Array | None, data: Array) -> tuple[Array, Array]:
        """The number of elements in each sum, with size one along axes where it does not vary, and the sum itself."""
        if where is not None:
            where = self._first(where)
        own = jnp.squeeze(count_over(self._first(data), where, self.axes, None), self.axes)
        total = self._add_members(jnp.sum(self._first(data), axis=self.axes))
        count, total = across((self._add_members(own), total), self.axis_name)
        return count, total

    def broadcast(self, statistic: Array) -> Array:
        """Gives a statistic as many axes as the data, so that it broadcasts against them."""
        if self.groups is not None and statistic.shape[self._feature] != 1:
            # We avoid jnp.repeat, because it rejects features that are sharded over a mesh with explicit axes.
            before, groups, after = self._split(statistic.shape)
            repeated = jnp.broadcast_to(
                jnp.expand_dims(statistic, self._feature + 1), (*before, groups, self.groups.size, *after)
            )
            statistic = repeated.reshape(*before, groups * self.groups.size, *after)
        return jnp.expand_dims(statistic, self.axes)

    def is_row(self, ndim: int) -> bool:
        """Whether it takes the last axes of data with so many axes, whole and on one device."""
        last = tuple(range(ndim - len(self.axes), ndim))
        return self.axes == last and (self.axis_name, self.leading, self.groups) == (None, None, None)

    @property
    def _feature(self) -> int:
        """The feature axis, or group axis, of a statistic."""
        groups = cast(FeatureGroups, self.groups)  # only asked for where there are groups
        return groups.axis - sum(a < groups.axis for a in self.axes)

    def _first(self, data: Array) -> Array:
        """Slices the coordinates to measure."""
        if self.leading is None or data.shape[self.axes[0]] == 1:
            return data
        return lax.slice_in_dim(data, 0, self.leading, axis=self.axes[0])

    def _add_members(self, sums: Array) -> Array:
        """Sums over the features of each group; if a sum does not vary over features, multiplies it by their number."""
        if self.groups is None:
            return sums
        axis, size = self._feature, self.groups.size
        if sums.shape[axis] == 1:
            return sums * jnp.asarray(size, sums.dtype)
        before, features, after = self._split(sums.shape)
        return jnp.sum(sums.reshape(*before, features // size, size, *after), axis=axis + 1)

    def _split(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
        """Splits a shape at the feature (or group) axis: the shape before it, its size, and the shape after it."""
        return shape[: self._feature], shape[self._feature], shape[self._feature + 1 :]
