"""Graves' prediction network: a recurrent cell reads points of a pen and predicts the next one by a mixture."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnorm as jn
from experiments.data.strokes import Lines, pieces
from experiments.harness.batches import Shuffled
from experiments.harness.claim import Loss, Scale, Trial

COMPONENTS = 20


class Mixture(NamedTuple):
    """Gaussians over the way to the next point, and whether the pen is then lifted."""

    lifted: jax.Array
    """The logit of the pen being lifted (...)."""
    log_weight: jax.Array  # (..., M)
    mean: jax.Array  # (..., M, 2)
    log_deviation: jax.Array  # (..., M, 2)
    skew: jax.Array
    """The inverse hyperbolic tangent of the correlation (..., M)."""


class Params(NamedTuple):
    """Weights of the cell and of the readout."""

    cell: Any
    kernel: jax.Array  # (H, 1 + 6 M)
    bias: jax.Array  # (1 + 6 M,)


def mixture(raw: jax.Array, bias: float = 0.0) -> Mixture:
    """Reads a mixture off 1 + 6 M numbers (...); with Graves' probability bias lines become neater than was learned."""
    parts = raw[..., 1:].reshape(*raw.shape[:-1], 6, -1)
    mean, log_deviation = jnp.swapaxes(parts[..., 1:3, :], -1, -2), jnp.swapaxes(parts[..., 3:5, :], -1, -2)
    log_weight = jax.nn.log_softmax(parts[..., 0, :] * (1.0 + bias))
    return Mixture(raw[..., 0], log_weight, mean, log_deviation - bias, parts[..., 5, :])


def nats(found: Mixture, points: jax.Array) -> jax.Array:
    """The negative log-likelihood of points (..., 3)."""
    scaled = (points[..., None, :2] - found.mean) * jnp.exp(-found.log_deviation)
    x, y = scaled[..., 0], scaled[..., 1]
    # log(1 - correlation ** 2), exact where float32 would round the correlation to one
    log_rest = 2 * (math.log(2) - jnp.logaddexp(found.skew, -found.skew))
    squares = x**2 + (y - jnp.tanh(found.skew) * x) ** 2 * jnp.exp(-log_rest)
    log_density = -math.log(2 * math.pi) - found.log_deviation.sum(-1) - (log_rest + squares) / 2
    way = -jax.nn.logsumexp(found.log_weight + log_density, axis=-1)
    pen: jax.Array = optax.sigmoid_binary_cross_entropy(found.lifted, points[..., 2])
    return way + pen


def draw(key: jax.Array, found: Mixture) -> jax.Array:
    """A random point (..., 3) of each mixture."""
    which_key, way_key, lifted_key = jax.random.split(key, 3)
    which = jax.random.categorical(which_key, found.log_weight)[..., None]
    mean, log_deviation = (
        jnp.take_along_axis(part, which[..., None], axis=-2)[..., 0, :] for part in (found.mean, found.log_deviation)
    )
    skew = jnp.take_along_axis(found.skew, which, axis=-1)[..., 0]
    x, other = jnp.moveaxis(jax.random.normal(way_key, mean.shape), -1, 0)
    way = mean + jnp.exp(log_deviation) * jnp.stack([x, jnp.tanh(skew) * x + other / jnp.cosh(skew)], axis=-1)
    lifted = jax.random.bernoulli(lifted_key, jax.nn.sigmoid(found.lifted))
    return jnp.concatenate([way, lifted[..., None].astype(way.dtype)], axis=-1)


def alone(points: jax.Array) -> jax.Array:
    """Points as they are (..., 3)."""
    return points


def beside_one(points: jax.Array) -> jax.Array:
    """Points and a constant (..., 4): a layer norm of their product keeps the length of a stroke, relative to one."""
    return jnp.concatenate([points, jnp.ones_like(points[..., :1])], axis=-1)


Read = Callable[[jax.Array], jax.Array]
"""What the cell reads of a point."""


def write(
    cell: jn.Cell, params: Params, key: jax.Array, lines: int, points: int, bias: float, read: Read = alone
) -> jax.Array:
    """Lets the network write: lines (N, T, 3), each point drawn given those before it."""

    def one(state: tuple[Any, jax.Array], step_key: jax.Array) -> tuple[tuple[Any, jax.Array], jax.Array]:
        carry, h = jn.step(cell, params.cell, state[0], read(state[1]))
        point = draw(step_key, mixture(h @ params.kernel + params.bias, bias))
        return (carry, point), point

    start = cell.initial_carry((lines,)), jnp.zeros((lines, 3)).at[:, 2].set(1.0)  # the pen comes from elsewhere
    return jax.lax.scan(one, start, jax.random.split(key, points))[1].swapaxes(0, 1)


def trial(cell: jn.Cell, scale: Scale, data: Lines, read: Read = alone) -> Trial:
    """Trains on pieces of ``scale.window`` points, each from the initial state. Figures are nats a point."""
    train, valid, test = (pieces(part, scale.window + 1) for part in (data.train, data.valid, data.test))
    valid = valid[:: max(1, len(valid) // scale.valid)][: scale.valid]
    places = Shuffled(len(train), scale.batch)

    def init(key: jax.Array) -> tuple[Params, Any]:
        cell_key, kernel_key = jax.random.split(key)
        shape = cell.hidden_features, 1 + 6 * COMPONENTS
        kernel = jax.nn.initializers.lecun_normal()(kernel_key, shape, jnp.float32)
        return Params(cell.init(cell_key, read(jnp.zeros(3)).size), kernel, jnp.zeros(shape[1])), ()

    def mean_nats(params: Params, points: jax.Array) -> jax.Array:
        outputs = jn.unroll(cell, params.cell, read(points[:, :-1]), time_axis=1).outputs
        return nats(mixture(outputs @ params.kernel + params.bias), points[:, 1:]).mean()

    figure = jax.jit(mean_nats)

    def tested(params: Params, memory: Any) -> dict[str, Any]:
        starts = range(0, max(1, len(test) - len(valid) + 1), len(valid))
        return {"test_nats": np.mean([figure(params, test[start:][: len(valid)]) for start in starts])}

    def artifacts(params: Params, memory: Any) -> dict[str, Any]:
        written = np.array(write(cell, params, jax.random.key(0), scale.lines, scale.points, 1.0, read))
        written[..., :2] = written[..., :2] * data.deviation + data.mean
        return {"written": written}

    return Trial(
        init=init,
        batch=lambda seed, step: train[places(seed, step)],
        loss=lambda params, memory, points, key: (mean_nats(params, points), Loss(memory, {})),
        evaluate=lambda params, memory: {"valid_nats": figure(params, valid)},
        test=tested,
        artifacts=artifacts,
    )
