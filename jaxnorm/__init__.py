"""jaxnorm: normalizers as pure functions, and normalized recurrent cells, for JAX."""

import importlib as _importlib
import typing as _types

from jaxnorm.norms.moments import Moments as Moments
from jaxnorm.norms.moments import merge as merge
from jaxnorm.norms.moments import moments as moments
from jaxnorm.norms.moments import normalize as normalize
from jaxnorm.norms.running import fold as fold
from jaxnorm.norms.running import population as population

from jaxnorm.norms.base import Affine as Affine
from jaxnorm.norms.base import Normalizer as Normalizer
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

from jaxnorm.norms.gaussian import ActivationMoments as ActivationMoments
from jaxnorm.norms.gaussian import activation_moments as activation_moments
from jaxnorm.norms.norm_prop import NormProp as NormProp
from jaxnorm.norms.norm_prop import norm_prop as norm_prop
from jaxnorm.norms.norm_prop_lstm import LSTMVariances as LSTMVariances
from jaxnorm.norms.norm_prop_lstm import norm_prop_lstm_variances as norm_prop_lstm_variances

from jaxnorm.norms.batch_renorm import BatchRenorm as BatchRenorm
from jaxnorm.norms.batch_renorm import batch_renorm as batch_renorm
from jaxnorm.norms.batch_renorm import renorm_limits as renorm_limits
from jaxnorm.norms.lp_batch_norm import LpBatchNorm as LpBatchNorm
from jaxnorm.norms.lp_batch_norm import lp_batch_norm as lp_batch_norm
from jaxnorm.norms.range_batch_norm import RangeBatchNorm as RangeBatchNorm
from jaxnorm.norms.range_batch_norm import range_batch_norm as range_batch_norm
from jaxnorm.norms.ghost_batch_norm import GhostBatchNorm as GhostBatchNorm
from jaxnorm.norms.ghost_batch_norm import ghost_batch_norm as ghost_batch_norm
from jaxnorm.norms.mean_only_batch_norm import MeanOnlyBatchNorm as MeanOnlyBatchNorm
from jaxnorm.norms.mean_only_batch_norm import mean_only_batch_norm as mean_only_batch_norm
from jaxnorm.norms.virtual_batch_norm import VirtualBatchNorm as VirtualBatchNorm
from jaxnorm.norms.virtual_batch_norm import virtual_batch_norm as virtual_batch_norm
from jaxnorm.norms.frozen_batch_norm import FrozenBatchNorm as FrozenBatchNorm
from jaxnorm.norms.sequence_batch_norm import FrameWiseBatchNorm as FrameWiseBatchNorm
from jaxnorm.norms.sequence_batch_norm import frame_wise_batch_norm as frame_wise_batch_norm
from jaxnorm.norms.sequence_batch_norm import sequence_wise_batch_norm as sequence_wise_batch_norm
from jaxnorm.norms.conditional_batch_norm import ConditionalBatchNorm as ConditionalBatchNorm
from jaxnorm.norms.conditional_batch_norm import conditional_batch_norm as conditional_batch_norm
from jaxnorm.norms.momentum_batch_norm import MomentumBatchNorm as MomentumBatchNorm
from jaxnorm.norms.momentum_batch_norm import momentum_batch_norm as momentum_batch_norm
from jaxnorm.norms.scale_norm import ScaleNorm as ScaleNorm
from jaxnorm.norms.scale_norm import scale_norm as scale_norm
from jaxnorm.norms.dynamic_tanh import DynamicTanh as DynamicTanh
from jaxnorm.norms.dynamic_tanh import DynamicTanhParams as DynamicTanhParams
from jaxnorm.norms.dynamic_tanh import dynamic_tanh as dynamic_tanh
from jaxnorm.norms.filter_response_norm import FilterResponseNorm as FilterResponseNorm
from jaxnorm.norms.filter_response_norm import FilterResponseParams as FilterResponseParams
from jaxnorm.norms.filter_response_norm import filter_response_norm as filter_response_norm
from jaxnorm.norms.evo_norm_s0 import EvoNormParams as EvoNormParams
from jaxnorm.norms.evo_norm_s0 import EvoNormS0 as EvoNormS0
from jaxnorm.norms.evo_norm_s0 import evo_norm_s0 as evo_norm_s0
from jaxnorm.norms.evo_norm_b0 import EvoNormB0 as EvoNormB0
from jaxnorm.norms.evo_norm_b0 import evo_norm_b0 as evo_norm_b0
from jaxnorm.norms.ada_layer_norm import AdaLayerNorm as AdaLayerNorm
from jaxnorm.norms.ada_layer_norm import AdaLayerNormParams as AdaLayerNormParams
from jaxnorm.norms.ada_layer_norm import Modulation as Modulation
from jaxnorm.norms.ada_layer_norm import ada_layer_norm as ada_layer_norm
from jaxnorm.norms.ada_layer_norm import ada_layer_norm_zero as ada_layer_norm_zero
from jaxnorm.norms.divisive_norm import DivisiveNorm as DivisiveNorm
from jaxnorm.norms.divisive_norm import DivisiveParams as DivisiveParams
from jaxnorm.norms.divisive_norm import divisive_norm as divisive_norm
from jaxnorm.norms.divisive_norm import local_deviation as local_deviation
from jaxnorm.norms.cosine_norm import CosineNorm as CosineNorm
from jaxnorm.norms.cosine_norm import CosineParams as CosineParams
from jaxnorm.norms.cosine_norm import cosine_norm as cosine_norm
from jaxnorm.norms.assorted_time_norm import AssortedTimeNorm as AssortedTimeNorm
from jaxnorm.norms.assorted_time_norm import assorted_time_norm as assorted_time_norm
from jaxnorm.norms.whitening import WhiteningStats as WhiteningStats
from jaxnorm.norms.decorrelated_batch_norm import DecorrelatedBatchNorm as DecorrelatedBatchNorm
from jaxnorm.norms.decorrelated_batch_norm import decorrelated_batch_norm as decorrelated_batch_norm
from jaxnorm.norms.iter_norm import IterNorm as IterNorm
from jaxnorm.norms.iter_norm import iter_norm as iter_norm
from jaxnorm.norms.power_norm import PowerNorm as PowerNorm
from jaxnorm.norms.power_norm import PowerStats as PowerStats
from jaxnorm.norms.power_norm import power_norm as power_norm
from jaxnorm.norms.in_place_batch_norm import InPlaceBatchNorm as InPlaceBatchNorm
from jaxnorm.norms.in_place_batch_norm import in_place_batch_norm as in_place_batch_norm
from jaxnorm.norms.streaming_norm import StreamingNorm as StreamingNorm
from jaxnorm.norms.streaming_norm import StreamingStats as StreamingStats
from jaxnorm.norms.streaming_norm import streaming_norm as streaming_norm
from jaxnorm.weights.base import KernelParams as KernelParams
from jaxnorm.weights.base import WeightNormalizer as WeightNormalizer
from jaxnorm.weights.weight_norm import WeightNorm as WeightNorm
from jaxnorm.weights.weight_norm import unit_lengths as unit_lengths
from jaxnorm.weights.weight_norm import weight_norm as weight_norm
from jaxnorm.weights.data_dependent import data_dependent_init as data_dependent_init
from jaxnorm.weights.bounded_weight_norm import BoundedState as BoundedState
from jaxnorm.weights.bounded_weight_norm import BoundedWeightNorm as BoundedWeightNorm
from jaxnorm.weights.bounded_weight_norm import bounded_weight_norm as bounded_weight_norm
from jaxnorm.weights.centred_weight_norm import CentredWeightNorm as CentredWeightNorm
from jaxnorm.weights.centred_weight_norm import centred_weight_norm as centred_weight_norm
from jaxnorm.weights.weight_standardization import WeightStandardization as WeightStandardization
from jaxnorm.weights.weight_standardization import weight_standardization as weight_standardization
from jaxnorm.weights.spectral_norm import SpectralNorm as SpectralNorm
from jaxnorm.weights.spectral_norm import SpectralState as SpectralState
from jaxnorm.weights.spectral_norm import power_iteration as power_iteration
from jaxnorm.weights.spectral_norm import spectral_norm as spectral_norm
from jaxnorm.weights.unit_rows import UnitRows as UnitRows
from jaxnorm.weights.unit_rows import unit_rows as unit_rows

from jaxnorm.cells import initializers as initializers
from jaxnorm.cells.base import Cell as Cell
from jaxnorm.cells.base import LinearCell as LinearCell
from jaxnorm.cells.base import Sites as Sites
from jaxnorm.cells.base import Timed as Timed
from jaxnorm.cells.elman import Elman as Elman
from jaxnorm.cells.elman import ElmanCarry as ElmanCarry
from jaxnorm.cells.elman import ElmanParams as ElmanParams
from jaxnorm.cells.gru import GRU as GRU
from jaxnorm.cells.gru import GRUCarry as GRUCarry
from jaxnorm.cells.gru import GRUParams as GRUParams
from jaxnorm.cells.lstm import LSTM as LSTM
from jaxnorm.cells.lstm import LSTMCarry as LSTMCarry
from jaxnorm.cells.lstm import LSTMParams as LSTMParams

from jaxnorm.cells.indrnn import IndRNN as IndRNN
from jaxnorm.cells.indrnn import IndRNNCarry as IndRNNCarry
from jaxnorm.cells.indrnn import IndRNNParams as IndRNNParams
from jaxnorm.cells.indrnn import clip_indrnn as clip_indrnn
from jaxnorm.cells.ligru import LiGRU as LiGRU
from jaxnorm.cells.ligru import LiGRUCarry as LiGRUCarry
from jaxnorm.cells.ligru import LiGRUParams as LiGRUParams
from jaxnorm.cells.min_gru import MinGRU as MinGRU
from jaxnorm.cells.min_gru import MinGRUCarry as MinGRUCarry
from jaxnorm.cells.min_gru import MinGRUParams as MinGRUParams
from jaxnorm.cells.min_lstm import MinLSTM as MinLSTM
from jaxnorm.cells.min_lstm import MinLSTMCarry as MinLSTMCarry
from jaxnorm.cells.min_lstm import MinLSTMParams as MinLSTMParams
from jaxnorm.cells.slstm import SLSTM as SLSTM
from jaxnorm.cells.slstm import SLSTMCarry as SLSTMCarry
from jaxnorm.cells.slstm import SLSTMParams as SLSTMParams
from jaxnorm.cells.ligru import ligru as ligru

from jaxnorm.cells.presets import bn_lstm as bn_lstm
from jaxnorm.cells.presets import elman as elman
from jaxnorm.cells.presets import gru as gru
from jaxnorm.cells.presets import ln_gru as ln_gru
from jaxnorm.cells.presets import ln_lstm as ln_lstm
from jaxnorm.cells.presets import ln_rnn as ln_rnn
from jaxnorm.cells.presets import lstm as lstm
from jaxnorm.cells.presets import rms_gru as rms_gru
from jaxnorm.cells.presets import rms_lstm as rms_lstm

from jaxnorm.cells.variants_apart import draw_ln_lstm as draw_ln_lstm
from jaxnorm.cells.variants_apart import fastrnns_ln_lstm as fastrnns_ln_lstm
from jaxnorm.cells.variants_apart import haste_ln_lstm as haste_ln_lstm
from jaxnorm.cells.variants_apart import kiros_ln_lstm as kiros_ln_lstm
from jaxnorm.cells.variants_apart import tfa_ln_lstm as tfa_ln_lstm
from jaxnorm.cells.variants_summed import axlearn_ln_lstm as axlearn_ln_lstm
from jaxnorm.cells.variants_summed import contrib_ln_lstm as contrib_ln_lstm
from jaxnorm.cells.variants_summed import praxis_ln_lstm as praxis_ln_lstm
from jaxnorm.cells.variants_summed import sketch_rnn_ln_lstm as sketch_rnn_ln_lstm
from jaxnorm.cells.variants_summed import sonnet_ln_lstm as sonnet_ln_lstm
from jaxnorm.cells.variants_gru import dreamer_gru as dreamer_gru
from jaxnorm.cells.variants_gru import haste_ln_gru as haste_ln_gru
from jaxnorm.cells.variants_gru import kiros_ln_gru as kiros_ln_gru
from jaxnorm.cells.integration import IntegrationParams as IntegrationParams
from jaxnorm.cells.mi_rnn import MIRNN as MIRNN
from jaxnorm.cells.mi_rnn import MIRNNParams as MIRNNParams
from jaxnorm.cells.mi_lstm import MILSTM as MILSTM
from jaxnorm.cells.mi_lstm import MILSTMParams as MILSTMParams
from jaxnorm.cells.mi_gru import MIGRU as MIGRU
from jaxnorm.cells.mi_gru import MIGRUParams as MIGRUParams
from jaxnorm.cells.mutation import MUTParams as MUTParams
from jaxnorm.cells.mut import MUT1 as MUT1
from jaxnorm.cells.mut import MUT2 as MUT2
from jaxnorm.cells.mut import MUT3 as MUT3
from jaxnorm.cells.recurrent_highway import RecurrentHighway as RecurrentHighway
from jaxnorm.cells.recurrent_highway import RecurrentHighwayCarry as RecurrentHighwayCarry
from jaxnorm.cells.recurrent_highway import RecurrentHighwayParams as RecurrentHighwayParams
from jaxnorm.cells.highway import Highway as Highway
from jaxnorm.cells.highway import HighwayParams as HighwayParams
from jaxnorm.cells.highway import highway as highway
from jaxnorm.cells.variants_bn import laurent_bn_lstm as laurent_bn_lstm
from jaxnorm.cells.variants_bn import sonnet_bn_lstm as sonnet_bn_lstm
from jaxnorm.cells.concatenated_gru import ConcatenatedGRU as ConcatenatedGRU
from jaxnorm.cells.concatenated_gru import ConcatenatedGRUParams as ConcatenatedGRUParams
from jaxnorm.cells.concatenated_gru import dreamer_v3_gru as dreamer_v3_gru
from jaxnorm.cells.block_gru import BlockGRU as BlockGRU
from jaxnorm.cells.block_gru import BlockGRUParams as BlockGRUParams
from jaxnorm.cells.block_gru import dreamer_v3_block_gru as dreamer_v3_block_gru
from jaxnorm.cells.norm_prop_lstm import NormPropLSTM as NormPropLSTM
from jaxnorm.cells.norm_prop_lstm import NormPropLSTMParams as NormPropLSTMParams
from jaxnorm.cells.norm_prop_lstm import NormPropScales as NormPropScales
from jaxnorm.cells.norm_prop_lstm import norm_prop_lstm as norm_prop_lstm
from jaxnorm.cells.assorted_time_lstm import AssortedTimeCarry as AssortedTimeCarry
from jaxnorm.cells.assorted_time_lstm import AssortedTimeLSTM as AssortedTimeLSTM
from jaxnorm.cells.assorted_time_lstm import AssortedTimeLSTMParams as AssortedTimeLSTMParams
from jaxnorm.cells.assorted_time_lstm import assorted_time_lstm as assorted_time_lstm
from jaxnorm.cells.reparametrized import Reparametrized as Reparametrized
from jaxnorm.cells.reparametrized import ReparametrizedParams as ReparametrizedParams
from jaxnorm.cells.reparametrized import bounded_weight_norm_lstm as bounded_weight_norm_lstm
from jaxnorm.cells.reparametrized import weight_norm_lstm as weight_norm_lstm

from jaxnorm.cells.projected_lstm import ProjectedLSTM as ProjectedLSTM
from jaxnorm.cells.projected_lstm import ProjectedLSTMCarry as ProjectedLSTMCarry
from jaxnorm.cells.projected_lstm import ProjectedLSTMParams as ProjectedLSTMParams
from jaxnorm.cells.reset_before_gru import ResetBeforeGRU as ResetBeforeGRU
from jaxnorm.cells.reset_before_gru import ResetBeforeGRUParams as ResetBeforeGRUParams
from jaxnorm.cells.peephole_lstm import PeepholeLSTM as PeepholeLSTM
from jaxnorm.cells.peephole_lstm import PeepholeLSTMParams as PeepholeLSTMParams
from jaxnorm.cells.coupled_lstm import CoupledLSTM as CoupledLSTM
from jaxnorm.cells.coupled_lstm import CoupledLSTMParams as CoupledLSTMParams
from jaxnorm.cells.wrappers import deterministic as deterministic
from jaxnorm.cells.zoneout import Zoneout as Zoneout
from jaxnorm.cells.recurrent_dropout import RecurrentDropout as RecurrentDropout
from jaxnorm.cells.variational_dropout import VariationalDropout as VariationalDropout
from jaxnorm.cells.drop_connect import DropConnect as DropConnect
from jaxnorm.engine.connections import residual_stack as residual_stack
from jaxnorm.engine.connections import skip_stack as skip_stack

from jaxnorm.engine.unroll import Unrolled as Unrolled
from jaxnorm.engine.unroll import unroll as unroll
from jaxnorm.engine.layers import Directions as Directions
from jaxnorm.engine.layers import bidirectional as bidirectional
from jaxnorm.engine.layers import stack as stack
from jaxnorm.engine.sequence import sequence_statistics as sequence_statistics

if not _types.TYPE_CHECKING:  # to type checkers these are modules that are imported, or not

    def __getattr__(name: str) -> object:
        """``analysis``, ``convert``, ``linen``, ``nnx`` and ``optim`` are imported where they are first used."""
        if name in ("analysis", "convert", "linen", "nnx", "optim"):
            return _importlib.import_module(f"jaxnorm.{name}")
        raise AttributeError(f"module 'jaxnorm' has no attribute {name!r}")


__version__ = "0.1.0"
