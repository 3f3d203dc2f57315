"""The protocol of normalizer specs, and the affine parameters that most of them have.

A spec is a frozen, hashable dataclass of hyper-parameters. Its parameters are a plain NamedTuple of arrays. Its methods
are pure, and call a plain function of arrays.
"""

from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import jax.numpy as jnp

from jaxnorm import _objects, _validate
from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, Axis, Bool, DTypeLike, Float, PyTree

Params: TypeAlias = PyTree
"""The parameters of a normalizer: :class:`Affine`, or ``()`` if it has none."""

Stats: TypeAlias = PyTree
"""Statistics that outlive a call: :class:`Moments` for batch statistics, ``()`` if there are none."""


class Affine(NamedTuple):
    """Scale (gain) and bias (shift) after a normalization; None if the spec does not use one."""

    scale: Float[Array, "..."] | None
    bias: Float[Array, "..."] | None


@runtime_checkable
class Normalizer(Protocol):
    """The protocol of all normalizers. All have the same signatures, so that no caller has to branch on the kind."""

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of scale, bias and running statistics for data of the given shape."""
        ...

    def init(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Params:
        """Fresh parameters for features of the given shape (see :meth:`param_shape`)."""
        ...

    def initial_stats(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Stats:
        """Running statistics before any data: mean 0, variance 1, count 0; or ``()``.

        They keep their dtype when they are updated, whatever the dtype of the data. For more digits pass float64.
        """
        ...

    def __call__(
        self,
        params: Params,
        x: Float[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Normalizes ``x`` with the given statistics, or, if ``stats`` is None, with statistics measured from ``x``.

        The second result holds the statistics it measured (or used); ``()`` for normalizers without running statistics.
        """
        ...

    def train(
        self,
        params: Params,
        x: Float[Array, "..."],
        running: Stats,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Normalizes in training; returns the output and the measured statistics.

        For most normalizers this is ``self(params, x, None, where)``. Some, such as batch renormalization, use the
        running statistics in training too.
        """
        ...

    def update_running(self, running: Stats, measured: Stats) -> Stats:
        """Updates running statistics with the measured ones of a call, by the rule of the spec."""
        ...

    def check_site(self, caller: str) -> None:
        """Raises ValueError unless the normalizer works on one trailing feature axis, as the sites of a cell need."""
        ...


def check_normalizer(caller: str, name: str, value: Any) -> None:
    """Raises TypeError, and says what it got, unless ``value`` is a normalizer."""
    _objects.require(caller, name, value, Normalizer, _objects.NORMALIZER)


def check_data(caller: str, name: str, x: Any, mask: Any) -> None:
    """Checks the arguments of a Flax module, by their Flax names: data, and a mask that broadcasts to them."""
    _validate.floating(caller, name, x)
    if mask is not None:
        _validate.boolean(caller, "mask", mask)
        _validate.broadcastable(caller, "mask", jnp.shape(mask), x.shape)


def init_affine(
    shape: tuple[int, ...],
    dtype: DTypeLike,
    scale_init: float | None,
    bias_init: float | None,
    *,
    caller: str = "init",
) -> Affine:
    """Fills affine parameters with the given values; None omits one."""

    def full(name: str, value: float | None) -> Array | None:
        return None if value is None else jnp.full(shape, _validate.start_value(caller, name, value), dtype)

    return Affine(full("scale_init", scale_init), full("bias_init", bias_init))


Weights = TypeVar("Weights")


def weights_of(params: Any, kind: type[Weights], caller: str) -> Weights:
    """Checks that parameters passed to a spec are the NamedTuple that its ``init`` makes."""
    if not isinstance(params, kind):
        fields = ", ".join(kind._fields)  # type: ignore[attr-defined]  # a NamedTuple
        raise TypeError(
            f"{caller}: params must be {kind.__name__}({fields}) as made by init(shape), got "
            f"{_objects.describe(params)}. {_objects.restore(params, 'params', kind.__name__, 'norm.init(shape)')}"
        )
    return params


def affine_of(params: Any, caller: str) -> Affine:
    """Checks the parameters of a spec that has only scale and bias."""
    return weights_of(params, Affine, caller)


class HasAffine:
    """Parameters for specs with the fields ``use_scale``, ``use_bias``, ``scale_init`` and ``bias_init``."""

    def init(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Affine:
        """``Affine(scale, bias)`` of the given shape."""
        spec: Any = self
        return init_affine(
            shape,
            dtype,
            spec.scale_init if spec.use_scale else None,
            spec.bias_init if spec.use_bias else None,
            caller=type(self).__name__,
        )


class HasFeatureAxis(HasAffine):
    """Parameters and checks for specs with a field ``feature_axis``, and perhaps ``num_groups`` or ``axis``."""

    def __post_init__(self) -> None:
        spec: Any = self
        name = type(self).__name__
        if hasattr(spec, "num_groups"):
            _validate.positive_int(name, "num_groups", spec.num_groups)
        if getattr(spec, "axis", None) is not None:
            object.__setattr__(self, "axis", normalize_axis(name, spec.axis))
        if hasattr(spec, "epsilon"):
            _validate.epsilon(name, spec.epsilon)

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The length of the feature axis. A parameter shared by all features is a scalar instead."""
        spec: Any = self
        return shape_along(type(self).__name__, shape, spec.feature_axis)


class TrainsByMeasuring:
    """``train`` for normalizers that measure their input and do not need running statistics in training."""

    subtracts_feature_mean = False
    adds_bias_last = False
    reuses_moments = False

    def without_mean(self) -> Any:
        return self

    def train(
        self,
        params: Params,
        x: Float[Array, "..."],
        running: Stats,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """``self(params, x, None, where)``: the running statistics are for inference only."""
        trained: tuple[Array, Stats] = self(params, x, None, where)  # type: ignore[operator]  # it is a Normalizer
        return trained


class Stateless(TrainsByMeasuring):
    """The statistics methods of all normalizers without running statistics."""

    def initial_stats(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Stats:
        """No running statistics: ``()``."""
        return ()

    def update_running(self, running: Stats, measured: Stats) -> Stats:
        """Nothing to update: ``()``."""
        return ()


def normalize_axis(caller: str, axis: Axis) -> Axis:
    """Makes an axis hashable for a spec: an int or a tuple of ints."""
    if isinstance(axis, list):
        axis = tuple(axis)
    entries = axis if isinstance(axis, tuple) else (axis,)
    if not entries or not all(isinstance(a, int) and not isinstance(a, bool) for a in entries):
        raise TypeError(f"{caller}: axis must be an int or a non-empty tuple of ints, got {axis!r}.")
    return axis


def check_last_axis(caller: str, spec: object, axis: Axis | None) -> None:
    """The site check of normalizers that reduce features: raises ValueError unless ``axis`` is the last axis."""
    if axis not in (-1, (-1,)):
        raise ValueError(
            f"{caller}: {spec!r} cannot be used inside a cell, where a normalizer sees features on one last axis and "
            "any number of batch axes before it. Use axis=-1."
        )


def shape_along(caller: str, shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """The part of a shape along the given axes."""
    return tuple(shape[a] for a in _validate.axes(caller, axis, len(shape)))


def position_axes(
    caller: str, shape: tuple[int, ...], axis: Axis | None, feature_axis: int
) -> tuple[tuple[int, ...], int]:
    """Returns the position axes (by default all but the first and the feature axis) and the feature axis."""
    (feature,) = _validate.axes(caller, feature_axis, len(shape))
    if axis is None:
        axes = tuple(a for a in range(1, len(shape)) if a != feature)
    else:
        axes = _validate.axes(caller, axis, len(shape))
    if feature in axes or not axes:
        raise ValueError(
            f"{caller}: axis={axis} of x with shape {shape} must name at least one position axis and not "
            f"feature_axis={feature_axis}. Pass the axes of height and width, or of time."
        )
    return axes, feature


def refuse_positions(caller: str, spec: object) -> None:
    """The site check of normalizers over positions: raises ValueError, since one step has no positions."""
    raise ValueError(
        f"{caller}: {spec!r} cannot be used inside a cell: one step has no positions to take statistics over. "
        "Use LayerNorm or GroupNorm(axis=-1)."
    )


def group_axes(
    caller: str, shape: tuple[int, ...], num_groups: int, axis: Axis | None, feature_axis: int
) -> tuple[tuple[int, ...], int]:
    """Returns the axes that a group reduces (by default all but the first, or the only one) and the feature axis."""
    groups = _validate.positive_int(caller, "num_groups", num_groups)
    axes = (
        tuple(range(min(1, len(shape) - 1), len(shape))) if axis is None else _validate.axes(caller, axis, len(shape))
    )
    (feature,) = _validate.axes(caller, feature_axis, len(shape))
    if feature not in axes:
        raise ValueError(
            f"{caller}: axis={axis} must contain feature_axis={feature_axis}, since statistics run over the "
            "features of a group. Add it to axis."
        )
    if shape[feature] % groups:
        raise ValueError(
            f"{caller}: num_groups={groups} must divide the number of features F = {shape[feature]} "
            f"(axis {feature_axis} of x with shape {shape}). Choose a divisor of F."
        )
    return axes, feature


def split_groups(array: Array, groups: int, feature: int) -> Array:
    """Splits the feature axis into (group, member). A mask that does not vary over features gets size 1 for both."""
    size = array.shape[feature]
    parts = (groups, size // groups) if size % groups == 0 else (1, 1)
    return array.reshape(array.shape[:feature] + parts + array.shape[feature + 1 :])


def in_groups(
    x: Array, where: Array | None, groups: int, axes: tuple[int, ...], feature: int
) -> tuple[Array, Array | None, tuple[int, ...]]:
    """Splits the feature axis of data and mask; also returns the new reduced axes, without the group axis."""
    # The member axis follows the group axis, so every axis from the feature axis on moves by one.
    split_axes = tuple(a if a < feature else a + 1 for a in axes)
    mask = None if where is None else split_groups(where, groups, feature)
    return split_groups(x, groups, feature), mask, split_axes


def check_running_rule(caller: str, momentum: float | None, ddof: int) -> None:
    """Raises ValueError unless momentum (None for an exact average) and ddof are valid for running statistics."""
    if momentum is not None:
        _validate.in_range(caller, "momentum", momentum, 0.0, 1.0)
    if ddof not in (0, 1):
        raise ValueError(f"{caller}: ddof must be 0 or 1, got {ddof!r}.")
