"""Programs of Keras 3 on its JAX backend: its plain layers, and normalized cells of its Dense and LayerNormalization.

There is no BN-LSTM: what is updated inside its RNN layer is not kept.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"  # before the import; nothing else may be measured here

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import keras
from keras import layers

from benchmarks.programs.base import (
    BATCH_MAJOR,
    EPSILON,
    MOMENTUM,
    JaxProgram,
    Unsupported,
    cell_program,
    group_count,
    norm_program,
)
from benchmarks.programs.equations import gru_step, lstm_step, split_gates
from benchmarks.shapes import Shape

if keras.backend.backend() != "jax":
    raise ImportError("keras runs on another backend already; it is measured on JAX only")


class LNLSTMCell(layers.Layer):
    """The equations of ``jaxnorm.ln_lstm``."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = units
        self.state_size = [units, units]
        self.output_size = units
        self.kernel = layers.Dense(4 * units, use_bias=False, name="kernel")
        self.recurrent = layers.Dense(4 * units, use_bias=False, name="recurrent")
        for name in ("norm_input", "norm_recurrent", "norm_cell"):
            setattr(self, name, layers.LayerNormalization(epsilon=EPSILON, name=name))

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Makes the weights."""
        rows, units = input_shape[0], self.units
        self.kernel.build(input_shape)
        self.recurrent.build((rows, units))
        self.norm_input.build((rows, 4 * units))
        self.norm_recurrent.build((rows, 4 * units))
        self.norm_cell.build((rows, units))
        self.bias = self.add_weight(shape=(4 * units,), initializer="zeros", name="bias")

    def call(self, inputs: jax.Array, states: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
        """One step; states in Keras's order h, c."""
        h, c = states
        gates = self.norm_input(self.kernel(inputs)) + self.norm_recurrent(self.recurrent(h))
        c, h = lstm_step(gates + keras.ops.cast(self.bias, gates.dtype), c, self.norm_cell)
        return h, [h, c]


class LNGRUCell(layers.Layer):
    """The equations of ``jaxnorm.ln_gru``."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = units
        self.state_size = units
        self.output_size = units
        self.kernel = layers.Dense(3 * units, use_bias=False, name="kernel")
        self.recurrent = layers.Dense(3 * units, use_bias=False, name="recurrent")
        for site in ("norm_input", "norm_recurrent"):
            for name in (f"{site}_gates", f"{site}_candidate"):
                setattr(self, name, layers.LayerNormalization(epsilon=EPSILON, name=name))

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Makes the weights."""
        rows, units = input_shape[0], self.units
        self.kernel.build(input_shape)
        self.recurrent.build((rows, units))
        for norm in (self.norm_input_gates, self.norm_recurrent_gates):
            norm.build((rows, 2 * units))
        for norm in (self.norm_input_candidate, self.norm_recurrent_candidate):
            norm.build((rows, units))
        self.bias = self.add_weight(shape=(3 * units,), initializer="zeros", name="bias")
        self.recurrent_bias = self.add_weight(shape=(3 * units,), initializer="zeros", name="recurrent_bias")

    def call(self, inputs: jax.Array, states: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
        """One step."""
        x_gates, x_candidate = split_gates(self.kernel(inputs))
        h_gates, h_candidate = split_gates(self.recurrent(states[0]))
        b_gates, b_candidate = split_gates(keras.ops.cast(self.bias, x_gates.dtype))
        d_gates, d_candidate = split_gates(keras.ops.cast(self.recurrent_bias, x_gates.dtype))
        z = self.norm_input_gates(x_gates) + b_gates, self.norm_input_candidate(x_candidate) + b_candidate
        a = self.norm_recurrent_gates(h_gates) + d_gates, self.norm_recurrent_candidate(h_candidate) + d_candidate
        h = gru_step(z, a, states[0])
        return h, [h]


def _policy(dtype: str) -> str:
    return "float32" if dtype == "float32" else "mixed_bfloat16"


def _function(layer: Any, **call: Any) -> tuple[Any, dict[str, jax.Array], list[jax.Array]]:
    """A built layer as ``apply``, parameters by path, and the rest of its variables."""
    paths = [variable.path for variable in layer.trainable_variables]

    def apply(params: Any, rest: Any, xs: jax.Array) -> tuple[jax.Array, Any]:
        outputs, rest = layer.stateless_call([params[path] for path in paths], rest, xs, **call)
        return outputs, rest

    params = {variable.path: variable.value for variable in layer.trainable_variables}
    return apply, params, [variable.value for variable in layer.non_trainable_variables]


def build(shape: Shape, dtype: str, *, layer: Callable[[int], Any]) -> JaxProgram:
    """A recurrent layer; Keras has the batch first."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_policy(dtype))
    try:
        made = layer(shape.hidden)
        made.build((shape.batch, shape.steps, shape.inputs))
    finally:
        keras.config.set_dtype_policy(before)
    apply, params, rest = _function(made)
    return cell_program(apply, params, shape, dtype, state=rest, order=BATCH_MAJOR)


def build_gru(shape: Shape, dtype: str) -> JaxProgram:
    """The plain GRU."""
    if dtype != "float32":
        raise Unsupported("its GRU turns a bfloat16 state into a float32 one")
    return build(shape, dtype, layer=partial(layers.GRU, return_sequences=True))


PROGRAMS = {
    "keras": {
        "lstm": partial(build, layer=partial(layers.LSTM, return_sequences=True)),
        "gru": build_gru,
        "ln_lstm": partial(build, layer=lambda units: layers.RNN(LNLSTMCell(units), return_sequences=True)),
        "ln_gru": partial(build, layer=lambda units: layers.RNN(LNGRUCell(units), return_sequences=True)),
    }
}


def build_norm(shape: tuple[int, ...], dtype: str, *, norm: Any, **options: Any) -> JaxProgram:
    """A normalizer; batch norm in training."""
    layer = norm(epsilon=EPSILON, dtype=_policy(dtype), **options)
    layer.build(shape)
    call = {"training": True} if norm is layers.BatchNormalization else {}
    apply, params, rest = _function(layer, **call)
    return norm_program(apply, params, shape, dtype, state=rest)


def build_group_norm(shape: tuple[int, ...], dtype: str) -> JaxProgram:
    """Group norm."""
    return build_norm(shape, dtype, norm=layers.GroupNormalization, groups=group_count(shape[-1]))


NORMS = {
    "layer_norm": partial(build_norm, norm=layers.LayerNormalization),
    "rms_norm": partial(build_norm, norm=layers.RMSNormalization),
    "batch_norm": partial(build_norm, norm=layers.BatchNormalization, momentum=MOMENTUM),
    "group_norm": build_group_norm,
}
