"""Programs of Flax NNX: its plain cells, and normalized cells made of its Linear, LayerNorm and BatchNorm."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.programs.base import EPSILON, MOMENTUM, JaxProgram, cell_program, group_count, norm_program
from benchmarks.programs.equations import SCALE_OF_BN, gru_step, lstm_step, split_gates
from benchmarks.shapes import Shape


class LNLSTMCell(nnx.RNNCellBase):
    """The equations of ``jaxnorm.ln_lstm``."""

    def __init__(self, in_features: int, hidden_features: int, *, dtype: Any, rngs: nnx.Rngs) -> None:
        self.hidden_features = hidden_features
        self.dtype = dtype
        self.kernel = nnx.Linear(in_features, 4 * hidden_features, use_bias=False, dtype=dtype, rngs=rngs)
        self.recurrent = nnx.Linear(hidden_features, 4 * hidden_features, use_bias=False, dtype=dtype, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(4 * hidden_features))
        self.norm_input = self.make_norm(4 * hidden_features, rngs, use_bias=True)
        self.norm_recurrent = self.make_norm(4 * hidden_features, rngs, use_bias=True)
        self.norm_cell = self.make_norm(hidden_features, rngs, use_bias=True)

    def make_norm(self, features: int, rngs: nnx.Rngs, *, use_bias: bool) -> Any:
        """The normalizer of a site."""
        return nnx.LayerNorm(features, epsilon=EPSILON, dtype=self.dtype, use_bias=use_bias, rngs=rngs)

    @property
    def num_feature_axes(self) -> int:
        """Features are one axis."""
        return 1

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None
    ) -> tuple[jax.Array, jax.Array]:
        """Zeros for c and h."""
        zeros = jnp.zeros((*input_shape[:-1], self.hidden_features))
        return zeros, zeros

    def __call__(self, carry: tuple[jax.Array, jax.Array], x: jax.Array) -> tuple[Any, jax.Array]:
        """One step."""
        c, h = carry
        gates = self.norm_input(self.kernel(x)) + self.norm_recurrent(self.recurrent(h))
        c, h = lstm_step(gates + self.bias[...].astype(gates.dtype), c, self.norm_cell)
        c, h = c.astype(carry[0].dtype), h.astype(carry[1].dtype)
        return (c, h), h


class BNLSTMCell(LNLSTMCell):
    """The equations of ``jaxnorm.bn_lstm``, in training; the gates have one bias, the cell's."""

    def __init__(self, in_features: int, hidden_features: int, steps: int, *, dtype: Any, rngs: nnx.Rngs) -> None:
        super().__init__(in_features, hidden_features, dtype=dtype, rngs=rngs)
        self.norm_input = self.make_norm(4 * hidden_features, rngs, use_bias=False)
        self.norm_recurrent = self.make_norm(4 * hidden_features, rngs, use_bias=False)
        for norm in (self.norm_input, self.norm_recurrent, self.norm_cell):  # a row of statistics for each step
            norm.mean = nnx.BatchStat(jnp.broadcast_to(norm.mean[...], (steps, *norm.mean.shape)))
            norm.var = nnx.BatchStat(jnp.broadcast_to(norm.var[...], (steps, *norm.var.shape)))

    def make_norm(self, features: int, rngs: nnx.Rngs, *, use_bias: bool) -> Any:
        """The normalizer of a site."""
        return nnx.BatchNorm(
            features,
            use_running_average=False,
            momentum=MOMENTUM,
            epsilon=EPSILON,
            dtype=self.dtype,
            use_bias=use_bias,
            scale_init=nnx.initializers.constant(SCALE_OF_BN),
            rngs=rngs,
        )


class LNGRUCell(nnx.RNNCellBase):
    """The equations of ``jaxnorm.ln_gru``."""

    def __init__(self, in_features: int, hidden_features: int, *, dtype: Any, rngs: nnx.Rngs) -> None:
        self.hidden_features = hidden_features
        linear = partial(nnx.Linear, use_bias=False, dtype=dtype, rngs=rngs)
        norm = partial(nnx.LayerNorm, epsilon=EPSILON, dtype=dtype, rngs=rngs)
        self.kernel = linear(in_features, 3 * hidden_features)
        self.recurrent = linear(hidden_features, 3 * hidden_features)
        self.bias = nnx.Param(jnp.zeros(3 * hidden_features))
        self.recurrent_bias = nnx.Param(jnp.zeros(3 * hidden_features))
        self.norm_input_gates = norm(2 * hidden_features)
        self.norm_input_candidate = norm(hidden_features)
        self.norm_recurrent_gates = norm(2 * hidden_features)
        self.norm_recurrent_candidate = norm(hidden_features)

    @property
    def num_feature_axes(self) -> int:
        """Features are one axis."""
        return 1

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> jax.Array:
        """Zeros for h."""
        return jnp.zeros((*input_shape[:-1], self.hidden_features))

    def __call__(self, h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One step."""
        x_gates, x_candidate = split_gates(self.kernel(x))
        h_gates, h_candidate = split_gates(self.recurrent(h))
        b_gates, b_candidate = split_gates(self.bias[...].astype(x_gates.dtype))
        d_gates, d_candidate = split_gates(self.recurrent_bias[...].astype(x_gates.dtype))
        inputs = self.norm_input_gates(x_gates) + b_gates, self.norm_input_candidate(x_candidate) + b_candidate
        recurrents = (
            self.norm_recurrent_gates(h_gates) + d_gates,
            self.norm_recurrent_candidate(h_candidate) + d_candidate,
        )
        new = gru_step(inputs, recurrents, h).astype(h.dtype)
        return new, new


def _function(module: nnx.Module) -> tuple[Any, Any, Any]:
    """A module as ``apply``, parameters and statistics."""
    parts: Any = nnx.split(module, nnx.Param, nnx.BatchStat, ...)
    graph, params, stats, rest = parts

    def apply(params: Any, stats: Any, xs: jax.Array) -> tuple[jax.Array, Any]:
        live = nnx.merge(graph, params, stats, rest, copy=True)
        return live(xs), nnx.state(live, nnx.BatchStat)

    return apply, params, stats


def build(shape: Shape, dtype: str, *, cell: Any) -> JaxProgram:
    """A cell in ``nnx.RNN``."""
    made = cell(shape.inputs, shape.hidden, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))
    apply, params, stats = _function(nnx.RNN(made, time_major=True))
    return cell_program(apply, params, shape, dtype, state=stats)


def build_bn_lstm(shape: Shape, dtype: str) -> JaxProgram:
    """The BN-LSTM in ``nnx.RNN``, which goes through the rows of statistics with the steps."""
    cell = BNLSTMCell(shape.inputs, shape.hidden, shape.steps, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))
    axes: dict[Any, Any] = {nnx.BatchStat: 0, nnx.Param: None, ...: nnx.Carry}
    apply, params, stats = _function(nnx.RNN(cell, time_major=True, state_axes=nnx.StateAxes(axes)))
    return cell_program(apply, params, shape, dtype, state=stats)


PROGRAMS = {
    "nnx": {
        "lstm": partial(build, cell=nnx.LSTMCell),
        "gru": partial(build, cell=nnx.GRUCell),
        "ln_lstm": partial(build, cell=LNLSTMCell),
        "ln_gru": partial(build, cell=LNGRUCell),
        "bn_lstm": build_bn_lstm,
    },
    "nnx-optimized": {"lstm": partial(build, cell=nnx.OptimizedLSTMCell)},
}


def build_norm(shape: tuple[int, ...], dtype: str, *, norm: Any, **options: Any) -> JaxProgram:
    """A normalizer with float32 parameters."""
    module = norm(shape[-1], epsilon=EPSILON, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0), **options)
    apply, params, stats = _function(module)
    return norm_program(apply, params, shape, dtype, state=stats)


def build_group_norm(shape: tuple[int, ...], dtype: str) -> JaxProgram:
    """Group norm."""
    return build_norm(shape, dtype, norm=nnx.GroupNorm, num_groups=group_count(shape[-1]))


NORMS = {
    "layer_norm": partial(build_norm, norm=nnx.LayerNorm),
    "rms_norm": partial(build_norm, norm=nnx.RMSNorm),
    "batch_norm": partial(build_norm, norm=nnx.BatchNorm, use_running_average=False, momentum=MOMENTUM),
    "group_norm": build_group_norm,
}
