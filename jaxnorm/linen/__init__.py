"""Flax linen modules that wrap specs: they declare variables, call the core and write back updated statistics.

One module serves all normalizers, another all cells. Weights are in the collection ``"params"`` under the names of
their fields (``kernel``, ``norm`` / ``input`` / ``scale``), running statistics in ``"batch_stats"`` likewise
(``norm`` / ``input`` / ``mean``, ``var`` and ``count``). Cells that draw masks, such as :class:`jaxnorm.Zoneout`, use
the stream ``"dropout"``.
"""

import typing as _types

from jaxnorm.linen.kernel_axes import kernel_axes as kernel_axes
from jaxnorm.linen.norm import Norm as Norm
from jaxnorm.linen.params import from_params as from_params
from jaxnorm.linen.params import to_params as to_params
from jaxnorm.linen.population_statistics import population as population
from jaxnorm.linen.reparametrized import Reparametrized as Reparametrized
from jaxnorm.linen.rnn import RNN as RNN
from jaxnorm.linen.rnn_cell import RNNCell as RNNCell

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

        refuse_name("jaxnorm.linen", name, "jaxnorm.linen.RNN({})", "jaxnorm.linen.Norm({})")
