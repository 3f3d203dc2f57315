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

from jaxnorm.norms.gaussian import ActivationMoments as ActivationMoments
from jaxnorm.norms.gaussian import activation_moments as activation_moments
from jaxnorm.norms.norm_prop import NormProp as NormProp
from jaxnorm.norms.norm_prop import norm_prop as norm_prop
from jaxnorm.norms.norm_prop_lstm import LSTMVariances as LSTMVariances
from jaxnorm.norms.norm_prop_lstm import norm_prop_lstm_variances as norm_prop_lstm_variances

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
