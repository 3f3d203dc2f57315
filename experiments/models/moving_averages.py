r"""An LSTM whose training, too, normalizes the pre-activations with moving averages of the statistics of each step.

.. math::
   i, f, g, o &= N_t(x_t W + h_{t-1} U) + b, \qquad N_t(v) = \gamma \frac{v - \mu_t}{\sqrt{\sigma_t^2 + \epsilon}} \\
   \mu_t &= \beta \mu_{r(t)} + (1 - \beta) \mu_B, \qquad \sigma_t^2 = \beta \sigma_{r(t)}^2 + (1 - \beta) \sigma_B^2

with running statistics of row r(t): one row for all steps, or one for each. A cell of the library measures in training
and reads running statistics in inference alone; here is the loop for the one that reads them in training.
"""

from typing import Any

import jax
import jax.numpy as jnp

import jaxnorm as jn


def forward(
    norm: jn.zoo.MomentumBatchNorm, params: jn.LSTMParams, xs: jax.Array, lengths: jax.Array, running: jn.Moments
) -> tuple[jax.Array, jn.Moments]:
    """Runs the training pass of one layer.

    Args:
      norm: the normalizer of the sum of both products.
      params: weights of a ``jn.LSTM`` with a normalizer at the site ``summed``.
      xs: inputs (T, B, I).
      lengths: real steps of each example (B,).
      running: statistics in rows (R, 4H); the last row serves all later steps.

    Returns:
      Outputs (T, B, H), and what the steps measured, in the rows of ``running``.
    """
    steps, rows = len(xs), len(running.mean)
    kernel, recurrent = (weights.reshape(len(weights), -1) for weights in (params.kernel, params.recurrent))
    row = jnp.minimum(jnp.arange(steps), rows - 1)
    real = jnp.arange(steps)[:, None] < lengths

    bias = 0.0 if params.bias is None else params.bias

    def step(state: Any, inputs: Any) -> Any:
        c, h = state
        x, here, served = inputs
        v, measured = norm.train(params.norm.summed, x + h @ recurrent, served, here[:, None])
        i, f, g, o = jnp.split(v + bias, 4, axis=-1)
        new_c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        new_h = jax.nn.sigmoid(o) * jnp.tanh(new_c)
        state = jax.tree.map(lambda new, old: jnp.where(here[:, None], new, old), (new_c, new_h), state)
        return state, (state[1], measured)

    zeros = jnp.zeros((xs.shape[1], len(recurrent)))
    served = jax.tree.map(lambda leaf: leaf[row], running)
    _, (outputs, measured) = jax.lax.scan(step, (zeros, zeros), (xs @ kernel, real, served))
    return outputs, into_rows(measured, row, rows)


def into_rows(measured: jn.Moments, row: jax.Array, rows: int) -> jn.Moments:
    """Pools the moments of steps (T, F) that share a row, the spread between their means included."""
    count = jax.ops.segment_sum(measured.count, row, rows)

    def average(values: jax.Array) -> jax.Array:
        sums = jax.ops.segment_sum(measured.count[:, None] * values, row, rows)
        return sums / jnp.maximum(count, 1.0)[:, None]

    mean = average(measured.mean)
    return jn.Moments(mean, average(measured.var + (measured.mean - mean[row]) ** 2), count)
