"""What serves one paper or one library: the rest of the normalizers and cells.

Written by docs/_ext/zoo_exports.py from the ``__all__`` of each module; ``make tables`` rewrites it.
"""

import typing as _types

from jaxnorm.zoo.cells.convolution.conv_lstm import ConvLSTM as ConvLSTM
from jaxnorm.zoo.cells.convolution.conv_lstm import ConvLSTMParams as ConvLSTMParams
from jaxnorm.zoo.cells.gru.block_gru import BlockGRU as BlockGRU
from jaxnorm.zoo.cells.gru.block_gru import BlockGRUParams as BlockGRUParams
from jaxnorm.zoo.cells.gru.block_gru import dreamer_v3_block_gru as dreamer_v3_block_gru
from jaxnorm.zoo.cells.gru.concatenated_gru import ConcatenatedGRU as ConcatenatedGRU
from jaxnorm.zoo.cells.gru.concatenated_gru import ConcatenatedGRUParams as ConcatenatedGRUParams
from jaxnorm.zoo.cells.gru.concatenated_gru import dreamer_v3_gru as dreamer_v3_gru
from jaxnorm.zoo.cells.gru.ligru import LiGRU as LiGRU
from jaxnorm.zoo.cells.gru.ligru import LiGRUCarry as LiGRUCarry
from jaxnorm.zoo.cells.gru.ligru import LiGRUParams as LiGRUParams
from jaxnorm.zoo.cells.gru.ligru import ligru as ligru
from jaxnorm.zoo.cells.gru.mgu import MGU as MGU
from jaxnorm.zoo.cells.gru.mgu import MGUParams as MGUParams
from jaxnorm.zoo.cells.gru.mgu import mgu as mgu
from jaxnorm.zoo.cells.gru.reset_before_gru import ResetBeforeGRU as ResetBeforeGRU
from jaxnorm.zoo.cells.gru.reset_before_gru import ResetBeforeGRUParams as ResetBeforeGRUParams
from jaxnorm.zoo.cells.indrnn import IndRNN as IndRNN
from jaxnorm.zoo.cells.indrnn import IndRNNCarry as IndRNNCarry
from jaxnorm.zoo.cells.indrnn import IndRNNParams as IndRNNParams
from jaxnorm.zoo.cells.indrnn import clip_indrnn as clip_indrnn
from jaxnorm.zoo.cells.linear.min_gru import MinGRU as MinGRU
from jaxnorm.zoo.cells.linear.min_gru import MinGRUCarry as MinGRUCarry
from jaxnorm.zoo.cells.linear.min_gru import MinGRUParams as MinGRUParams
from jaxnorm.zoo.cells.linear.min_lstm import MinLSTM as MinLSTM
from jaxnorm.zoo.cells.linear.min_lstm import MinLSTMCarry as MinLSTMCarry
from jaxnorm.zoo.cells.linear.min_lstm import MinLSTMParams as MinLSTMParams
from jaxnorm.zoo.cells.linear.rg_lru import RGLRU as RGLRU
from jaxnorm.zoo.cells.linear.rg_lru import RGLRUCarry as RGLRUCarry
from jaxnorm.zoo.cells.linear.rg_lru import RGLRUParams as RGLRUParams
from jaxnorm.zoo.cells.lstm.assorted_time_lstm import AssortedTimeCarry as AssortedTimeCarry
from jaxnorm.zoo.cells.lstm.assorted_time_lstm import AssortedTimeLSTM as AssortedTimeLSTM
from jaxnorm.zoo.cells.lstm.assorted_time_lstm import AssortedTimeLSTMParams as AssortedTimeLSTMParams
from jaxnorm.zoo.cells.lstm.assorted_time_lstm import assorted_time_lstm as assorted_time_lstm
from jaxnorm.zoo.cells.lstm.coupled_lstm import CoupledLSTM as CoupledLSTM
from jaxnorm.zoo.cells.lstm.coupled_lstm import CoupledLSTMParams as CoupledLSTMParams
from jaxnorm.zoo.cells.lstm.norm_prop_lstm import NormPropLSTM as NormPropLSTM
from jaxnorm.zoo.cells.lstm.norm_prop_lstm import NormPropLSTMParams as NormPropLSTMParams
from jaxnorm.zoo.cells.lstm.norm_prop_lstm import NormPropScales as NormPropScales
from jaxnorm.zoo.cells.lstm.norm_prop_lstm import norm_prop_lstm as norm_prop_lstm
from jaxnorm.zoo.cells.lstm.peephole_lstm import PeepholeLSTM as PeepholeLSTM
from jaxnorm.zoo.cells.lstm.peephole_lstm import PeepholeLSTMParams as PeepholeLSTMParams
from jaxnorm.zoo.cells.lstm.projected_lstm import ProjectedLSTM as ProjectedLSTM
from jaxnorm.zoo.cells.lstm.projected_lstm import ProjectedLSTMCarry as ProjectedLSTMCarry
from jaxnorm.zoo.cells.lstm.projected_lstm import ProjectedLSTMParams as ProjectedLSTMParams
from jaxnorm.zoo.cells.lstm.slstm import SLSTM as SLSTM
from jaxnorm.zoo.cells.lstm.slstm import SLSTMCarry as SLSTMCarry
from jaxnorm.zoo.cells.lstm.slstm import SLSTMParams as SLSTMParams
from jaxnorm.zoo.cells.multiplicative.integration import IntegrationParams as IntegrationParams
from jaxnorm.zoo.cells.multiplicative.mi_gru import MIGRU as MIGRU
from jaxnorm.zoo.cells.multiplicative.mi_gru import MIGRUParams as MIGRUParams
from jaxnorm.zoo.cells.multiplicative.mi_lstm import MILSTM as MILSTM
from jaxnorm.zoo.cells.multiplicative.mi_lstm import MILSTMParams as MILSTMParams
from jaxnorm.zoo.cells.multiplicative.mi_rnn import MIRNN as MIRNN
from jaxnorm.zoo.cells.multiplicative.mi_rnn import MIRNNParams as MIRNNParams
from jaxnorm.zoo.cells.mutations.base import MUTParams as MUTParams
from jaxnorm.zoo.cells.mutations.mut import MUT1 as MUT1
from jaxnorm.zoo.cells.mutations.mut import MUT2 as MUT2
from jaxnorm.zoo.cells.mutations.mut import MUT3 as MUT3
from jaxnorm.zoo.cells.recurrent_highway import RecurrentHighway as RecurrentHighway
from jaxnorm.zoo.cells.recurrent_highway import RecurrentHighwayCarry as RecurrentHighwayCarry
from jaxnorm.zoo.cells.recurrent_highway import RecurrentHighwayParams as RecurrentHighwayParams
from jaxnorm.zoo.highway_layer import Highway as Highway
from jaxnorm.zoo.highway_layer import HighwayParams as HighwayParams
from jaxnorm.zoo.highway_layer import highway as highway
from jaxnorm.zoo.norms.batch.batch_renorm import BatchRenorm as BatchRenorm
from jaxnorm.zoo.norms.batch.batch_renorm import batch_renorm as batch_renorm
from jaxnorm.zoo.norms.batch.batch_renorm import renorm_limits as renorm_limits
from jaxnorm.zoo.norms.batch.conditional_batch_norm import ConditionalBatchNorm as ConditionalBatchNorm
from jaxnorm.zoo.norms.batch.conditional_batch_norm import conditional_batch_norm as conditional_batch_norm
from jaxnorm.zoo.norms.batch.frozen_batch_norm import FrozenBatchNorm as FrozenBatchNorm
from jaxnorm.zoo.norms.batch.ghost_batch_norm import GhostBatchNorm as GhostBatchNorm
from jaxnorm.zoo.norms.batch.ghost_batch_norm import ghost_batch_norm as ghost_batch_norm
from jaxnorm.zoo.norms.batch.in_place_batch_norm import InPlaceBatchNorm as InPlaceBatchNorm
from jaxnorm.zoo.norms.batch.in_place_batch_norm import in_place_batch_norm as in_place_batch_norm
from jaxnorm.zoo.norms.batch.lp_batch_norm import LpBatchNorm as LpBatchNorm
from jaxnorm.zoo.norms.batch.lp_batch_norm import lp_batch_norm as lp_batch_norm
from jaxnorm.zoo.norms.batch.mean_only_batch_norm import MeanOnlyBatchNorm as MeanOnlyBatchNorm
from jaxnorm.zoo.norms.batch.mean_only_batch_norm import mean_only_batch_norm as mean_only_batch_norm
from jaxnorm.zoo.norms.batch.momentum_batch_norm import MomentumBatchNorm as MomentumBatchNorm
from jaxnorm.zoo.norms.batch.momentum_batch_norm import momentum_batch_norm as momentum_batch_norm
from jaxnorm.zoo.norms.batch.power_norm import PowerNorm as PowerNorm
from jaxnorm.zoo.norms.batch.power_norm import PowerStats as PowerStats
from jaxnorm.zoo.norms.batch.power_norm import power_norm as power_norm
from jaxnorm.zoo.norms.batch.range_batch_norm import RangeBatchNorm as RangeBatchNorm
from jaxnorm.zoo.norms.batch.range_batch_norm import range_batch_norm as range_batch_norm
from jaxnorm.zoo.norms.batch.virtual_batch_norm import VirtualBatchNorm as VirtualBatchNorm
from jaxnorm.zoo.norms.batch.virtual_batch_norm import virtual_batch_norm as virtual_batch_norm
from jaxnorm.zoo.norms.example.ada_layer_norm import AdaLayerNorm as AdaLayerNorm
from jaxnorm.zoo.norms.example.ada_layer_norm import AdaLayerNormParams as AdaLayerNormParams
from jaxnorm.zoo.norms.example.ada_layer_norm import Modulation as Modulation
from jaxnorm.zoo.norms.example.ada_layer_norm import ada_layer_norm as ada_layer_norm
from jaxnorm.zoo.norms.example.ada_layer_norm import ada_layer_norm_zero as ada_layer_norm_zero
from jaxnorm.zoo.norms.example.cosine_norm import CosineNorm as CosineNorm
from jaxnorm.zoo.norms.example.cosine_norm import CosineParams as CosineParams
from jaxnorm.zoo.norms.example.cosine_norm import cosine_norm as cosine_norm
from jaxnorm.zoo.norms.example.divisive_norm import DivisiveNorm as DivisiveNorm
from jaxnorm.zoo.norms.example.divisive_norm import DivisiveParams as DivisiveParams
from jaxnorm.zoo.norms.example.divisive_norm import divisive_norm as divisive_norm
from jaxnorm.zoo.norms.example.divisive_norm import local_deviation as local_deviation
from jaxnorm.zoo.norms.example.dynamic_tanh import DynamicTanh as DynamicTanh
from jaxnorm.zoo.norms.example.dynamic_tanh import DynamicTanhParams as DynamicTanhParams
from jaxnorm.zoo.norms.example.dynamic_tanh import dynamic_tanh as dynamic_tanh
from jaxnorm.zoo.norms.example.evo_norm_b0 import EvoNormB0 as EvoNormB0
from jaxnorm.zoo.norms.example.evo_norm_b0 import evo_norm_b0 as evo_norm_b0
from jaxnorm.zoo.norms.example.evo_norm_s0 import EvoNormParams as EvoNormParams
from jaxnorm.zoo.norms.example.evo_norm_s0 import EvoNormS0 as EvoNormS0
from jaxnorm.zoo.norms.example.evo_norm_s0 import evo_norm_s0 as evo_norm_s0
from jaxnorm.zoo.norms.example.filter_response_norm import FilterResponseNorm as FilterResponseNorm
from jaxnorm.zoo.norms.example.filter_response_norm import FilterResponseParams as FilterResponseParams
from jaxnorm.zoo.norms.example.filter_response_norm import filter_response_norm as filter_response_norm
from jaxnorm.zoo.norms.example.scale_norm import ScaleNorm as ScaleNorm
from jaxnorm.zoo.norms.example.scale_norm import scale_norm as scale_norm
from jaxnorm.zoo.norms.propagation.activation_moments import ActivationMoments as ActivationMoments
from jaxnorm.zoo.norms.propagation.activation_moments import activation_moments as activation_moments
from jaxnorm.zoo.norms.propagation.lstm_variances import LSTMVariances as LSTMVariances
from jaxnorm.zoo.norms.propagation.lstm_variances import norm_prop_lstm_variances as norm_prop_lstm_variances
from jaxnorm.zoo.norms.propagation.norm_prop import NormProp as NormProp
from jaxnorm.zoo.norms.propagation.norm_prop import norm_prop as norm_prop
from jaxnorm.zoo.norms.sequence.assorted_time_norm import AssortedTimeNorm as AssortedTimeNorm
from jaxnorm.zoo.norms.sequence.assorted_time_norm import assorted_time_norm as assorted_time_norm
from jaxnorm.zoo.norms.sequence.cumulative_group_norm import CumulativeGroupNorm as CumulativeGroupNorm
from jaxnorm.zoo.norms.sequence.cumulative_group_norm import CumulativeStats as CumulativeStats
from jaxnorm.zoo.norms.sequence.cumulative_group_norm import cumulative_group_norm as cumulative_group_norm
from jaxnorm.zoo.norms.sequence.sequence_batch_norm import FrameWiseBatchNorm as FrameWiseBatchNorm
from jaxnorm.zoo.norms.sequence.sequence_batch_norm import frame_wise_batch_norm as frame_wise_batch_norm
from jaxnorm.zoo.norms.sequence.sequence_batch_norm import sequence_wise_batch_norm as sequence_wise_batch_norm
from jaxnorm.zoo.norms.sequence.streaming_norm import StreamingNorm as StreamingNorm
from jaxnorm.zoo.norms.sequence.streaming_norm import StreamingStats as StreamingStats
from jaxnorm.zoo.norms.sequence.streaming_norm import streaming_norm as streaming_norm
from jaxnorm.zoo.norms.whitening._whitening import WhiteningStats as WhiteningStats
from jaxnorm.zoo.norms.whitening.decorrelated_batch_norm import DecorrelatedBatchNorm as DecorrelatedBatchNorm
from jaxnorm.zoo.norms.whitening.decorrelated_batch_norm import decorrelated_batch_norm as decorrelated_batch_norm
from jaxnorm.zoo.norms.whitening.iter_norm import IterNorm as IterNorm
from jaxnorm.zoo.norms.whitening.iter_norm import iter_norm as iter_norm
from jaxnorm.zoo.published.bn_lstm import laurent_bn_lstm as laurent_bn_lstm
from jaxnorm.zoo.published.bn_lstm import sonnet_bn_lstm as sonnet_bn_lstm
from jaxnorm.zoo.published.ln_gru import dreamer_gru as dreamer_gru
from jaxnorm.zoo.published.ln_gru import haste_ln_gru as haste_ln_gru
from jaxnorm.zoo.published.ln_gru import kiros_ln_gru as kiros_ln_gru
from jaxnorm.zoo.published.ln_lstm_products import draw_ln_lstm as draw_ln_lstm
from jaxnorm.zoo.published.ln_lstm_products import fastrnns_ln_lstm as fastrnns_ln_lstm
from jaxnorm.zoo.published.ln_lstm_products import haste_ln_lstm as haste_ln_lstm
from jaxnorm.zoo.published.ln_lstm_products import kiros_ln_lstm as kiros_ln_lstm
from jaxnorm.zoo.published.ln_lstm_products import tfa_ln_lstm as tfa_ln_lstm
from jaxnorm.zoo.published.ln_lstm_sum import axlearn_ln_lstm as axlearn_ln_lstm
from jaxnorm.zoo.published.ln_lstm_sum import contrib_ln_lstm as contrib_ln_lstm
from jaxnorm.zoo.published.ln_lstm_sum import praxis_ln_lstm as praxis_ln_lstm
from jaxnorm.zoo.published.ln_lstm_sum import sketch_rnn_ln_lstm as sketch_rnn_ln_lstm
from jaxnorm.zoo.published.ln_lstm_sum import sonnet_ln_lstm as sonnet_ln_lstm
from jaxnorm.zoo.published.weight_norm_lstm import bounded_weight_norm_lstm as bounded_weight_norm_lstm
from jaxnorm.zoo.published.weight_norm_lstm import weight_norm_lstm as weight_norm_lstm

__all__ = [
    "MGU",
    "MIGRU",
    "MILSTM",
    "MIRNN",
    "MUT1",
    "MUT2",
    "MUT3",
    "RGLRU",
    "SLSTM",
    "ActivationMoments",
    "AdaLayerNorm",
    "AdaLayerNormParams",
    "AssortedTimeCarry",
    "AssortedTimeLSTM",
    "AssortedTimeLSTMParams",
    "AssortedTimeNorm",
    "BatchRenorm",
    "BlockGRU",
    "BlockGRUParams",
    "ConcatenatedGRU",
    "ConcatenatedGRUParams",
    "ConditionalBatchNorm",
    "ConvLSTM",
    "ConvLSTMParams",
    "CosineNorm",
    "CosineParams",
    "CoupledLSTM",
    "CoupledLSTMParams",
    "CumulativeGroupNorm",
    "CumulativeStats",
    "DecorrelatedBatchNorm",
    "DivisiveNorm",
    "DivisiveParams",
    "DynamicTanh",
    "DynamicTanhParams",
    "EvoNormB0",
    "EvoNormParams",
    "EvoNormS0",
    "FilterResponseNorm",
    "FilterResponseParams",
    "FrameWiseBatchNorm",
    "FrozenBatchNorm",
    "GhostBatchNorm",
    "Highway",
    "HighwayParams",
    "InPlaceBatchNorm",
    "IndRNN",
    "IndRNNCarry",
    "IndRNNParams",
    "IntegrationParams",
    "IterNorm",
    "LSTMVariances",
    "LiGRU",
    "LiGRUCarry",
    "LiGRUParams",
    "LpBatchNorm",
    "MGUParams",
    "MIGRUParams",
    "MILSTMParams",
    "MIRNNParams",
    "MUTParams",
    "MeanOnlyBatchNorm",
    "MinGRU",
    "MinGRUCarry",
    "MinGRUParams",
    "MinLSTM",
    "MinLSTMCarry",
    "MinLSTMParams",
    "Modulation",
    "MomentumBatchNorm",
    "NormProp",
    "NormPropLSTM",
    "NormPropLSTMParams",
    "NormPropScales",
    "PeepholeLSTM",
    "PeepholeLSTMParams",
    "PowerNorm",
    "PowerStats",
    "ProjectedLSTM",
    "ProjectedLSTMCarry",
    "ProjectedLSTMParams",
    "RGLRUCarry",
    "RGLRUParams",
    "RangeBatchNorm",
    "RecurrentHighway",
    "RecurrentHighwayCarry",
    "RecurrentHighwayParams",
    "ResetBeforeGRU",
    "ResetBeforeGRUParams",
    "SLSTMCarry",
    "SLSTMParams",
    "ScaleNorm",
    "StreamingNorm",
    "StreamingStats",
    "VirtualBatchNorm",
    "WhiteningStats",
    "activation_moments",
    "ada_layer_norm",
    "ada_layer_norm_zero",
    "assorted_time_lstm",
    "assorted_time_norm",
    "axlearn_ln_lstm",
    "batch_renorm",
    "bounded_weight_norm_lstm",
    "clip_indrnn",
    "conditional_batch_norm",
    "contrib_ln_lstm",
    "cosine_norm",
    "cumulative_group_norm",
    "decorrelated_batch_norm",
    "divisive_norm",
    "draw_ln_lstm",
    "dreamer_gru",
    "dreamer_v3_block_gru",
    "dreamer_v3_gru",
    "dynamic_tanh",
    "evo_norm_b0",
    "evo_norm_s0",
    "fastrnns_ln_lstm",
    "filter_response_norm",
    "frame_wise_batch_norm",
    "ghost_batch_norm",
    "haste_ln_gru",
    "haste_ln_lstm",
    "highway",
    "in_place_batch_norm",
    "iter_norm",
    "kiros_ln_gru",
    "kiros_ln_lstm",
    "laurent_bn_lstm",
    "ligru",
    "local_deviation",
    "lp_batch_norm",
    "mean_only_batch_norm",
    "mgu",
    "momentum_batch_norm",
    "norm_prop",
    "norm_prop_lstm",
    "norm_prop_lstm_variances",
    "power_norm",
    "praxis_ln_lstm",
    "range_batch_norm",
    "renorm_limits",
    "scale_norm",
    "sequence_wise_batch_norm",
    "sketch_rnn_ln_lstm",
    "sonnet_bn_lstm",
    "sonnet_ln_lstm",
    "streaming_norm",
    "tfa_ln_lstm",
    "virtual_batch_norm",
    "weight_norm_lstm",
]

if not _types.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Says where a name is that is not here."""
        from jaxnorm._base.foreign_names import refuse_name

        refuse_name("jaxnorm.zoo", name)
