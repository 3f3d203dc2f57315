"""Weight normalizers: maps from kernel to kernel, applied once per sequence."""

from jaxnorm.weight_norms.base import KernelParams as KernelParams
from jaxnorm.weight_norms.base import WeightNormalizer as WeightNormalizer
from jaxnorm.weight_norms.bounded_weight_norm import BoundedState as BoundedState
from jaxnorm.weight_norms.bounded_weight_norm import BoundedWeightNorm as BoundedWeightNorm
from jaxnorm.weight_norms.bounded_weight_norm import bounded_weight_norm as bounded_weight_norm
from jaxnorm.weight_norms.centered_weight_norm import CenteredWeightNorm as CenteredWeightNorm
from jaxnorm.weight_norms.centered_weight_norm import centered_weight_norm as centered_weight_norm
from jaxnorm.weight_norms.data_dependent import data_dependent_init as data_dependent_init
from jaxnorm.weight_norms.spectral_norm import SpectralNorm as SpectralNorm
from jaxnorm.weight_norms.spectral_norm import SpectralState as SpectralState
from jaxnorm.weight_norms.spectral_norm import power_iteration as power_iteration
from jaxnorm.weight_norms.spectral_norm import spectral_norm as spectral_norm
from jaxnorm.weight_norms.unit_norm import UnitNorm as UnitNorm
from jaxnorm.weight_norms.unit_norm import unit_norm as unit_norm
from jaxnorm.weight_norms.weight_norm import WeightNorm as WeightNorm
from jaxnorm.weight_norms.weight_norm import unit_lengths as unit_lengths
from jaxnorm.weight_norms.weight_norm import weight_norm as weight_norm
from jaxnorm.weight_norms.weight_standardization import WeightStandardization as WeightStandardization
from jaxnorm.weight_norms.weight_standardization import weight_standardization as weight_standardization

__all__ = [
    "BoundedState",
    "BoundedWeightNorm",
    "CenteredWeightNorm",
    "KernelParams",
    "SpectralNorm",
    "SpectralState",
    "UnitNorm",
    "WeightNorm",
    "WeightNormalizer",
    "WeightStandardization",
    "bounded_weight_norm",
    "centered_weight_norm",
    "data_dependent_init",
    "power_iteration",
    "spectral_norm",
    "unit_lengths",
    "unit_norm",
    "weight_norm",
    "weight_standardization",
]
