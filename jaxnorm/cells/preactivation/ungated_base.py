"""The common base of cells without gates: one pre-activation for each hidden feature."""

import dataclasses

from jaxnorm._base.typing import Initializer
from jaxnorm.cells import initializers
from jaxnorm.cells.cell_base import CellBase
from jaxnorm.cells.preactivation.methods import PreActivationMethods
from jaxnorm.cells.preactivation.preactivation import PreActivation


@dataclasses.dataclass(frozen=True)
class UngatedCellBase(PreActivationMethods, CellBase):
    """The common base of cells without gates; not a cell itself.

    Attributes:
      kernel_init: initializer of W (I, H).
    """

    _: dataclasses.KW_ONLY
    kernel_init: Initializer = initializers.lecun_normal

    @property
    def gates(self) -> PreActivation:
        """The pre-activation object; its sum is the argument of the nonlinearity, at the site ``cell``."""
        return PreActivation(self.sites, outer="cell", by_gate=True, caller=type(self).__name__)
