"""Flax NNX modules: generic adapters around any spec."""

from jaxnorm.nnx.kernel_axes import kernel_axes as kernel_axes
from jaxnorm.nnx.modules import RNN as RNN
from jaxnorm.nnx.modules import Norm as Norm
from jaxnorm.nnx.modules import RNNCell as RNNCell
from jaxnorm.nnx.population_statistics import population as population
from jaxnorm.nnx.reparametrized import Reparametrized as Reparametrized

__all__ = [
    "RNN",
    "Norm",
    "RNNCell",
    "Reparametrized",
    "kernel_axes",
    "population",
]
