"""Builds normalizers from arrays and extracts their arrays, under the names of any library."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnorm._base import objects
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm.convert.shared.arrays import Arrays, Host, to_device, to_numpy
from jaxnorm.convert.shared.base import Imported, refuse
from jaxnorm.norms.base import Affine
from jaxnorm.norms.batch_norm import BatchNorm as BatchNorm
from jaxnorm.norms.core.axes import count_groups
from jaxnorm.norms.core.moments import Moments
from jaxnorm.norms.group_norm import GroupNorm as GroupNorm
from jaxnorm.norms.instance_norm import InstanceNorm as InstanceNorm
from jaxnorm.norms.layer_norm import LayerNorm as LayerNorm
from jaxnorm.norms.rms_norm import RMSNorm as RMSNorm

NormSpec = LayerNorm | RMSNorm | GroupNorm | InstanceNorm | BatchNorm
KINDS = (LayerNorm, RMSNorm, GroupNorm, InstanceNorm, BatchNorm)

FEATURES_LAST = "features are on the last axis here: move axis 1 of its inputs to the end"
"""The note for normalizers of libraries with features on axis 1 (or on axis 0 of an example)."""


class Names(NamedTuple):
    """The names of a normalizer's arrays in a library."""

    scale: str
    bias: str
    mean: str = ""
    var: str = ""


def load(arrays: Arrays, spec: Any, names: Names, *, count: float = 1.0, notes: tuple[str, ...] = ()) -> Imported:
    """Loads weights and running statistics for a spec; ``count`` replaces the unrecorded number of elements."""
    if not isinstance(spec, KINDS):
        raise TypeError(
            f"{arrays.where}: spec must be one of {', '.join(kind.__name__ for kind in KINDS)}, got "
            f"{objects.describe(spec)}. Names of arrays do not tell epsilon, axes and groups."
        )
    wanted = _wanted(spec, names)
    arrays = locate(arrays, spec, names)
    arrays.expect(wanted)
    shape = arrays.shape(wanted[0]) if wanted else ()
    params = Affine(
        *(
            to_device(arrays.take(name, shape, f"that of {wanted[0]}")) if used else None
            for name, used in ((names.scale, spec.use_scale), (names.bias, spec.use_bias))
        )
    )
    stats: Any = ()
    if isinstance(spec, BatchNorm):
        refuse_unlike(arrays.where, spec, debias=False)  # debias needs the true count, which nobody records
        mean, var = (to_device(arrays.take(name, shape, f"that of {wanted[0]}")) for name in (names.mean, names.var))
        stats = Moments(mean, var, jnp.asarray(count, jnp.float32))
    if isinstance(spec, GroupNorm) and shape:
        count_groups(arrays.where, shape[0], spec.num_groups, spec.group_size, "of the arrays")
    arrays.finish("They belong to no normalizer with use_scale, use_bias and kind of the spec.")
    return Imported(spec, params, stats, (*notes, *arrays.notes))


def _wanted(spec: NormSpec, names: Names) -> list[str]:
    """Returns the names of the arrays of a normalizer."""
    wanted = [name for name, used in ((names.scale, spec.use_scale), (names.bias, spec.use_bias)) if used]
    return wanted + [names.mean, names.var] * isinstance(spec, BatchNorm)


def locate(arrays: Arrays, spec: Any, names: Names, besides: tuple[str, ...] = ()) -> Arrays:
    """Returns the arrays of the one normalizer with this spec, whose names may lie deeper in a model."""
    wanted = _wanted(spec, names) if isinstance(spec, KINDS) else []
    if not wanted or any(name in arrays for name in wanted):
        return arrays
    axes = len(spec.axis) if isinstance(spec, LayerNorm | RMSNorm) and isinstance(spec.axis, tuple) else 1
    kinds = {}
    for prefix in arrays.prefixes(wanted[0]):
        own = arrays.under(prefix)
        leaves = {name for name in own.names if "." not in name and "/" not in name}
        if leaves - {*besides} == {*wanted} and {len(own.shape(name)) for name in wanted} == {axes}:
            kinds[prefix] = type(spec).__name__
    return arrays.only(kinds) if kinds else arrays


def arrays_of(caller: str, spec: Any, params: Any, stats: Any, names: Names) -> dict[str, Host]:
    """Extracts the arrays of a normalizer, keyed by name."""
    if not isinstance(spec, KINDS):
        kinds = ", ".join(kind.__name__ for kind in KINDS)
        refuse(caller, repr(spec), f"of normalizers only {kinds} have a counterpart there.")
    if not isinstance(params, Affine):
        raise TypeError(f"{caller}: params must be Affine(scale, bias), got {type(params).__name__}.")
    found: dict[str, Any] = {}
    for name, value, used in (
        (names.scale, params.scale, spec.use_scale),
        (names.bias, params.bias, spec.use_bias),
    ):
        if (value is not None) != used:
            raise ValueError(f"{caller}: {spec!r} does not fit the {name} of params, {value}. Do both belong together?")
        if used:
            found[name] = value
    if isinstance(spec, BatchNorm):
        refuse_unlike(caller, spec, debias=False)
        if not isinstance(stats, Moments):
            raise TypeError(f"{caller}: stats must be the running Moments of {spec!r}, got {stats!r}.")
        found |= {names.mean: stats.mean, names.var: stats.var}
    elif stats not in ((), None):
        raise TypeError(f"{caller}: {type(spec).__name__} has no running statistics, got stats={stats!r}.")
    shapes = {np.shape(value) for value in found.values()}
    if len(shapes) > 1:
        raise ValueError(f"{caller}: the arrays of {spec!r} have different shapes, {sorted(shapes)}.")
    return {name: to_numpy(value) for name, value in found.items()}


def refuse_unlike(caller: str, spec: Any, **only: Any) -> None:
    """Refuses a spec unless the given fields have the only values that the other library supports."""
    for field in dataclasses.fields(spec):
        if field.name in only and getattr(spec, field.name) != only[field.name]:
            refuse(
                caller,
                f"{type(spec).__name__} with {field.name}={getattr(spec, field.name)!r}",
                f"the layer there knows {field.name}={only[field.name]!r} only.",
            )
