"""Programs of Equinox: its plain cells, and normalized cells made of its Linear, LayerNorm and BatchNorm.

Its modules take one example, so everything is under ``vmap``. In bfloat16 parameters are float32 and cast at the
beginning of each call.
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from benchmarks.programs.base import (
    EPSILON,
    MOMENTUM,
    JaxProgram,
    cell_program,
    features_last,
    features_second,
    group_count,
    norm_program,
    stateless,
)
from benchmarks.programs.equations import SCALE_OF_BN, gru_step, lstm_step, split_gates
from benchmarks.shapes import Shape

BATCH = "batch"


class LNLSTMCell(eqx.Module):
    """The equations of ``jaxnorm.ln_lstm``."""

    kernel: eqx.nn.Linear
    recurrent: eqx.nn.Linear
    bias: jax.Array
    norm_input: eqx.nn.LayerNorm
    norm_recurrent: eqx.nn.LayerNorm
    norm_cell: eqx.nn.LayerNorm

    def __init__(self, inputs: int, hidden: int, *, key: jax.Array) -> None:
        self.kernel = eqx.nn.Linear(inputs, 4 * hidden, use_bias=False, key=key)
        self.recurrent = eqx.nn.Linear(hidden, 4 * hidden, use_bias=False, key=key)
        self.bias = jnp.zeros(4 * hidden)
        self.norm_input = eqx.nn.LayerNorm(4 * hidden, eps=EPSILON)
        self.norm_recurrent = eqx.nn.LayerNorm(4 * hidden, eps=EPSILON)
        self.norm_cell = eqx.nn.LayerNorm(hidden, eps=EPSILON)

    def __call__(self, x: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """The new (h, c), in Equinox's order."""
        h, c = state
        gates = self.norm_input(self.kernel(x)) + self.norm_recurrent(self.recurrent(h)) + self.bias
        c, h = lstm_step(gates, c, self.norm_cell)
        return h, c


class BNLSTMCell(eqx.Module):
    """The equations of ``jaxnorm.bn_lstm``, in training; Equinox's BatchNorm has a scale and a bias, or neither."""

    kernel: eqx.nn.Linear
    recurrent: eqx.nn.Linear
    bias: jax.Array
    norm_input: eqx.nn.BatchNorm
    norm_recurrent: eqx.nn.BatchNorm
    norm_cell: eqx.nn.BatchNorm

    def __init__(self, inputs: int, hidden: int, *, key: jax.Array) -> None:
        self.kernel = eqx.nn.Linear(inputs, 4 * hidden, use_bias=False, key=key)
        self.recurrent = eqx.nn.Linear(hidden, 4 * hidden, use_bias=False, key=key)
        self.bias = jnp.zeros(4 * hidden)
        self.norm_input, self.norm_recurrent, self.norm_cell = map(_batch_norm, (4 * hidden, 4 * hidden, hidden))

    def __call__(
        self, x: jax.Array, carry: tuple[jax.Array, jax.Array], stats: eqx.nn.State
    ) -> tuple[tuple[jax.Array, jax.Array], eqx.nn.State]:
        """The new (h, c) and the statistics of the step."""
        h, c = carry
        z, stats = self.norm_input(self.kernel(x), stats)
        a, stats = self.norm_recurrent(self.recurrent(h), stats)

        def normalize_cell(c: jax.Array) -> jax.Array:
            nonlocal stats
            c_hat, stats = self.norm_cell(c, stats)
            return c_hat

        c, h = lstm_step(z + a + self.bias, c, normalize_cell)
        return (h, c), stats


def _batch_norm(features: int) -> eqx.nn.BatchNorm:
    norm = eqx.nn.BatchNorm(features, BATCH, eps=EPSILON, momentum=MOMENTUM, mode="batch")
    return eqx.tree_at(lambda norm: norm.weight, norm, jnp.full(features, SCALE_OF_BN))


class LNGRUCell(eqx.Module):
    """The equations of ``jaxnorm.ln_gru``."""

    kernel: eqx.nn.Linear
    recurrent: eqx.nn.Linear
    bias: jax.Array
    recurrent_bias: jax.Array
    norm_input_gates: eqx.nn.LayerNorm
    norm_input_candidate: eqx.nn.LayerNorm
    norm_recurrent_gates: eqx.nn.LayerNorm
    norm_recurrent_candidate: eqx.nn.LayerNorm

    def __init__(self, inputs: int, hidden: int, *, key: jax.Array) -> None:
        self.kernel = eqx.nn.Linear(inputs, 3 * hidden, use_bias=False, key=key)
        self.recurrent = eqx.nn.Linear(hidden, 3 * hidden, use_bias=False, key=key)
        self.bias, self.recurrent_bias = jnp.zeros(3 * hidden), jnp.zeros(3 * hidden)
        self.norm_input_gates = eqx.nn.LayerNorm(2 * hidden, eps=EPSILON)
        self.norm_input_candidate = eqx.nn.LayerNorm(hidden, eps=EPSILON)
        self.norm_recurrent_gates = eqx.nn.LayerNorm(2 * hidden, eps=EPSILON)
        self.norm_recurrent_candidate = eqx.nn.LayerNorm(hidden, eps=EPSILON)

    def __call__(self, x: jax.Array, h: jax.Array) -> jax.Array:
        """The new h."""
        x_gates, x_candidate = split_gates(self.kernel(x))
        h_gates, h_candidate = split_gates(self.recurrent(h))
        b_gates, b_candidate = split_gates(self.bias)
        d_gates, d_candidate = split_gates(self.recurrent_bias)
        inputs = self.norm_input_gates(x_gates) + b_gates, self.norm_input_candidate(x_candidate) + b_candidate
        recurrents = (
            self.norm_recurrent_gates(h_gates) + d_gates,
            self.norm_recurrent_candidate(h_candidate) + d_candidate,
        )
        return gru_step(inputs, recurrents, h)


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def build(shape: Shape, dtype: str, *, cell: Any, entries: int) -> JaxProgram:
    """A cell in ``lax.scan`` under ``vmap``; its carry has a number of entries, of which h is the first."""
    params, static = eqx.partition(cell(shape.inputs, shape.hidden, key=jax.random.key(0)), eqx.is_array)

    def run(params: Any, xs: jax.Array) -> jax.Array:
        model = eqx.combine(_cast(params, dtype), static)
        zeros = jnp.zeros(shape.hidden, dtype)

        def body(carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            carry = model(x, carry)
            return carry, carry[0] if entries > 1 else carry

        def example(xs: jax.Array) -> jax.Array:
            return jax.lax.scan(body, (zeros,) * entries if entries > 1 else zeros, xs)[1]

        return jax.vmap(example, in_axes=1, out_axes=1)(xs)

    return cell_program(stateless(run), params, shape, dtype)


def build_bn_lstm(shape: Shape, dtype: str) -> JaxProgram:
    """The BN-LSTM, with a row of running statistics for each step."""
    cell, row = eqx.nn.make_with_state(BNLSTMCell)(shape.inputs, shape.hidden, key=jax.random.key(0))
    params, static = eqx.partition(cell, eqx.is_inexact_array)
    rows = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (shape.steps, *leaf.shape)), row)

    def apply(params: Any, rows: Any, xs: jax.Array) -> tuple[jax.Array, Any]:
        model = eqx.combine(_cast(params, dtype), static)
        zeros = jnp.zeros((shape.batch, shape.hidden), dtype)
        step = jax.vmap(model, in_axes=(0, 0, None), out_axes=(0, None), axis_name=BATCH)

        def body(carry: Any, each: Any) -> tuple[Any, Any]:
            (h, c), row = step(each[0], carry, each[1])
            return (h.astype(dtype), c.astype(dtype)), (h.astype(dtype), row)

        return jax.lax.scan(body, (zeros, zeros), (xs, rows))[1]

    return cell_program(apply, params, shape, dtype, state=rows)


PROGRAMS = {
    "equinox": {
        "lstm": partial(build, cell=eqx.nn.LSTMCell, entries=2),
        "gru": partial(build, cell=eqx.nn.GRUCell, entries=1),
        "ln_lstm": partial(build, cell=LNLSTMCell, entries=2),
        "ln_gru": partial(build, cell=LNGRUCell, entries=1),
        "bn_lstm": build_bn_lstm,
    }
}


def build_row_norm(shape: tuple[int, ...], dtype: str, *, norm: Any, **options: Any) -> JaxProgram:
    """A normalizer of the last axis."""
    params, static = eqx.partition(norm(shape[-1], eps=EPSILON, **options), eqx.is_array)

    def run(params: Any, xs: jax.Array) -> jax.Array:
        function = eqx.combine(_cast(params, dtype), static)
        for _ in shape[:-1]:
            function = jax.vmap(function)
        return function(xs)

    return norm_program(stateless(run), params, shape, dtype, order=features_last(shape))


def build_group_norm(shape: tuple[int, ...], dtype: str) -> JaxProgram:
    """Group norm, features first in each example as Equinox has them."""
    norm = eqx.nn.GroupNorm(group_count(shape[-1]), shape[-1], eps=EPSILON)
    params, static = eqx.partition(norm, eqx.is_array)

    def run(params: Any, xs: jax.Array) -> jax.Array:
        return jax.vmap(eqx.combine(_cast(params, dtype), static))(xs)

    return norm_program(stateless(run), params, shape, dtype, order=features_second(shape))


def build_batch_norm(shape: tuple[int, ...], dtype: str) -> JaxProgram:
    """Batch norm in training, features first in each example."""
    norm, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(
        shape[-1], BATCH, eps=EPSILON, momentum=MOMENTUM, mode="batch"
    )
    params, static = eqx.partition(norm, eqx.is_inexact_array)

    def apply(params: Any, state: Any, xs: jax.Array) -> tuple[jax.Array, Any]:
        function = eqx.combine(_cast(params, dtype), static)
        outputs, new = jax.vmap(function, in_axes=(0, None), out_axes=(0, None), axis_name=BATCH)(xs, state)
        return outputs, new

    return norm_program(apply, params, shape, dtype, state=state, order=features_second(shape))


NORMS = {
    "layer_norm": partial(build_row_norm, norm=eqx.nn.LayerNorm),
    "rms_norm": partial(build_row_norm, norm=eqx.nn.RMSNorm, use_bias=False),
    "batch_norm": build_batch_norm,
    "group_norm": build_group_norm,
}
