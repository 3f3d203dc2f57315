"""cuDNN's LSTM through ``jax.experimental.rnn``; offered only where JAX has a CUDA GPU."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import rnn

from benchmarks.programs.base import BATCH_MAJOR, JaxProgram, Unsupported, cell_program, stateless
from benchmarks.shapes import Shape

try:
    jax.devices("cuda")
except RuntimeError as error:
    raise ImportError("cuDNN needs a CUDA GPU and a jax that can use it") from error


def build_lstm(shape: Shape, dtype: str) -> JaxProgram:
    """The plain LSTM, the batch first."""
    if dtype != "float32":
        raise Unsupported("jax.experimental.rnn takes float32 only")
    sizes: dict[str, Any] = {
        "input_size": shape.inputs,
        "hidden_size": shape.hidden,
        "num_layers": 1,
        "bidirectional": False,
    }

    def run(params: jax.Array, xs: jax.Array) -> jax.Array:
        zeros = jnp.zeros((1, shape.batch, shape.hidden))
        lengths = jnp.full((shape.batch,), shape.steps, jnp.int32)
        outputs, _, _ = rnn.lstm(xs, zeros, zeros, params, lengths, dropout=0.0, **sizes)
        return outputs

    params = rnn.init_lstm_weight(jax.random.key(0), **sizes)
    return cell_program(stateless(run), params, shape, dtype, order=BATCH_MAJOR)


PROGRAMS = {"cudnn": {"lstm": build_lstm}}
