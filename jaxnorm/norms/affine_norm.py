"""The bases of normalizer specs: the call, the weights, the checks, and the fields that many of them share."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, AxisName, Bool, DTypeLike, Float, Real
from jaxnorm.norms.base import Affine, Normalizer, Params, Stateless, Stats, weights_of
from jaxnorm.norms.core import axes
from jaxnorm.norms.core.spec import DEFAULT, Spec, keywords_of, parameters

Result = TypeVar("Result")


class NormSpec(Spec, abstract=True):
    """A normalizer that is made of a function ``function(x, weights, *, fields, where)``.

    The function returns the output, or, if it has a keyword for statistics, the output and the statistics.
    """

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

    def init(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Params:
        """Fresh weights for features of the given shape, each None if the spec does not use it."""
        return self.params_type(*(self._fresh(name, shape, dtype) for name in self.params_type._fields))

    def _fresh(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Array | None:
        if not getattr(self, f"use_{name}", hasattr(self, f"{name}_init")):
            return None
        value = validate.start_value(type(self).__name__, f"{name}_init", self.initial_value(name, shape))
        return jnp.full(() if name in self.scalars else shape, value, dtype)

    def initial_value(self, name: str, shape: tuple[int, ...]) -> float:
        """The initial value of a weight for features of the given shape: the field with ``_init`` in its name."""
        value: float = getattr(self, f"{name}_init")
        return value

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
        if getattr(self, "axis", -1) not in (-1, (-1,)):
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


class HasAffine(NormSpec, abstract=True):
    """The fields of scale and bias.

    Attributes:
      use_scale: whether there is a scale.
      use_bias: whether there is a bias.
      scale_init: initial value of the scale.
      bias_init: initial value of the bias.
    """

    use_scale: bool = True
    use_bias: bool = True
    scale_init: float = 1.0
    bias_init: float = 0.0


class HasEpsilon(NormSpec, abstract=True):
    """The field ``epsilon``, with the default and the place in the equation that the function says."""

    epsilon: float = DEFAULT


class HasAxisName(NormSpec, abstract=True):
    """The field for devices.

    Attributes:
      axis_name: name or names of mapped axes over which the data are spread.
    """

    axis_name: AxisName | None = None


class AffineNorm(HasEpsilon, HasAffine, HasAxisName, Stateless, abstract=True):
    """Normalizers with scale and bias, without running statistics."""


class HasFeatureAxis(NormSpec, abstract=True):
    """Normalizers whose weights have one value for each element of the feature axis."""

    feature_axis: int = DEFAULT

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The length of the feature axis. A parameter shared by all features is a scalar instead."""
        return axes.shape_along(type(self).__name__, shape, self.feature_axis)


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


_CHECKS: Mapping[str, Callable[[str, str, Any], Any]] = {
    "axis": _axis,
    "position_axis": _axis,
    "axis_name": _axis_name,
    "num_groups": validate.positive_int,
    "epsilon": _epsilon,
    "momentum": _momentum,
    "ddof": _ddof,
}
"""The checks of fields that mean the same in every spec; each returns the value that the spec keeps."""
