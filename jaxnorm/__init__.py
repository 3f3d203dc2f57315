"""jaxnorm: normalizers as pure functions, and normalized recurrent cells, for JAX."""

from jaxnorm.norms.moments import Moments as Moments
from jaxnorm.norms.moments import merge as merge
from jaxnorm.norms.moments import moments as moments
from jaxnorm.norms.moments import normalize as normalize
from jaxnorm.norms.running import fold as fold
from jaxnorm.norms.running import pool_steps as pool_steps
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

from jaxnorm.cells import initializers as initializers
from jaxnorm.cells.base import Cell as Cell
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
from jaxnorm.cells.presets import bn_lstm as bn_lstm
from jaxnorm.cells.presets import elman as elman
from jaxnorm.cells.presets import gru as gru
from jaxnorm.cells.presets import ln_gru as ln_gru
from jaxnorm.cells.presets import ln_lstm as ln_lstm
from jaxnorm.cells.presets import ln_rnn as ln_rnn
from jaxnorm.cells.presets import lstm as lstm
from jaxnorm.cells.presets import rms_gru as rms_gru
from jaxnorm.cells.presets import rms_lstm as rms_lstm

from jaxnorm.engine.unroll import Unrolled as Unrolled
from jaxnorm.engine.unroll import unroll as unroll
from jaxnorm.engine.layers import Directions as Directions
from jaxnorm.engine.layers import bidirectional as bidirectional
from jaxnorm.engine.layers import stack as stack

__version__ = "0.1.0"
