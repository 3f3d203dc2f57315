"""jaxnorm: normalizers as pure functions, and normalized recurrent cells, for JAX.

The other normalizers and cells, which each come from one paper or one library, are in ``jaxnorm.zoo``.
"""

import importlib as _importlib
import typing as _types

from jaxnorm import cells as cells
from jaxnorm import engine as engine
from jaxnorm import norms as norms
from jaxnorm import weight_norms as weight_norms
from jaxnorm.cells import initializers as initializers
from jaxnorm.norms.core.moments import Moments as Moments
from jaxnorm.norms.core.moments import moments as moments
from jaxnorm.norms.core.moments import merge as merge
from jaxnorm.norms.core.moments import normalize as normalize
from jaxnorm.norms.core.running import update_running as update_running
from jaxnorm.norms.core.running import population as population

from jaxnorm.norms.base import Normalizer as Normalizer
from jaxnorm.norms.base import Affine as Affine
from jaxnorm.norms.identity import Identity as Identity
from jaxnorm.norms.layer_norm import LayerNorm as LayerNorm
from jaxnorm.norms.layer_norm import layer_norm as layer_norm
from jaxnorm.norms.rms_norm import RMSNorm as RMSNorm
from jaxnorm.norms.rms_norm import rms_norm as rms_norm
from jaxnorm.norms.batch_norm import BatchNorm as BatchNorm
from jaxnorm.norms.batch_norm import batch_norm as batch_norm
from jaxnorm.norms.group_norm import GroupNorm as GroupNorm
from jaxnorm.norms.group_norm import group_norm as group_norm
from jaxnorm.norms.instance_norm import InstanceNorm as InstanceNorm
from jaxnorm.norms.instance_norm import instance_norm as instance_norm

from jaxnorm.weight_norms.base import WeightNormalizer as WeightNormalizer
from jaxnorm.weight_norms.base import KernelParams as KernelParams
from jaxnorm.weight_norms.weight_norm import WeightNorm as WeightNorm
from jaxnorm.weight_norms.weight_norm import weight_norm as weight_norm
from jaxnorm.weight_norms.spectral_norm import SpectralNorm as SpectralNorm
from jaxnorm.weight_norms.spectral_norm import spectral_norm as spectral_norm
from jaxnorm.weight_norms.weight_standardization import WeightStandardization as WeightStandardization
from jaxnorm.weight_norms.weight_standardization import weight_standardization as weight_standardization

from jaxnorm.cells.base import Cell as Cell
from jaxnorm.cells.base import LinearCell as LinearCell
from jaxnorm.cells.base import StepInput as StepInput
from jaxnorm.cells.sites import CellNorms as CellNorms
from jaxnorm.cells.lstm import LSTM as LSTM
from jaxnorm.cells.lstm import LSTMParams as LSTMParams
from jaxnorm.cells.lstm import LSTMCarry as LSTMCarry
from jaxnorm.cells.gru import GRU as GRU
from jaxnorm.cells.gru import GRUParams as GRUParams
from jaxnorm.cells.gru import GRUCarry as GRUCarry
from jaxnorm.cells.elman import Elman as Elman
from jaxnorm.cells.elman import ElmanParams as ElmanParams
from jaxnorm.cells.elman import ElmanCarry as ElmanCarry
from jaxnorm.cells.base import CountedCarry as CountedCarry
from jaxnorm.cells.own_step.function_cell import FunctionCell as FunctionCell

from jaxnorm.cells.presets import lstm as lstm
from jaxnorm.cells.presets import gru as gru
from jaxnorm.cells.presets import elman as elman
from jaxnorm.cells.presets import ln_lstm as ln_lstm
from jaxnorm.cells.presets import ln_gru as ln_gru
from jaxnorm.cells.presets import ln_rnn as ln_rnn
from jaxnorm.cells.presets import rms_lstm as rms_lstm
from jaxnorm.cells.presets import rms_gru as rms_gru
from jaxnorm.cells.presets import bn_lstm as bn_lstm

from jaxnorm.cells.wrappers.zoneout import Zoneout as Zoneout
from jaxnorm.cells.wrappers.recurrent_dropout import RecurrentDropout as RecurrentDropout
from jaxnorm.cells.wrappers.variational_dropout import VariationalDropout as VariationalDropout
from jaxnorm.cells.wrappers.drop_connect import DropConnect as DropConnect
from jaxnorm.cells.wrappers.reparametrized import Reparametrized as Reparametrized
from jaxnorm.cells.wrappers.reparametrized import ReparametrizedParams as ReparametrizedParams
from jaxnorm.cells.wrappers.base import deterministic as deterministic

from jaxnorm.engine.unroll import unroll as unroll
from jaxnorm.engine.unroll import Unrolled as Unrolled
from jaxnorm.engine.unroll_sum import unroll_sum as unroll_sum
from jaxnorm.engine.unroll_sum import Summed as Summed
from jaxnorm.engine.step import step as step
from jaxnorm.engine.stacks import stack as stack
from jaxnorm.engine.stacks import bidirectional as bidirectional
from jaxnorm.engine.stacks import Directions as Directions
from jaxnorm.engine.connections import residual_stack as residual_stack
from jaxnorm.engine.connections import skip_stack as skip_stack
from jaxnorm.engine.sequence_statistics import sequence_statistics as sequence_statistics
from jaxnorm.engine.summary import summary as summary

__all__ = [
    "GRU",
    "LSTM",
    "Affine",
    "BatchNorm",
    "Cell",
    "Directions",
    "DropConnect",
    "Elman",
    "ElmanCarry",
    "ElmanParams",
    "FunctionCell",
    "GRUCarry",
    "GRUParams",
    "GroupNorm",
    "Identity",
    "InstanceNorm",
    "KernelParams",
    "LSTMCarry",
    "LSTMParams",
    "LayerNorm",
    "LinearCell",
    "StepInput",
    "Moments",
    "Normalizer",
    "RMSNorm",
    "RecurrentDropout",
    "Reparametrized",
    "ReparametrizedParams",
    "CellNorms",
    "SpectralNorm",
    "Summed",
    "CountedCarry",
    "Unrolled",
    "VariationalDropout",
    "WeightNorm",
    "WeightNormalizer",
    "WeightStandardization",
    "Zoneout",
    "analysis",
    "batch_norm",
    "bidirectional",
    "bn_lstm",
    "cells",
    "convert",
    "deterministic",
    "elman",
    "engine",
    "update_running",
    "group_norm",
    "gru",
    "initializers",
    "instance_norm",
    "layer_norm",
    "linen",
    "ln_gru",
    "ln_lstm",
    "ln_rnn",
    "lstm",
    "merge",
    "moments",
    "nnx",
    "normalize",
    "norms",
    "optim",
    "population",
    "residual_stack",
    "rms_gru",
    "rms_lstm",
    "rms_norm",
    "sequence_statistics",
    "skip_stack",
    "spectral_norm",
    "stack",
    "step",
    "summary",
    "unroll",
    "unroll_sum",
    "weight_norm",
    "weight_norms",
    "weight_standardization",
    "zoo",
]

if _types.TYPE_CHECKING:
    from jaxnorm import analysis as analysis
    from jaxnorm import convert as convert
    from jaxnorm import linen as linen
    from jaxnorm import nnx as nnx
    from jaxnorm import optim as optim
    from jaxnorm import zoo as zoo
else:

    def __getattr__(name: str) -> object:
        """Imports the upper modules on first use."""
        if name in ("zoo", "linen", "nnx", "optim", "analysis", "convert"):
            return _importlib.import_module(f"jaxnorm.{name}")
        from jaxnorm._base.foreign_names import refuse_name

        refuse_name("jaxnorm", name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__version__ = "0.1.0"
