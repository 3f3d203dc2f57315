"""Kernels that PyTorch computes from trained weights: weight and spectral norm, by old hooks or parametrizations."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnorm._base.typing import Axis
from jaxnorm.convert.shared.arrays import Arrays, Host, to_device, to_numpy
from jaxnorm.convert.shared.base import Imported, refuse, settle
from jaxnorm.convert.shared.files import caller, is_path
from jaxnorm.convert.torch.state import read as read_state
from jaxnorm.convert.torch.state import to_host
from jaxnorm.weight_norms.base import KernelParams, check_weight_normalizer
from jaxnorm.weight_norms.spectral_norm import SpectralNorm, SpectralState
from jaxnorm.weight_norms.weight_norm import WeightNorm

WEIGHT = (("parametrizations.{}.original0", "parametrizations.{}.original1"), ("{}_g", "{}_v"))
"""The names of g and v in a parametrization and in the old hook."""
SPECTRAL = (
    ("parametrizations.{}.original", "parametrizations.{}.0._u", "parametrizations.{}.0._v"),
    ("{}_orig", "{}_u", "{}_v"),
)
"""The names of the weight and of both singular vectors."""


def load_kernel(source: Any, spec: Any = None, *, name: str = "weight", gates: int = 1, prefix: str = "") -> Imported:
    """Loads the trained weights behind a kernel with weight or spectral normalization.

    Args:
      source: a live module of any kind, a state dict, or the path of a safetensors file; with
        ``torch.nn.utils.parametrizations`` or with the older hooks.
      spec: for a state dict, a ``SpectralNorm`` with the number of iterations and the epsilon, if they are not the
        defaults; a live module knows them.
      name: the weight, such as ``"weight_hh_l0"``.
      gates: 4 for a weight of an LSTM, 3 for one of a GRU, which make the kernel (I, G, H).
      prefix: the prefix of the names of one layer in the state dict of a larger model.

    Returns:
      Imported(spec, params, stats) with ``WeightNorm`` or ``SpectralNorm``, ``KernelParams``, and the state.
      ``spec(params, stats)`` is the kernel: (I, O), (window..., I, O) of a convolution, or (I, G, H).

    Raises:
      TypeError: an array does not have a floating-point dtype that JAX supports.
      ValueError: the weight is not normalized, or along another axis than its first.

    Example:
      >>> import numpy as np
      >>> from jaxnorm import convert
      >>> state = {"weight_g": np.full((2, 1), 10.0, "f"), "weight_v": np.array([[3.0, 4.0], [0.0, 1.0]], "f")}
      >>> found = convert.torch.load_kernel(state)
      >>> found.spec(found.params).T.tolist()
      [[6.0, 8.0], [0.0, 10.0]]

    Notes:
      This reads only the arrays of this kernel, not its bias. A state dict does not record the axis of a spectral
      normalization; we assume the first (transposed convolutions have another).
    """
    where = caller("convert.torch.load_kernel", source)
    values, prefix = read_state(where, source, prefix)
    arrays = Arrays(where, {prefix + key: to_host(value) for key, value in values.items()}, prefix)
    told = None if isinstance(source, Mapping) or is_path(source) else spectral_options(where, source, name, gates)
    if told is not None:
        spec = settle(where, told, spec)
    return Imported(*read(arrays, name, gates, spec))


def export_kernel(
    spec: Any, params: Any, state: Any = (), *, name: str = "weight", hook: bool = False
) -> dict[str, Host]:
    """Exports the arrays behind a kernel with weight or spectral normalization, under the names of PyTorch.

    Args:
      spec: a ``WeightNorm`` or a ``SpectralNorm`` without a scale, with units along the last axes.
      params: its ``KernelParams``.
      state: the ``SpectralState``.
      name: the weight.
      hook: whether to use the names of the older hooks (``weight_g``) instead of parametrizations.

    Returns:
      Arrays by name, without the bias; they are part of a state dict.

    Raises:
      TypeError: params are not ``KernelParams``.
      ValueError: something has no counterpart in PyTorch.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> from jaxnorm import convert
      >>> spec = jaxnorm.WeightNorm()
      >>> params, _ = spec.init(jnp.ones((4, 1)))
      >>> convert.torch.export_kernel(spec, params, hook=True)["weight_g"].tolist()
      [[2.0]]
    """
    check_weight_normalizer("convert.torch.export_kernel", "spec", spec)
    return write("convert.torch.export_kernel", spec, params, state, name, hook)


def names_in(names: Any) -> list[str]:
    """Returns the weights among these names that PyTorch computes from others."""
    found = []
    for name in names:
        parts = name.split(".")
        if parts[0] == "parametrizations" and parts[1] not in found:
            found.append(parts[1])
        for end in ("_g", "_orig"):
            own = name.removesuffix(end)
            if "." not in name and name.endswith(end) and f"{own}_v" in names:
                found.append(own)
    return found


def read(arrays: Arrays, name: str, gates: int, spec: Any) -> tuple[Any, KernelParams, Any]:
    """Reads spec, trained weights and state behind the weight of this name."""
    where = arrays.where
    for g, v in (tuple(each.format(name) for each in style) for style in WEIGHT):
        if g in arrays and v in arrays:
            weight = arrays.take(v)
            rows, axes = weight.shape[0], weight.ndim
            scale = arrays.take(g)
            if scale.ndim == 0:
                made: Any = WeightNorm(tuple(range(axes + (gates > 1))))
            elif scale.shape == (rows,) + (1,) * (axes - 1):
                made = WeightNorm(_input_axes(axes, gates))
                scale = scale.reshape((rows,) if gates == 1 else (gates, -1))
            else:
                refuse(
                    where,
                    f"{arrays.prefix}{g} with shape {scale.shape}",
                    "units lie along axis 0 of a weight (dim=0, or None).",
                )
            _check_spec(where, spec, made)
            return made, KernelParams(to_device(_from_torch(weight, gates)), to_device(scale)), ()
    for original, u, v in (tuple(each.format(name) for each in style) for style in SPECTRAL):
        if original in arrays and u in arrays:
            weight = arrays.take(original)
            left = arrays.take(u, (weight.shape[0],), "(units,)")
            right = arrays.take(v, (weight[0].size,), "(inputs,), as with dim=0,")
            made = spec or SpectralNorm(_input_axes(weight.ndim, gates))
            _check_spec(where, made, SpectralNorm(made.axis if isinstance(made, SpectralNorm) else None))
            inputs = np.moveaxis(right.reshape(weight.shape[1:]), 0, -1).ravel()
            state = SpectralState(to_device(left), to_device(inputs))
            return made, KernelParams(to_device(_from_torch(weight, gates))), state
    raise ValueError(
        f"{where}: {arrays.prefix}{name} is not normalized; there are {', '.join(arrays.names)}. Names of arrays end "
        "in _g and _v, or _orig, _u and _v, or begin with parametrizations."
    )


def spectral_options(caller: str, module: Any, name: str, gates: int) -> SpectralNorm | None:
    """Reads the spectral normalization of a live module, a parametrization or the old hook; None if it has none."""
    candidates = list(getattr(module, "_forward_pre_hooks", {}).values())
    if name in getattr(module, "parametrizations", {}):
        candidates += list(module.parametrizations[name])
    for found in candidates:
        if hasattr(found, "n_power_iterations") and getattr(found, "name", name) == name:
            if found.dim != 0:
                refuse(caller, f"spectral normalization with dim={found.dim}", "units lie along axis 0 of a weight.")
            # Not the attribute of that name: a parametrization would advance u and v when it is read.
            trained = getattr(module, f"{name}_orig", None)
            trained = module.parametrizations[name].original if trained is None else trained
            axis = _input_axes(trained.ndim, gates)
            return SpectralNorm(axis, iterations=found.n_power_iterations, epsilon=found.eps)
    return None


def write(caller: str, spec: Any, params: KernelParams, state: Any, name: str, old: bool) -> dict[str, Host]:
    """Returns the arrays behind a weight, keyed by name."""
    if not isinstance(params, KernelParams):
        raise TypeError(f"{caller}: params must be KernelParams(kernel, scale), got {type(params).__name__}.")
    gates = params.kernel.shape[1] if spec.axis in (0, (0,)) and params.kernel.ndim == 3 else 1
    weight = _to_torch(to_numpy(params.kernel), gates)
    axes = params.kernel.ndim
    own = {None, 0, (0,)} if axes == 2 or gates > 1 else {tuple(range(axes - 1))} | ({None} if axes > 3 else set())
    if isinstance(spec, WeightNorm) and params.scale is not None:
        g, v = (each.format(name) for each in WEIGHT[old])
        if spec.axis in own:
            scale = to_numpy(params.scale).reshape((weight.shape[0],) + (1,) * (weight.ndim - 1))
        elif np.ndim(params.scale) == 0:
            scale = to_numpy(params.scale)
        else:
            refuse(caller, repr(spec), "a unit of PyTorch is a row of the weight, or there is one for all.")
        return {g: scale, v: weight}
    if isinstance(spec, SpectralNorm) and not spec.use_scale and spec.axis in own:
        original, u, v = (each.format(name) for each in SPECTRAL[old])
        inputs = to_numpy(state.v).reshape((*weight.shape[2:], weight.shape[1]))
        return {original: weight, u: to_numpy(state.u), v: np.moveaxis(inputs, -1, 0).ravel()}
    refuse(caller, repr(spec), "PyTorch has weight normalization with a scale, and spectral normalization without.")


def effective(caller: str, values: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Any], tuple[str, ...]]:
    """Computes all weights that the layer multiplies by, with a note on each normalized one."""
    found, notes = dict(values), []
    for name in names_in(found):
        arrays = Arrays(caller, {prefix + key: value for key, value in found.items()}, prefix)
        spec, params, state = read(arrays, name, 1, None)
        kernel = to_numpy(spec(params, state))
        found = {key: value for key, value in found.items() if key not in arrays.taken}
        found[name] = _to_torch(kernel, 1)
        notes.append(f"{name} is what {type(spec).__name__} makes of trained weights: load_kernel gives those")
    return found, tuple(notes)


def _input_axes(axes: int, gates: int) -> Axis | None:
    """Returns the input axes of the kernel of a weight whose first axis counts the units."""
    if gates > 1:
        return 0
    return (0, 1) if axes == 3 else None


def _check_spec(caller: str, spec: Any, made: Any) -> None:
    if spec is not None and (type(spec) is not type(made) or spec.axis != made.axis):
        raise ValueError(f"{caller}: spec is {spec!r}, but the weights are those of {made!r}. Leave it out.")


def _from_torch(weight: Host, gates: int) -> Host:
    """Transposes (O, I, *window) to (*window, I, O), or (G H, I) to (I, G, H)."""
    kernel = np.moveaxis(weight, (0, 1), (-1, -2))
    return kernel if gates == 1 else kernel.reshape(kernel.shape[0], gates, -1)


def _to_torch(kernel: Host, gates: int) -> Host:
    kernel = kernel if gates == 1 else kernel.reshape(kernel.shape[0], -1)
    return np.ascontiguousarray(np.moveaxis(kernel, (-1, -2), (0, 1)))
