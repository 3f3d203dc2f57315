"""Flax NNX modules that wrap specs: they declare variables, call the core and write back updated statistics.

One module serves all normalizers, another all cells. Weights are ``nnx.Param`` under the names of their fields
(``rnn.kernel``, ``rnn.norm.input.scale``), running statistics ``nnx.BatchStat`` (``rnn.norm.input.mean``). A
constructor uses ``rngs`` only to initialize and does not store it. The exception is an :class:`RNNCell` that draws
masks: it keeps a copy of a stream.
"""

import typing as _types

from jaxnorm.nnx.kernel_axes import kernel_axes as kernel_axes
from jaxnorm.nnx.norm import Norm as Norm
from jaxnorm.nnx.params import from_params as from_params
from jaxnorm.nnx.params import to_params as to_params
from jaxnorm.nnx.population_statistics import population as population
from jaxnorm.nnx.reparametrized import Reparametrized as Reparametrized
from jaxnorm.nnx.rnn import RNN as RNN
from jaxnorm.nnx.rnn_cell import RNNCell as RNNCell

__all__ = [
    "RNN",
    "Norm",
    "RNNCell",
    "Reparametrized",
    "from_params",
    "kernel_axes",
    "population",
    "to_params",
]

if not _types.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Answers the names of Flax."""
        from jaxnorm._base.foreign_names import refuse_name

        cell, norm = "jaxnorm.nnx.RNN({}, in_features, rngs=rngs)", "jaxnorm.nnx.Norm({}, num_features, rngs=rngs)"
        refuse_name("jaxnorm.nnx", name, cell, norm)
