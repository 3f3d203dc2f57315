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
