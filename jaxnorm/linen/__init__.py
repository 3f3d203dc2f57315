"""Flax linen modules: generic adapters around any spec."""

from jaxnorm.linen.kernel_axes import kernel_axes as kernel_axes
from jaxnorm.linen.modules import RNN as RNN
from jaxnorm.linen.modules import Norm as Norm
from jaxnorm.linen.modules import RNNCell as RNNCell
from jaxnorm.linen.population_statistics import population as population
from jaxnorm.linen.reparametrized import Reparametrized as Reparametrized

__all__ = [
    "RNN",
    "Norm",
    "RNNCell",
    "Reparametrized",
    "kernel_axes",
    "population",
]
