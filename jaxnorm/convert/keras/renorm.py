"""Batch renormalization of Keras: ``BatchNormalization(renorm=True)``."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnorm.convert.shared.arrays import Arrays, to_device
from jaxnorm.convert.shared.base import Imported, refuse, settle
from jaxnorm.norms.base import Affine
from jaxnorm.norms.core.moments import Moments
from jaxnorm.zoo.norms.batch.batch_renorm import BatchRenorm

STATISTICS = ("moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev")
"""Running statistics of inference, whose variance stands there twice; then those that training goes by."""


def describe_renorm(caller: str, config: Mapping[str, Any]) -> BatchRenorm:
    """Makes the spec; refuses what has no counterpart: two kinds of averages, and limits that are no reciprocals."""
    if config["momentum"] != config["renorm_momentum"]:
        refuse(
            caller,
            f"momentum={config['momentum']} with renorm_momentum={config['renorm_momentum']}",
            "training and inference go by the same statistics here.",
        )
    limits = config.get("renorm_clipping") or {}
    r_max, r_min, d_max = (limits.get(name) for name in ("rmax", "rmin", "dmax"))
    if (r_max is None) != (r_min is None) or (r_max is not None and not math.isclose(r_min * r_max, 1.0, rel_tol=1e-6)):
        refuse(caller, f"renorm_clipping with rmax={r_max} and rmin={r_min}", "here rmin is 1 / rmax.")
    return BatchRenorm(
        epsilon=config["epsilon"],
        momentum=config["momentum"],
        r_max=math.inf if r_max is None else float(r_max),
        d_max=math.inf if d_max is None else float(d_max),
        use_scale=config.get("scale", True),
        use_bias=config.get("center", True),
    )


def load_renorm(arrays: Arrays, config: Mapping[str, Any], spec: Any, notes: tuple[str, ...]) -> Imported:
    """Loads weights and running statistics: those of inference, which are those of training if momenta are equal."""
    spec = settle(arrays.where, describe_renorm(arrays.where, config), spec)
    used = [name for name, has in (("gamma", spec.use_scale), ("beta", spec.use_bias)) if has]
    arrays.expect([*used, *STATISTICS])
    shape = arrays.shape(STATISTICS[0])
    taken = {name: arrays.take(name, shape, "(F,)") for name in (*used, *STATISTICS)}
    arrays.finish()
    for moving, training in (("moving_mean", "renorm_mean"), ("moving_stddev", "renorm_stddev")):
        if not np.allclose(taken[moving], taken[training], rtol=1e-4, atol=1e-6):
            notes += (f"{training} differs from {moving}: training goes on with the latter",)
    if config["axis"] != -1:
        notes += (f"axis={config['axis']}: the features are on the last axis here",)
    scale, bias = (to_device(taken[name]) if name in taken else None for name in ("gamma", "beta"))
    mean, var = (to_device(taken[name]) for name in STATISTICS[:2])
    return Imported(spec, Affine(scale, bias), Moments(mean, var, jnp.ones((), jnp.float32)), notes)
