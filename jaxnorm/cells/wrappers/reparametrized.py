"""Any cell with normalized kernels: a weight normalizer computes them once a sequence, before the loop."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias, cast, final

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jaxnorm._base import foreign_keywords, objects, validate
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, DTypeLike
from jaxnorm.cells import carries
from jaxnorm.cells.base import Carry, Key, Weights
from jaxnorm.cells.hooks import GateMasks, hooks
from jaxnorm.cells.wrappers.base import CellWrapper
from jaxnorm.weight_norms.base import (
    FixedState,
    KernelParams,
    WeightNormalizer,
    axis_is_open,
    check_weight_normalizer,
    with_axis,
)

Named: TypeAlias = tuple[tuple[str, WeightNormalizer], ...]


class ReparametrizedParams(NamedTuple):
    """The weights of a :class:`Reparametrized` cell."""

    cell: Any
    """The weights of the cell, with the papers' v in place of each normalized kernel."""
    scale: dict[str, Array]
    """The scales g, one number for each unit, flat as all vectors are; keyed by the name of their kernel."""
    state: dict[str, Any]
    """Constants set by ``init`` (rho of bounded weight normalization), keyed by kernel name; their gradient is zero."""

    @property
    def kernel(self) -> Array:
        """The input kernel as the optimizer sees it."""
        return cast(Array, self.cell.kernel)


@final
@dataclasses.dataclass(frozen=True)
class Reparametrized(CellWrapper):
    """Wraps a cell and computes its kernels from trained ones, by a weight normalizer.

    ``prepare`` normalizes once a sequence; the loop runs the inner cell. ``Reparametrized`` of ``jaxnorm.linen`` and
    ``jaxnorm.nnx`` wraps any Flax module. This one is a cell like any other, in plain JAX too.

    Attributes:
      cell: the inner cell.
      kernels: a weight normalizer for ``kernel`` and ``recurrent``, or several keyed by the name of a weight of the
        cell, ``{"recurrent": WeightNorm()}``. A normalizer without ``axis`` gets the axis of the inputs, which the cell
        declares (``cell.kernel_axes``).

    Raises:
      TypeError: ``cell`` is not a cell, or a weight normalizer is not one.
      ValueError: the state of a weight normalizer changes in training, or ``kernels`` names no weight. In ``init``: the
        normalizer has no axis and the cell does not declare one, as for the recurrent vector of :class:`IndRNN`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.Reparametrized(jaxnorm.lstm(4), {"recurrent": jaxnorm.WeightNorm()})
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jax.tree.map(jnp.shape, params.scale)
      {'recurrent': (16,)}
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 4)

    Notes:
      A constant state (rho) is part of the weights, so a checkpoint of the weights is complete. Its gradient is zero,
      and an optimizer with weight decay must exclude it, as ``jaxnorm.optim.decay_mask`` does. A state that changes (of
      spectral normalization) needs the ``Reparametrized`` of Flax, which can store it.
    """

    kernels: WeightNormalizer | Mapping[str, WeightNormalizer] | Named

    def __post_init__(self) -> None:
        super().__post_init__()
        given: Any = self.kernels
        if not isinstance(given, Mapping | tuple):
            check_weight_normalizer("Reparametrized", "kernels", given)
            given = {"kernel": given, "recurrent": given}
        named = tuple(sorted(dict(given).items()))
        if not named:
            raise ValueError('Reparametrized: kernels is empty. Name a weight: {"recurrent": WeightNorm()}.')
        for name, spec in named:
            check_weight_normalizer("Reparametrized", f"kernels[{name!r}]", spec)
            if not isinstance(spec, FixedState):
                raise ValueError(
                    f"Reparametrized: the state of {spec!r} moves in training, for which a cell has no place. Use "
                    "jaxnorm.linen.Reparametrized or jaxnorm.nnx.Reparametrized, or call it yourself before unroll."
                )
        object.__setattr__(self, "kernels", named)

    @property
    def named(self) -> Named:
        """Pairs of kernel name and weight normalizer, sorted by name."""
        return cast(Named, self.kernels)  # __post_init__ made it so

    def _at(self, name: str, spec: WeightNormalizer) -> WeightNormalizer:
        """Fills in the axis of the inputs, if the cell declares it."""
        axis = hooks(self.cell).kernel_axes.get(name)
        return spec if axis is None else with_axis(spec, axis)

    def init(self, key: Key, in_features: int) -> ReparametrizedParams:
        """Makes fresh weights of the inner cell and splits them into directions, scales and state."""
        validate.key("Reparametrized.init", "key", key)
        cell_key, kernels_key = jax.random.split(key)
        params = self.cell.init(cell_key, in_features)
        scale, state = {}, {}
        for (name, spec), one in zip(self.named, jax.random.split(kernels_key, len(self.named)), strict=True):
            if not isinstance(getattr(params, name, None), jax.Array):
                raise ValueError(
                    f"Reparametrized.init: {type(self.cell).__name__} has no weight {name!r}, only "
                    f"{getattr(params, '_fields', objects.describe(params))}."
                )
            spec = self._at(name, spec)
            if axis_is_open(spec) and getattr(params, name).ndim != 2:
                raise ValueError(
                    f"Reparametrized.init: {type(self.cell).__name__} does not say over which axes of {name!r}, which "
                    f"has shape {getattr(params, name).shape}, the inputs of a unit lie. Give {type(spec).__name__} an "
                    "axis, or name other weights."
                )
            weights, kept = spec.init(getattr(params, name), one)
            params = params._replace(**{name: weights.kernel})
            if weights.scale is not None:
                scale[name] = weights.scale.reshape(-1)
            if kept != ():
                state[name] = kept
        return ReparametrizedParams(params, scale, state)

    @answers_keywords(foreign_keywords.INITIAL_CARRY)
    def initial_carry(
        self,
        batch_shape: tuple[int, ...],
        *,
        params: ReparametrizedParams | None = None,
        key: Key | None = None,
        dtype: DTypeLike | None = None,
        out_sharding: PartitionSpec | NamedSharding | None = None,
    ) -> Carry:
        """Makes the initial carry of the inner cell; ``out_sharding`` is as in other cells."""
        if params is not None and not isinstance(params, ReparametrizedParams):
            raise TypeError(
                f"Reparametrized.initial_carry: params must be ReparametrizedParams, got {objects.describe(params)}. "
                f"{objects.restore(params, 'params', 'ReparametrizedParams', 'cell.init(key, in_features)')}"
            )
        inner = None if params is None else params.cell
        carry = self.cell.initial_carry(batch_shape, params=inner, key=key, dtype=dtype)
        return carries.spread(carry, batch_shape, out_sharding)

    def in_features(self, params: ReparametrizedParams) -> int | None:
        """I, the number of inputs that the weights are made for."""
        return super().in_features(params.cell)

    def prepare(
        self,
        params: ReparametrizedParams,
        *,
        dtype: DTypeLike | None = None,
        batch_shape: tuple[int, ...] = (),
        key: Key | None = None,
        gate_masks: GateMasks | None = None,
    ) -> Weights:
        """Computes the kernels and prepares the inner cell with them."""
        kernels = {name: self._kernel(name, spec, params) for name, spec in self.named}
        params = params.cell._replace(**kernels)
        return super().prepare(params, dtype=dtype, batch_shape=batch_shape, key=key, gate_masks=gate_masks)

    def _kernel(self, name: str, spec: WeightNormalizer, params: ReparametrizedParams) -> Array:
        spec = self._at(name, spec)
        weights, _ = jax.eval_shape(spec.init, getattr(params.cell, name))
        scale = None if weights.scale is None else params.scale[name].reshape(weights.scale.shape)
        state = jax.lax.stop_gradient(params.state.get(name, ()))
        return spec(KernelParams(getattr(params.cell, name), scale), state)
