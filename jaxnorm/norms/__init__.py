"""Normalizers, x -> x. Each file holds one of them: a plain function and its spec."""

from jaxnorm.norms.affine_norm import AffineNorm as AffineNorm
from jaxnorm.norms.affine_norm import HasAffine as HasAffine
from jaxnorm.norms.affine_norm import HasAxisName as HasAxisName
from jaxnorm.norms.affine_norm import HasEpsilon as HasEpsilon
from jaxnorm.norms.base import Affine as Affine
from jaxnorm.norms.base import Normalizer as Normalizer
from jaxnorm.norms.batch_norm import BatchNorm as BatchNorm
from jaxnorm.norms.batch_norm import batch_norm as batch_norm
from jaxnorm.norms.core.moments import Moments as Moments
from jaxnorm.norms.core.moments import merge as merge
from jaxnorm.norms.core.moments import moments as moments
from jaxnorm.norms.core.moments import normalize as normalize
from jaxnorm.norms.core.spec import DEFAULT as DEFAULT
from jaxnorm.norms.core.running import update_running as update_running
from jaxnorm.norms.core.running import population as population
from jaxnorm.norms.group_norm import GroupNorm as GroupNorm
from jaxnorm.norms.group_norm import group_norm as group_norm
from jaxnorm.norms.identity import Identity as Identity
from jaxnorm.norms.instance_norm import InstanceNorm as InstanceNorm
from jaxnorm.norms.instance_norm import instance_norm as instance_norm
from jaxnorm.norms.layer_norm import LayerNorm as LayerNorm
from jaxnorm.norms.layer_norm import layer_norm as layer_norm
from jaxnorm.norms.rms_norm import RMSNorm as RMSNorm
from jaxnorm.norms.rms_norm import rms_norm as rms_norm

__all__ = [
    "DEFAULT",
    "AffineNorm",
    "HasAffine",
    "HasAxisName",
    "HasEpsilon",
    "Affine",
    "BatchNorm",
    "GroupNorm",
    "Identity",
    "InstanceNorm",
    "LayerNorm",
    "Moments",
    "Normalizer",
    "RMSNorm",
    "batch_norm",
    "update_running",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "merge",
    "moments",
    "normalize",
    "population",
    "rms_norm",
]
