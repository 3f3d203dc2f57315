"""The methods of cells that have one pre-activation object, from ``prepare`` to ``project_state``."""

import abc
from typing import Any

from jaxnorm._base.typing import Array, Bool, DTypeLike, Float, PyTree
from jaxnorm.cells.base import Key, Products
from jaxnorm.cells.hooks import GateMasks
from jaxnorm.cells.preactivation.preactivation import PreActivation
from jaxnorm.cells.preactivation.weights import Biases, GateWeights
from jaxnorm.cells.sites import CellNorms


class PreActivationMethods(abc.ABC):
    """Calls the pre-activation object ``gates`` of a cell.

    ``biases`` says where its biases enter, and ``extra`` prepares further weights.
    """

    @property
    def supports_gate_masks(self) -> bool:
        """Each gate may see its inputs and the state under a mask of its own."""
        return True

    @property
    @abc.abstractmethod
    def gates(self) -> PreActivation:
        """The pre-activation object."""

    def biases(self, params: Any) -> Biases:
        """The bias b enters after all norms."""
        return Biases(end=params.bias)

    def extra(self, params: Any, dtype: DTypeLike) -> Any:
        """Prepares further weights of a cell; ``dtype`` is that of the kernels."""
        return ()

    def prepare(
        self,
        params: Any,
        *,
        dtype: DTypeLike | None = None,
        batch_shape: tuple[int, ...] = (),
        key: Key | None = None,
        gate_masks: GateMasks | None = None,
    ) -> GateWeights:
        """Flattens kernels, gathers biases, centers the kernels (where that saves a mean) and casts them."""
        spec: Any = self
        weights = self.gates.prepare(params, self.biases(params), dtype or spec.dtype, gate_masks)
        return weights._replace(extra=self.extra(params, weights.dtype))

    def project_inputs(self, weights: GateWeights, xs: Float[Array, "T *B I"]) -> Float[Array, "T ..."]:
        """Computes the input products of all steps, in at least float32."""
        return self.gates.project_inputs(weights, xs)

    def normalize_inputs(
        self,
        weights: GateWeights,
        xs: Float[Array, "T *B I"],
        products: Products,
        stats: CellNorms | None,
        where: Bool[Array, "T ..."] | None,
        measured: CellNorms | None = None,
    ) -> tuple[PyTree, CellNorms]:
        """Normalizes the input products of all steps and adds the biases, in the compute dtype."""
        return self.gates.normalize_inputs(weights, products, stats, where, measured)

    def project_state(self, weights: GateWeights, carry: Any) -> Float[Array, "..."]:
        """Computes the recurrent product, in at least float32."""
        return self.gates.project_state(weights, carry.h)
