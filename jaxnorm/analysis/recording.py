"""A cell that records its carry after each step, and takes a perturbation of its hidden state."""

import dataclasses
import math
from typing import Any, final

import jax
import jax.numpy as jnp

from jaxnorm._base.typing import Array, DType, DTypeLike
from jaxnorm.cells.base import StepInput
from jaxnorm.cells.wrappers.base import CellWrapper
from jaxnorm.norms.core.moments import statistics_dtype


@final
@dataclasses.dataclass(frozen=True)
class Recording(CellWrapper):
    """Reads a perturbation of h from the end of the inputs, and appends the carry to the outputs.

    Whatever the features of the inner cell, inputs and outputs have a single axis of them.
    """

    compute_dtype: DTypeLike
    inputs_dtype: DType
    features: tuple[int, ...]
    """The features of the inputs of the inner cell."""
    batch_axes: int
    perturbs: bool
    """Whether the inputs end with a perturbation."""

    @property
    def dtype(self) -> DTypeLike:
        """The compute dtype of the inner cell; the recorded inputs have another dtype."""
        return self.compute_dtype

    @property
    def feature_axes(self) -> int:
        """One: all features side by side."""
        return 1

    def _inner_inputs(self, xs: Array) -> Array:
        inputs = xs[..., : math.prod(self.features)].astype(self.inputs_dtype)
        return inputs.reshape(*xs.shape[:-1], *self.features)

    def project_inputs(self, weights: Any, xs: Array) -> Any:
        """Projects the inputs of the inner cell."""
        return self.cell.project_inputs(weights, self._inner_inputs(xs))

    def normalize_inputs(
        self, weights: Any, xs: Array, products: Any, stats: Any, where: Array | None, measured: Any = None
    ) -> tuple[Any, Any]:
        """Hands the perturbation on, next to what the inner cell makes."""
        inputs, perturbation = self._inner_inputs(xs), xs[..., math.prod(self.features) :]
        x_proj, moments = self.cell.normalize_inputs(weights, inputs, products, stats, where, measured)
        return (x_proj, perturbation), moments

    def step(self, weights: Any, carry: Any, t: StepInput) -> tuple[Any, Array, Any]:
        """Runs the inner step, perturbs both h and the output, and records them."""
        x_proj, perturbation = t.x_proj
        new, y, moments = self.cell.step(weights, carry, t._replace(x_proj=x_proj))
        if self.perturbs:
            perturbation = perturbation.reshape(y.shape)
            new = new._replace(h=new.h + perturbation.astype(new.h.dtype))
            y = y + perturbation.astype(y.dtype)
        flat = [leaf.reshape(*leaf.shape[: self.batch_axes], -1) for leaf in (y, *jax.tree.leaves(new))]
        return new, _side_by_side(flat), moments


def _side_by_side(parts: list[Array]) -> Array:
    """Concatenates arrays on the last axis, in a dtype that holds them all."""
    dtype = max((statistics_dtype(part.dtype) for part in parts), key=lambda dtype: dtype.itemsize)
    return jnp.concatenate([part.astype(dtype) for part in parts], axis=-1)
