"""What every weight normalizer offers, and which axes of a kernel belong to one output unit.

A weight normalizer makes the kernel that a layer multiplies by out of the weights that are trained. It runs once a
sequence, before the loop: ``params._replace(recurrent=spec(weights, state))``. The layer or cell knows nothing of it.
"""

import dataclasses
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax.numpy as jnp

from jaxnorm import _objects, _validate
from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, Axis, DTypeLike, Float, PRNGKeyArray, PyTree, Shaped
from jaxnorm.norms import base as norms_base
from jaxnorm.norms.core.moments import apply_affine

State: TypeAlias = PyTree
"""What a weight normalizer keeps beside its trained weights; ``()`` for most."""

Key: TypeAlias = PRNGKeyArray | Shaped[Array, "2"]


class KernelParams(NamedTuple):
    """The trained weights behind a normalized kernel: v of the papers, and the scale g (None where there is none)."""

    kernel: Float[Array, "..."]
    scale: Float[Array, "..."] | None = None


@runtime_checkable
class WeightNormalizer(Protocol):
    """The protocol of all weight normalizers; the arity is the same for all, so no caller branches on the kind.

    Three pure methods: ``init`` takes a kernel apart, a call puts it together, ``advance`` brings the state up to date.
    In training: ``state = spec.advance(params, state)``, then ``kernel = spec(params, state)``. In inference only the
    latter. Only ``params`` are differentiated and trained.
    """

    def init(self, kernel: Float[Array, "..."], key: Key | None = None) -> tuple[KernelParams, State]:
        """Weights and state that begin with the given kernel; ``key`` where the state is random."""
        ...

    def advance(self, params: KernelParams, state: State) -> State:
        """The state of the next training step; the same one where nothing is kept or what is kept is fixed."""
        ...

    def __call__(self, params: KernelParams, state: State = ()) -> Float[Array, "..."]:
        """The kernel that the layer multiplies by, in the shape and dtype of ``params.kernel``."""
        ...


def check_weight_normalizer(caller: str, name: str, value: Any) -> None:
    """Raises TypeError, which says what came instead, unless ``value`` is a weight normalizer."""
    _objects.require(caller, name, value, WeightNormalizer, _objects.WEIGHT_NORMALIZER)


class FixedState:
    """The training of weight normalizers whose state, if they have any, never changes."""

    def advance(self, params: KernelParams, state: State) -> State:
        """The state as it is."""
        return state


def unit_axes(caller: str, kernel: Array, axis: Axis | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    r"""The axes over which the inputs of one output unit lie, and the axes along which the units lie.

    None stands for all but the last axis, that of the units: in (I, O) and in kernels of images, (\*window, I, O). A
    vector is one unit. Three axes may be those of gates (I, G, H), of a one-dimensional convolution (k, I, O) or of
    attention, in either order, so they are refused.
    """
    _validate.floating(caller, "kernel", kernel)
    if axis is None:
        if kernel.ndim in (0, 3):
            raise ValueError(f"{caller}: {_refusal(kernel)}")
        axis = tuple(range(max(1, kernel.ndim - 1)))
    inputs = _validate.axes(caller, axis, kernel.ndim)
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
    """Whether a weight normalizer has an axis that nobody has named."""
    return getattr(spec, "axis", ()) is None


def with_axis(spec: WeightNormalizer, axis: Axis) -> WeightNormalizer:
    """The same weight normalizer with this axis, if it leaves it open."""
    if not axis_is_open(spec):
        return spec
    given: Any = spec
    settled: WeightNormalizer = dataclasses.replace(given, axis=axis)
    return settled


def settle_axis(caller: str, axis: Axis | None) -> Axis | None:
    """A hashable axis for a spec."""
    return None if axis is None else norms_base.normalize_axis(caller, axis)


def rescale(caller: str, unit: Array, scale: Array | None, units: tuple[int, ...], dtype: DTypeLike) -> Array:
    """``scale * unit``, cast; the scale lies along the axes of the units, or along the last of them, or is a scalar."""
    return apply_affine(caller, unit, scale, None, units).astype(jnp.dtype(dtype))


def kernel_params(params: Any, caller: str) -> KernelParams:
    """Checks that the weights handed to a spec are the NamedTuple that its ``init`` makes."""
    if not isinstance(params, KernelParams):
        raise TypeError(
            f"{caller}: params must be KernelParams(kernel, scale) as made by init(kernel), got "
            f"{_objects.describe(params)}. {_objects.restore(params, 'params', 'KernelParams', 'spec.init(kernel)[0]')}"
        )
    return params


def state_of(state: Any, kind: type, caller: str) -> Any:
    """Checks that the state handed to a spec is the NamedTuple that its ``init`` makes."""
    if not isinstance(state, kind):
        raise TypeError(
            f"{caller}: state must be the {kind.__name__} that init(kernel) returns beside the weights, got "
            f"{_objects.describe(state)}. "
            f"{_objects.restore(state, 'state', kind.__name__, 'spec.init(kernel, key)[1]')}"
        )
    return state
