"""Recurrent cells: frozen specs with pure methods, and the presets."""

from jaxnorm.cells.base import Cell as Cell
from jaxnorm.cells.base import CountedCarry as CountedCarry
from jaxnorm.cells.base import LinearCell as LinearCell
from jaxnorm.cells.base import StepInput as StepInput
from jaxnorm.cells.cell_base import CellBase as CellBase
from jaxnorm.cells.elman import Elman as Elman
from jaxnorm.cells.elman import ElmanCarry as ElmanCarry
from jaxnorm.cells.elman import ElmanParams as ElmanParams
from jaxnorm.cells.own_step.function_cell import FunctionCell as FunctionCell
from jaxnorm.cells.gru import GRU as GRU
from jaxnorm.cells.gru import GRUCarry as GRUCarry
from jaxnorm.cells.gru import GRUParams as GRUParams
from jaxnorm.cells.hooks import CellHooks as CellHooks
from jaxnorm.cells.hooks import GateMasks as GateMasks
from jaxnorm.cells.hooks import hooks as hooks
from jaxnorm.cells.lstm import LSTM as LSTM
from jaxnorm.cells.lstm import LSTMCarry as LSTMCarry
from jaxnorm.cells.lstm import LSTMParams as LSTMParams
from jaxnorm.cells.preactivation.gated_base import GatedCellBase as GatedCellBase
from jaxnorm.cells.preactivation.preactivation import PreActivation as PreActivation
from jaxnorm.cells.preactivation.ungated_base import UngatedCellBase as UngatedCellBase
from jaxnorm.cells.preactivation.weights import Biases as Biases
from jaxnorm.cells.preactivation.weights import GateWeights as GateWeights
from jaxnorm.cells.presets import bn_lstm as bn_lstm
from jaxnorm.cells.presets import elman as elman
from jaxnorm.cells.presets import gru as gru
from jaxnorm.cells.presets import ln_gru as ln_gru
from jaxnorm.cells.presets import ln_lstm as ln_lstm
from jaxnorm.cells.presets import ln_rnn as ln_rnn
from jaxnorm.cells.presets import lstm as lstm
from jaxnorm.cells.presets import rms_gru as rms_gru
from jaxnorm.cells.presets import rms_lstm as rms_lstm
from jaxnorm.cells.sites import CellNorms as CellNorms
from jaxnorm.cells.wrappers.base import CellWrapper as CellWrapper
from jaxnorm.cells.wrappers.base import deterministic as deterministic
from jaxnorm.cells.wrappers.base import StochasticWrapper as StochasticWrapper
from jaxnorm.cells.wrappers.drop_connect import DropConnect as DropConnect
from jaxnorm.cells.wrappers.recurrent_dropout import RecurrentDropout as RecurrentDropout
from jaxnorm.cells.wrappers.reparametrized import Reparametrized as Reparametrized
from jaxnorm.cells.wrappers.reparametrized import ReparametrizedParams as ReparametrizedParams
from jaxnorm.cells.wrappers.variational_dropout import VariationalDropout as VariationalDropout
from jaxnorm.cells.wrappers.zoneout import Zoneout as Zoneout

__all__ = [
    "Biases",
    "Cell",
    "CellBase",
    "CellHooks",
    "CellNorms",
    "CellWrapper",
    "CountedCarry",
    "DropConnect",
    "Elman",
    "ElmanCarry",
    "ElmanParams",
    "FunctionCell",
    "GRU",
    "GRUCarry",
    "GRUParams",
    "GateMasks",
    "GateWeights",
    "GatedCellBase",
    "LSTM",
    "LSTMCarry",
    "LSTMParams",
    "LinearCell",
    "PreActivation",
    "RecurrentDropout",
    "Reparametrized",
    "ReparametrizedParams",
    "StepInput",
    "StochasticWrapper",
    "UngatedCellBase",
    "VariationalDropout",
    "Zoneout",
    "bn_lstm",
    "deterministic",
    "elman",
    "gru",
    "hooks",
    "ln_gru",
    "ln_lstm",
    "ln_rnn",
    "lstm",
    "rms_gru",
    "rms_lstm",
]
