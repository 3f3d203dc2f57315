"""Builds cells from arrays and extracts arrays from cells, with all checks; all converters use this."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm.cells.elman import Elman, ElmanParams
from jaxnorm.cells.gru import GRU, GRUParams
from jaxnorm.cells.lstm import LSTM, LSTMParams
from jaxnorm.cells.sites import CellNorms
from jaxnorm.convert.shared.arrays import Host, to_device, to_numpy
from jaxnorm.convert.shared.base import NEUTRAL, refuse, settle
from jaxnorm.engine.arguments.checks import check_params
from jaxnorm.zoo.cells.convolution.conv_lstm import ConvLSTM
from jaxnorm.zoo.cells.gru.mgu import MGU, MGUParams
from jaxnorm.zoo.cells.gru.reset_before_gru import ResetBeforeGRU, ResetBeforeGRUParams
from jaxnorm.zoo.cells.lstm.projected_lstm import ProjectedLSTM, ProjectedLSTMParams

PLAIN = NEUTRAL | {"gate_groups", "update_gate", "max_steps"}
"""Fields that do not change a cell without normalizers, or only the sign of its weights (update_gate)."""

FREE: dict[type, tuple[str, ...]] = {
    ProjectedLSTM: ("projected_features",),
    MGU: ("reset",),
    ConvLSTM: ("image_shape", "kernel_size", "strides", "padding", "dilation"),
}
"""Fields that change a plain cell and that other libraries have, too."""


class Parts(NamedTuple):
    """The arrays of a plain cell, with gates in our order; z of a GRU is the share of the old state that it keeps."""

    kernel: Host
    recurrent: Host
    bias: Host | None = None
    recurrent_bias: Host | None = None
    projection: Host | None = None


Functions: TypeAlias = Mapping[str, Any]
"""The nonlinearities of a cell, by the names of its fields."""

USUAL: Functions = MappingProxyType({})
FUNCTIONS = ("gate_fn", "activation_fn")

CellSpec: TypeAlias = LSTM | ProjectedLSTM | ConvLSTM | GRU | ResetBeforeGRU | MGU | Elman


def lstm(caller: str, parts: Parts, spec: Any = None, functions: Functions = USUAL) -> tuple[LSTM, LSTMParams]:
    """Builds a plain LSTM."""
    kernel, recurrent, bias = parts[:3]
    made = LSTM(recurrent.shape[-1], use_bias=bias is not None, param_dtype=kernel.dtype, **functions)
    cell = settle(caller, made, spec, PLAIN)
    return cell, LSTMParams(to_device(kernel), to_device(recurrent), _maybe(bias), CellNorms())


def projected_lstm(
    caller: str, parts: Parts, projection: Host, spec: Any = None
) -> tuple[ProjectedLSTM, ProjectedLSTMParams]:
    """Builds a plain LSTM with a recurrent projection."""
    kernel, recurrent, bias = parts[:3]
    hidden, projected = projection.shape
    made = ProjectedLSTM(hidden, projected, use_bias=bias is not None, param_dtype=kernel.dtype)
    cell = settle(caller, made, spec, PLAIN)
    arrays = (to_device(kernel), to_device(recurrent), to_device(projection), _maybe(bias))
    return cell, ProjectedLSTMParams(*arrays, CellNorms())


def gru(caller: str, parts: Parts, spec: Any = None, functions: Functions = USUAL) -> tuple[GRU, GRUParams]:
    """Builds a plain GRU with the reset gate after the product."""
    use_bias, dtype = parts.bias is not None, parts.kernel.dtype
    made = GRU(parts.recurrent.shape[-1], use_bias=use_bias, param_dtype=dtype, **functions)
    cell = settle(caller, made, spec, PLAIN)
    if cell.update_gate == "renew":
        parts = turned(parts)
    kernel, recurrent, bias, recurrent_bias = parts[:4]
    return cell, GRUParams(to_device(kernel), to_device(recurrent), _maybe(bias), _maybe(recurrent_bias), CellNorms())


def reset_before_gru(
    caller: str, parts: Parts, spec: Any = None, update_gate: Any = "keep", functions: Functions = USUAL
) -> tuple[ResetBeforeGRU, ResetBeforeGRUParams]:
    """Builds a plain GRU with the reset gate before the product; the parts follow the given convention for z."""
    options: dict[str, Any] = {"use_bias": parts.bias is not None, "param_dtype": parts.kernel.dtype, **functions}
    made = ResetBeforeGRU(parts.recurrent.shape[-1], update_gate=update_gate, **options)
    cell = settle(caller, made, spec, PLAIN)
    if cell.update_gate != update_gate:
        parts = turned(parts)
    kernel, recurrent, bias = parts[:3]
    return cell, ResetBeforeGRUParams(to_device(kernel), to_device(recurrent), _maybe(bias), CellNorms())


def mgu(caller: str, parts: Parts, spec: Any = None, functions: Functions = USUAL) -> tuple[MGU, MGUParams]:
    """Builds a plain MGU whose gate keeps the old state; it resets where there is a recurrent bias of the candidate."""
    kernel, recurrent, bias, recurrent_bias = parts[:4]
    reset: Any = "none" if recurrent_bias is None else "recurrent"
    made = MGU(recurrent.shape[-1], reset=reset, use_bias=bias is not None, param_dtype=kernel.dtype)
    cell = settle(caller, made, spec, _neutral(MGU))
    arrays = (to_device(kernel), to_device(recurrent), _maybe(bias), _maybe(recurrent_bias))
    return cell, MGUParams(*arrays, CellNorms())


def elman(caller: str, parts: Parts, activation: Callable[..., Any], spec: Any = None) -> tuple[Elman, ElmanParams]:
    """Builds a plain Elman cell."""
    kernel, recurrent, bias = parts[:3]
    made = Elman(recurrent.shape[-1], activation_fn=activation, use_bias=bias is not None, param_dtype=kernel.dtype)
    cell = settle(caller, made, spec, PLAIN)
    return cell, ElmanParams(to_device(kernel), to_device(recurrent), _maybe(bias), CellNorms())


def parts_of(caller: str, cell: CellSpec, params: Any, *, any_functions: bool = False) -> Parts:
    """Extracts the arrays of a plain cell; refuses any feature that plain cells of other libraries lack.

    ``any_functions`` allows any nonlinearities, for libraries whose cells have them as options.
    """
    same = {name: getattr(cell, name) for name in FREE.get(type(cell), ())}
    if any_functions or isinstance(cell, Elman):
        same |= functions_of(cell)
    neutral = _neutral(type(cell))
    plain = type(cell)(hidden_features=cell.hidden_features, use_bias=cell.use_bias, **same)
    for field in dataclasses.fields(cell):
        value = getattr(cell, field.name)
        if field.name not in neutral and value != getattr(plain, field.name):
            refuse(caller, f"{field.name}={value!r}", "the layer there has nothing like it.")
    check_params(cell, params, caller)
    if params.carry is not None:
        refuse(caller, "a learned initial carry", "hand it over as the initial state, and take it out of params.")
    parts = all_parts(params)
    return turned(parts) if getattr(cell, "update_gate", "keep") == "renew" else parts


def _neutral(kind: type) -> frozenset[str]:
    """Fields that do not change a plain cell: the gate of an MGU also resets, so its sign says which model it is."""
    return PLAIN - {"update_gate"} if kind is MGU else PLAIN


def all_parts(params: Any) -> Parts:
    """Extracts the kernels and biases of any cell."""
    arrays = (getattr(params, name, None) for name in Parts._fields)
    return Parts(*(None if array is None else to_numpy(array) for array in arrays))  # type: ignore[arg-type]


def turned(parts: Parts) -> Parts:
    """Converts a GRU to the other convention for z: flips the sign of the weights of z, and nothing else."""
    signs = np.repeat([1.0, -1.0, 1.0], parts.kernel.shape[-1])  # of a flat vector

    def turn(part: Host | None) -> Host | None:
        return None if part is None else (part.reshape(-1, signs.size) * signs.astype(part.dtype)).reshape(part.shape)

    return Parts(*map(turn, parts))  # type: ignore[arg-type]


def candidate_bias_only(caller: str, parts: Parts) -> Parts:
    """Makes the recurrent bias of a GRU zero except for the candidate: for r and z only the sum of biases matters."""
    if parts.bias is None or parts.recurrent_bias is None:
        return parts
    bias, recurrent_bias = parts.bias.copy(), parts.recurrent_bias.copy()
    r_and_z = slice(0, 2 * parts.kernel.shape[-1])
    bias[r_and_z] += recurrent_bias[r_and_z]
    recurrent_bias[r_and_z] = 0
    return parts._replace(bias=bias, recurrent_bias=recurrent_bias)


def recurrent_bias(of_candidate: Host, kernel: Host) -> Host:
    """Makes the recurrent bias of a GRU from that of its candidate, the last gate; r and z have zeros."""
    bias = np.zeros(math.prod(kernel.shape[1:]), kernel.dtype)
    bias[-of_candidate.size :] = of_candidate
    return bias


def add_biases(first: Host | None, second: Host | None) -> Host | None:
    """Adds two biases; either may be None."""
    if first is None or second is None:
        return second if first is None else first
    return np.asarray(first + second)


def zeros_for_none(part: Host | None, like: Host) -> Host:
    """Returns a bias, or zeros if the other library's layer has one and the cell has none."""
    return np.zeros(math.prod(like.shape[1:]), like.dtype) if part is None else part


def _maybe(part: Host | None) -> Any:
    return None if part is None else to_device(part)


def functions_of(spec: Any) -> dict[str, Callable[..., Any]]:
    """Returns the nonlinearities of a spec; arrays alone do not tell them, so the spec of the caller does."""
    return {name: getattr(spec, name) for name in FUNCTIONS if hasattr(spec, name)}


ACTIVATIONS: Functions = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "elu": jax.nn.elu,
    "softplus": jax.nn.softplus,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "softsign": jax.nn.soft_sign,
    "linear": jnp.positive,
    "celu": jax.nn.celu,
    "exponential": jnp.exp,
    "hard_silu": jax.nn.hard_silu,
    "hard_tanh": jax.nn.hard_tanh,
    "log_sigmoid": jax.nn.log_sigmoid,
    "mish": jax.nn.mish,
    "relu6": jax.nn.relu6,
    "selu": jax.nn.selu,
    "silu": jax.nn.silu,
}
"""Nonlinearities by their names in other libraries; only those that compute the same there with their defaults."""


def activation_named(caller: str, name: str) -> Callable[..., Any]:
    """Returns a nonlinearity by its name in other libraries."""
    if name not in ACTIVATIONS:
        refuse(caller, f"the activation {name!r}", f"known by name are {', '.join(ACTIVATIONS)}.")
    function: Callable[..., Any] = ACTIVATIONS[name]
    return function


def shown(function: Callable[..., Any]) -> str:
    """Returns the name of a function, for messages."""
    return getattr(function, "__name__", repr(function))


def check_named(caller: str, cell: CellSpec, names: Iterable[str] = ACTIVATIONS) -> None:
    """Refuses a nonlinearity of a cell that is not among those of the other library."""
    for field, function in functions_of(cell).items():
        if all(activation_named(caller, name) is not function for name in names):
            refuse(caller, f"{field}={shown(function)}", f"the layer there has {', '.join(names)} only.")
