"""Flax NNX modules around the specs: they declare variables, call the core and write back what changed.

A module serves every normalizer and every cell. Weights are ``nnx.Param`` under the names of their fields
(``rnn.kernel``, ``rnn.norm.input.scale``), running statistics ``nnx.BatchStat`` beside them (``rnn.norm.input.mean``).
No random numbers are stored, ``rngs`` of a constructor only initializes; but for an :class:`RNNCell` that draws masks.
"""

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
