"""Recurrent PPO: an actor-critic over a GRU that begins anew with each episode, as in PureJaxRL.

C. Lu et al., "Discovered Policy Optimisation", 2022, arXiv:2210.05639.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import jaxnorm as jn
from jaxnorm import convert
from tests.ports.tools import drawn, drawn_like, equal

FEATURES, WIDTH, ACTIONS, STEPS, ENVS = 3, 6, 4, 7, 5


class ScannedRNN(nn.Module):
    @nn.compact
    def __call__(self, carry, xs, resets):
        def one(cell, carry, x):
            carry = jnp.where(x[1][:, None], cell.initialize_carry(jax.random.key(0), x[0].shape), carry)
            return cell(carry, x[0])

        scan = nn.scan(one, variable_broadcast="params", split_rngs={"params": False})
        return scan(nn.GRUCell(WIDTH, parent=self, name="GRUCell_0"), carry, (xs, resets))


class ActorCritic(nn.Module):
    @nn.compact
    def __call__(self, carry, observations, dones):
        xs = nn.relu(nn.Dense(WIDTH)(observations))
        carry, ys = ScannedRNN()(carry, xs, dones)
        hidden = nn.relu(nn.Dense(WIDTH)(ys))
        logits = nn.Dense(ACTIONS)(hidden)
        hidden = nn.relu(nn.Dense(WIDTH)(ys))
        return carry, logits, nn.Dense(1)(hidden)[..., 0]


# The port.

CORE = "ScannedRNN_0/GRUCell_0"


def dense(params, number, x):
    return x @ params[f"Dense_{number}"]["kernel"] + params[f"Dense_{number}"]["bias"]


def heads(params, y):
    logits, values = (dense(params, k + 1, jax.nn.relu(dense(params, k, y))) for k in (1, 3))
    return logits, values[..., 0]


def act(cell, params, carry, observation, done):
    x = jax.nn.relu(dense(params, 0, observation))
    carry, y = jn.step(cell, params[CORE], carry, x, reset=done)
    return carry, *heads(params, y)


def evaluate(cell, params, carry, observations, dones):
    xs = jax.nn.relu(dense(params, 0, observations))
    out = jn.unroll(cell, params[CORE], xs, carry=carry, reset=dones)
    return out.carry.h, *heads(params, out.outputs)


def rollout(cell, params, carry, observation, noise):
    """Steps of an environment in which the action moves the next observation; noise ends episodes."""

    def one(state, random):
        carry, observation, done = state
        carry, logits, values = act(cell, params, carry, observation, done)
        moved = jnp.tanh(observation + 0.3 * jnp.argmax(logits, -1)[:, None] - random[:, None])
        return (carry, moved, random > 0.8), (observation, done, logits, values)

    (carry, _, _), steps = jax.lax.scan(one, (carry, observation, jnp.zeros(ENVS, bool)), noise)
    return carry, *steps


# What it must do.


def loss_of(run):
    def loss(weights, *rest):
        _, logits, values = run(weights, *rest)
        entropy = -jnp.sum(jax.nn.softmax(logits) * jax.nn.log_softmax(logits), -1)
        return jnp.mean(jax.nn.log_softmax(logits)[..., 0] * jnp.cos(values) + values**2 - 0.01 * entropy)

    return loss


def test_single_steps_are_the_unrolled_original(rng):
    model, carry, observation = ActorCritic(), drawn(rng, ENVS, WIDTH), drawn(rng, ENVS, FEATURES)
    like = jax.eval_shape(model.init, jax.random.key(0), carry, observation[None], np.zeros((1, ENVS), bool))
    variables = drawn_like(like, rng)
    found = convert.linen.load_model(variables)
    cell = found.specs[CORE]

    @jax.jit
    def both(params, carry, observation, noise):
        last, observations, dones, *acted = rollout(cell, params, carry, observation, noise)
        again = evaluate(cell, params, carry, observations, dones)
        gradient = jax.grad(loss_of(lambda *arrays: evaluate(cell, *arrays)))(params, carry, observations, dones)
        return (last, *acted), again, gradient, (observations, dones)

    noise = rng.random((STEPS, ENVS)).astype(np.float32)
    acted, again, gradient, sequences = both(found.params, carry, observation, noise)
    assert sequences[1].sum() > 3
    equal(acted, again)
    equal(again, jax.jit(model.apply)(variables, carry, *sequences))
    theirs = jax.jit(jax.grad(loss_of(model.apply)))(variables, carry, *sequences)["params"]
    for number in range(5):
        equal(gradient[f"Dense_{number}"], theirs[f"Dense_{number}"])
    names = [f"i{gate}" for gate in "rzn"]
    theirs = np.stack([theirs["ScannedRNN_0"]["GRUCell_0"][name]["kernel"] for name in names], axis=1)
    equal(gradient[CORE].kernel, theirs)
