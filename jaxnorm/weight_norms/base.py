"""The protocol of weight normalizers, and which axes of a kernel hold the inputs of one output unit.

A weight normalizer computes the kernel of a layer from trained parameters. It runs once per sequence, before the loop:
``params._replace(recurrent=spec(weights, state))``. The layer or cell does not know about it.
"""

import dataclasses
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import jax.numpy as jnp

from jaxnorm._base import norm_keywords, objects, validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Axis, DTypeLike, Float, PRNGKeyArray, PyTree, Shaped
from jaxnorm.norms.core.axes import hashable_axis
from jaxnorm.norms.core.moments import apply_affine
from jaxnorm.norms.core.spec import Spec, keywords_of, parameters

State: TypeAlias = PyTree
"""The state that a weight normalizer keeps besides its trained parameters; ``()`` for most."""

Key: TypeAlias = PRNGKeyArray | Shaped[Array, "2"]


class KernelParams(NamedTuple):
    """The trained parameters of a normalized kernel: v of the papers, and the scale g (None if there is none)."""

    kernel: Float[Array, "..."]
    scale: Float[Array, "..."] | None = None


@runtime_checkable
class WeightNormalizer(Protocol):
    """The protocol of all weight normalizers. All have the same signatures, so that no caller branches on the kind.

    It has three pure methods: ``init`` splits a kernel into parameters and state, a call computes the kernel from them,
    and ``advance`` updates the state. In training, call ``state = spec.advance(params, state)``, then
    ``kernel = spec(params, state)``. In inference, call only the latter. Differentiate and train only ``params``.
    """

    def init(self, kernel: Float[Array, "..."], key: Key | None = None) -> tuple[KernelParams, State]:
        """Parameters and state that reproduce the given kernel; pass ``key`` if the state is random."""
        ...

    def advance(self, params: KernelParams, state: State) -> State:
        """The state of the next training step; unchanged if there is no state or it is fixed."""
        ...

    def __call__(self, params: KernelParams, state: State = ()) -> Float[Array, "..."]:
        """The kernel that the layer multiplies by, with the shape and dtype of ``params.kernel``."""
        ...


def check_weight_normalizer(caller: str, name: str, value: Any) -> None:
    """Raises TypeError, and says what it got, unless ``value`` is a weight normalizer."""
    objects.require(caller, name, value, WeightNormalizer, objects.WEIGHT_NORMALIZER)


class FixedState:
    """``advance`` for weight normalizers without state, or whose state never changes."""

    def advance(self, params: KernelParams, state: State) -> State:
        """Returns the state unchanged."""
        return state


class KernelSpec(Spec, abstract=True):
    """A weight normalizer that is made of a function ``function(kernel, *, fields)``, perhaps with a ``scale``."""

    keyword_advice = norm_keywords.KERNELS

    takes_single_weights: ClassVar[bool] = False
    """Whether a unit may be a single weight, ``axis=()``: something of its kernel has to be left."""

    def __post_init__(self) -> None:
        spec: Any = self
        name = type(self).__name__
        if spec.axis is not None:
            axis = hashable_axis(name, "axis", spec.axis, may_be_empty=self.takes_single_weights)
            object.__setattr__(self, "axis", axis)
        if hasattr(spec, "epsilon"):
            validate.epsilon(name, spec.epsilon)

    def init(self, kernel: Float[Array, "..."], key: Key | None = None) -> tuple[KernelParams, State]:
        """Returns the kernel unchanged; there is no state."""
        spec: Any = self
        unit_axes(f"{type(self).__name__}.init", kernel, spec.axis)
        return KernelParams(kernel), ()

    def __call__(self, params: KernelParams, state: State = ()) -> Float[Array, "..."]:
        """Applies the function of the spec to the kernel, and to the scale if the function has one."""
        weights = kernel_params(params, type(self).__name__)._asdict()
        kernel = weights.pop("kernel")
        used = {name: weight for name, weight in weights.items() if name in parameters(self.function)}
        made: Array = self.function(kernel, **used, **keywords_of(self, self.function))
        return made


def unit_axes(caller: str, kernel: Array, axis: Axis | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    r"""Returns the axes of one output unit's inputs, and the axes of the units.

    By default the units have the last axis, as in (I, O) and in convolution kernels (\*window, I, O). A vector is one
    unit. A kernel with three axes is ambiguous: it may belong to gates (I, G, H), to a one-dimensional convolution
    (k, I, O) or to attention (either order). So it needs an explicit axis.
    """
    validate.floating(caller, "kernel", kernel)
    if axis is None:
        if kernel.ndim in (0, 3):
            raise ValueError(f"{caller}: {_refusal(kernel)}")
        axis = tuple(range(max(1, kernel.ndim - 1)))
    inputs = validate.axes(caller, axis, kernel.ndim)
    return inputs, tuple(a for a in range(kernel.ndim) if a not in inputs)


def _refusal(kernel: Array) -> str:
    if kernel.ndim == 0:
        return "kernel must have at least one axis, got a scalar. Pass the kernel of a layer."
    return (
        f"kernel has three axes, {tuple(kernel.shape)}, which do not say where the inputs of an output unit lie. Name "
        "them: axis=0 for gates (I, G, H) and for heads (I, heads, features), axis=(0, 1) for a one-dimensional "
        "convolution (k, I, O) and for heads that are joined (heads, features, O)."
    )


def axis_is_open(spec: WeightNormalizer) -> bool:
    """Whether a weight normalizer has an ``axis`` field that is still None."""
    return getattr(spec, "axis", ()) is None


def with_axis(spec: WeightNormalizer, axis: Axis) -> WeightNormalizer:
    """Sets the axis of a weight normalizer if it is still None."""
    if not axis_is_open(spec):
        return spec
    given: Any = spec
    settled: WeightNormalizer = dataclasses.replace(given, axis=axis)
    return settled


def rescale(caller: str, unit: Array, scale: Array | None, units: tuple[int, ...], dtype: DTypeLike) -> Array:
    """``scale * unit``, cast to ``dtype``; the scale has the axes of the units, or the last of them, or none."""
    return apply_affine(caller, unit, scale, None, units).astype(jnp.dtype(dtype))


def kernel_params(params: Any, caller: str) -> KernelParams:
    """Checks that parameters passed to a spec are the NamedTuple that its ``init`` makes."""
    if not isinstance(params, KernelParams):
        raise TypeError(
            f"{caller}: params must be KernelParams(kernel, scale) as made by init(kernel), got "
            f"{objects.describe(params)}. {objects.restore(params, 'params', 'KernelParams', 'spec.init(kernel)[0]')}"
        )
    return params


def state_of(state: Any, kind: type, caller: str) -> Any:
    """Checks that the state passed to a spec is the NamedTuple that its ``init`` makes."""
    if not isinstance(state, kind):
        raise TypeError(
            f"{caller}: state must be the {kind.__name__} that init(kernel) returns beside the weights, got "
            f"{objects.describe(state)}. "
            f"{objects.restore(state, 'state', kind.__name__, 'spec.init(kernel, key)[1]')}"
        )
    return state
