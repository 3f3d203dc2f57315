"""The bases of normalizer specs: the call, the weights, the checks, and the fields that many of them share."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp

from jaxnorm._base import norm_keywords, validate
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.starts import check_start, filled
from jaxnorm._base.typing import Array, Axis, AxisIndexGroups, AxisName, Bool, DTypeLike, Float, Initializer, Real
from jaxnorm.norms.base import Affine, Key, Normalizer, Params, Stateless, Stats, weights_of
from jaxnorm.norms.core import axes
from jaxnorm.norms.core.named_axes import check_index_groups
from jaxnorm.norms.core.spec import DEFAULT, Spec, keywords_of, parameters

Result = TypeVar("Result")


class NormSpec(Spec, abstract=True):
    """A normalizer that is made of a function ``function(x, weights, *, fields, where)``.

    The function returns the output, or, if it has a keyword for statistics, the output and the statistics.
    """

    keyword_advice = norm_keywords.SPECS
    passed: ClassVar[tuple[str, ...]] = ("where", "moments")
    statistics: ClassVar[str] = "moments"
    """The function's keyword for statistics; None there measures them."""
    params_type: ClassVar[type[Any]] = Affine
    """The NamedTuple of the weights. The function has them as parameters of the same names."""
    scalars: ClassVar[tuple[str, ...]] = ()
    """Weights that are a single number, for all features."""
    adds_bias_last: ClassVar[bool] = False

    def __post_init__(self) -> None:
        name = type(self).__name__
        for field in dataclasses.fields(self):
            if field.name in _CHECKS:
                value = _CHECKS[field.name](name, field.name, getattr(self, field.name))
                object.__setattr__(self, field.name, value)
            elif field.name.endswith("_init") and (start := getattr(self, field.name)) is not None:
                check_start(name, field.name, start)
                weight = field.name.removesuffix("_init")
                if not getattr(self, f"use_{weight}", True) and start != field.default:
                    raise ValueError(
                        f"{name}: {field.name} is where the {weight} starts, but use_{weight} is False. Leave it out."
                    )

    def init(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32, *, key: Key | None = None) -> Params:
        """Fresh weights for features of the given shape, each None if the spec does not use it.

        Initializers draw from ``key``; without one, from ``jax.random.key(0)``. Pass a key to normalizers that draw,
        so that no two of them start with the same numbers. Cells and Flax modules do.
        """
        if key is not None:
            validate.key(f"{type(self).__name__}.init", "key", key)
        names = self.params_type._fields
        return self.params_type(*(self._fresh(name, shape, dtype, key, k) for k, name in enumerate(names)))

    def _fresh(self, name: str, shape: tuple[int, ...], dtype: DTypeLike, key: Key | None, stream: int) -> Array | None:
        if not getattr(self, f"use_{name}", hasattr(self, f"{name}_init")):
            return None
        value, shape = self.initial_value(name, shape), () if name in self.scalars else shape
        if not callable(value):
            return jnp.full(shape, value, dtype)
        own = jax.random.fold_in(jax.random.key(0) if key is None else key, stream)
        return filled(value, own, shape, dtype, f"{type(self).__name__}.init: {name}_init")

    def initial_value(self, name: str, shape: tuple[int, ...]) -> float | Initializer:
        """The initial value of a weight for features of the given shape: the field with ``_init`` in its name."""
        value: float | Initializer = getattr(self, f"{name}_init")
        return value

    @answers_keywords(norm_keywords.CALLS)
    def __call__(
        self,
        params: Params,
        x: Real[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Applies the function of the spec; returns the output, and the measured (or given) statistics, if any."""
        if self.statistics not in parameters(self.function):
            return self.apply(self.function, params, x, where=where), ()
        result: tuple[Array, Stats] = self.apply(self.function, params, x, where=where, **{self.statistics: stats})
        return result

    def apply(self, function: Callable[..., Result], params: Params, x: Array, **passed: Any) -> Result:
        """Calls a function with the weights and the fields that it has as parameters, and with ``passed``."""
        caller, known = type(self).__name__, parameters(function)
        weights = weights_of(params, self.params_type, caller)._asdict()
        for name in weights.keys() - known:
            if weights[name] is not None:
                raise ValueError(
                    f"{caller}: params.{name} must be None, got an array of shape {jnp.shape(weights[name])}. "
                    f"{function.__name__} has no {name}; take the weights from init(shape)."
                )
        used = {name: weight for name, weight in weights.items() if name in known}
        return function(x, **{**keywords_of(self, function), **used, **passed})

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the data along ``axis`` (the last axis, if there is no such field)."""
        return axes.shape_along(type(self).__name__, shape, getattr(self, "axis", -1))

    def check_site(self, caller: str) -> None:
        """Accepts only ``axis=-1``: the features that a cell shows to a normalizer."""
        if getattr(self, "axis", -1) not in (-1, (-1,)) or getattr(self, "feature_axis", -1) not in (None, -1, (-1,)):
            raise ValueError(
                f"{caller}: {self!r} cannot be used inside a cell, where a normalizer sees features on one last axis "
                "and any number of batch axes before it. Use axis=-1."
            )

    @property
    def subtracts_feature_mean(self) -> bool:
        """False: the normalizer makes no promise about the mean over the last axis."""
        return False

    def without_mean(self) -> Normalizer:
        """The normalizer itself, which promises to subtract no mean."""
        itself: Any = self
        normalizer: Normalizer = itself
        return normalizer

    def over_gates(self) -> Normalizer | None:
        """The normalizer of features (G, H) instead of (G*H,); None: it depends on their order, or does not say."""
        return None


class HasAffine(NormSpec, abstract=True):
    """The fields of scale and bias.

    Attributes:
      use_scale: whether there is a scale.
      use_bias: whether there is a bias.
      scale_init: initial value of the scale, a number or an initializer, such as ``jax.nn.initializers.normal()``.
      bias_init: initial value of the bias, a number or an initializer.
    """

    use_scale: bool = True
    use_bias: bool = True
    scale_init: float | Initializer = 1.0
    bias_init: float | Initializer = 0.0


class HasEpsilon(NormSpec, abstract=True):
    """The field ``epsilon``, with the default and the place in the equation that the function says."""

    epsilon: float = DEFAULT


class HasAxisName(NormSpec, abstract=True):
    """The field for devices.

    Attributes:
      axis_name: name or names of mapped axes over which the data are spread.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).
    """

    axis_name: AxisName | None = None
    axis_index_groups: AxisIndexGroups | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        known = parameters(self.function)
        if self.axis_index_groups is not None and "axis_name" in known and "axis_index_groups" not in known:
            name = getattr(self.function, "__name__", repr(self.function))
            raise ValueError(f"{type(self).__name__}: {name} has no axis_index_groups. Leave it out.")


class AffineNorm(HasEpsilon, HasAffine, HasAxisName, Stateless, abstract=True):
    """Normalizers with scale and bias, without running statistics."""


class HasFeatureAxis(NormSpec, abstract=True):
    """Normalizers whose weights have one value for each element of the feature axis."""

    feature_axis: Axis = DEFAULT

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the data along the feature axis. A parameter shared by all features is a scalar instead."""
        return axes.shape_along(type(self).__name__, shape, self.feature_axis, "feature_axis")


class RowNorm(AffineNorm, abstract=True):
    """Normalizers of rows along ``axis``, whose weights lie along ``feature_axis``, by default the same."""

    axis: Axis = DEFAULT
    feature_axis: Axis | None = DEFAULT

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the data along ``feature_axis``, or along ``axis`` where it is None."""
        _, features = axes.row_axes(type(self).__name__, len(shape), self.axis, self.feature_axis)
        return tuple(shape[a] for a in features)


def refuse_positions(caller: str, spec: object) -> None:
    """The site check of normalizers over positions: raises ValueError, since one step has no positions."""
    raise ValueError(
        f"{caller}: {spec!r} cannot be used inside a cell: one step has no positions to take statistics over. "
        "Use LayerNorm or GroupNorm(axis=-1)."
    )


def _axis(caller: str, name: str, value: Any) -> Any:
    return None if value is None else axes.hashable_axis(caller, name, value)


def _axis_name(caller: str, name: str, value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _axis_index_groups(caller: str, name: str, value: Any) -> Any:
    return None if value is None else check_index_groups(caller, value)


def _epsilon(caller: str, name: str, value: Any) -> Any:
    validate.epsilon(caller, value)
    return value


def _momentum(caller: str, name: str, value: Any) -> Any:
    if value is not None:
        validate.in_range(caller, name, value, 0.0, 1.0)
    return value


def _ddof(caller: str, name: str, value: Any) -> Any:
    if value not in (0, 1):
        raise ValueError(f"{caller}: {name} must be 0 or 1, got {value!r}.")
    return value


def _mean(caller: str, name: str, value: Any) -> Any:
    validate.in_range(caller, name, value, -math.inf, math.inf)
    return value


def _variance(caller: str, name: str, value: Any) -> Any:
    validate.in_range(caller, name, value, 0.0, math.inf)
    return value


_CHECKS: Mapping[str, Callable[[str, str, Any], Any]] = {
    "axis": _axis,
    "feature_axis": _axis,
    "position_axis": _axis,
    "axis_name": _axis_name,
    "axis_index_groups": _axis_index_groups,
    "epsilon": _epsilon,
    "momentum": _momentum,
    "ddof": _ddof,
    "mean_init": _mean,
    "var_init": _variance,
}
"""The checks of fields that mean the same in every spec; each returns the value that the spec keeps."""
