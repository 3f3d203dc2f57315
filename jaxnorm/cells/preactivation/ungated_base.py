"""The common base of cells without gates: one pre-activation for each hidden feature."""

import dataclasses
from functools import partial
from typing import Any

from jaxnorm._typing import Array, Bool, Float, Initializer
from jaxnorm.cells import base, initializers
from jaxnorm.cells.base import CellNorms
from jaxnorm.cells.cell_base import Frame
from jaxnorm.cells.preactivation import products
from jaxnorm.cells.preactivation.centering import after_centering


@dataclasses.dataclass(frozen=True)
class Ungated(Frame):
    """The common base of cells without gates; not a cell itself.

    Attributes:
      kernel_init: initializer of W (I, H).
    """

    _: dataclasses.KW_ONLY
    kernel_init: Initializer = initializers.lecun_normal

    def site_shapes(self) -> CellNorms:
        """H features at each site, without a gate axis."""
        features = (self.hidden_features,)
        return CellNorms(*[features] * len(CellNorms._fields))

    def project(
        self, ready: Any, xs: Float[Array, "T *B I"], stats: CellNorms | None, where: Bool[Array, "T *B"] | None
    ) -> tuple[Float[Array, "T *B H"], CellNorms]:
        """Computes the normalized input products of all steps, in the compute dtype."""
        products.check_features(f"{type(self).__name__}.project", xs, ready.kernel)
        normalize = partial(base.normalize_features, after_centering(self.sites.input), ready.norm.input)
        zs = products.matmul(xs, ready.kernel)
        zs, measured = base.over_steps(normalize, zs, None if stats is None else stats.input, where)
        return zs.astype(ready.kernel.dtype), CellNorms(input=measured)
