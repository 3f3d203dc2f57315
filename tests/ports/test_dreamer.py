"""DreamerV3's world model: a block GRU between categorical latents, that observes and that imagines.

D. Hafner, J. Pasukonis, J. Ba, T. Lillicrap, "Mastering Diverse Domains through World Models", 2023, arXiv:2301.04104;
names of arrays and the order of inputs as in danijar/dreamerv3.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.ports.tools import drawn, equal

pytestmark = pytest.mark.long
DETER, BLOCKS, WIDTH, LATENTS, CLASSES, TOKEN, ACTION = 8, 2, 5, 3, 4, 6, 2
STOCH, SIZE, STEPS, BATCH = LATENTS * CLASSES, DETER // BLOCKS, 6, 3
LAYERS = {  # inputs and outputs
    "dynin0": (DETER, WIDTH), "dynin1": (STOCH, WIDTH), "dynin2": (ACTION, WIDTH), "obs0": (DETER + TOKEN, WIDTH),
    "prior0": (DETER, WIDTH), "obslogit": (WIDTH, STOCH), "priorlogit": (WIDTH, STOCH),
    "policy": (DETER + STOCH, ACTION),
}  # fmt: skip


def weights_of(rng):
    arrays = {}
    for name, (inputs, outputs) in LAYERS.items():
        arrays |= {f"{name}/kernel": drawn(rng, inputs, outputs), f"{name}/bias": drawn(rng, outputs)}
        arrays[f"{name}norm/scale"] = 1 + drawn(rng, outputs)
    arrays |= {"dynhid0/kernel": drawn(rng, BLOCKS, SIZE + 3 * WIDTH, SIZE), "dynhid0/bias": drawn(rng, DETER)}
    arrays |= {"dyngru/kernel": drawn(rng, BLOCKS, SIZE, 3 * SIZE), "dyngru/bias": drawn(rng, 3 * DETER)}
    return arrays | {"dynhid0norm/scale": 1 + drawn(rng, DETER)}


class Original:
    """One example at a time, in NumPy and float64."""

    def __init__(self, arrays):
        self.arrays = {name: array.astype(np.float64) for name, array in arrays.items()}

    def affine(self, name, x):
        return x @ self.arrays[f"{name}/kernel"] + self.arrays[f"{name}/bias"]

    def activated(self, name, x):
        x = x / np.sqrt(np.mean(x**2) + 1e-4) * self.arrays[f"{name}norm/scale"]
        return x / (1 + np.exp(-x))

    def layer(self, name, x):
        return self.activated(name, self.affine(name, x))

    def logits(self, name, x):
        """Of a mixture of 99 percent network and one percent uniform."""
        odds = np.exp(self.affine(f"{name}logit", self.layer(f"{name}0", x)).reshape(LATENTS, CLASSES))
        return np.log(0.99 * odds / odds.sum(1, keepdims=True) + 0.01 / CLASSES)

    def sample(self, logits, uniform):
        return np.eye(CLASSES)[np.argmax(logits - np.log(-np.log(uniform)), axis=1)]

    def core(self, deter, stoch, action):
        action = action / np.maximum(1, np.abs(action))
        seen = [self.layer(f"dynin{k}", x) for k, x in enumerate((deter, stoch.ravel(), action))]
        old, hidden = deter.reshape(BLOCKS, SIZE), []
        for own, kernel in zip(old, self.arrays["dynhid0/kernel"], strict=True):
            hidden.append(np.concatenate([own, *seen]) @ kernel)
        hidden = self.activated("dynhid0", np.concatenate(hidden) + self.arrays["dynhid0/bias"])
        gates = np.einsum("ki,kio->ko", hidden.reshape(BLOCKS, SIZE), self.arrays["dyngru/kernel"])
        gates = (gates.ravel() + self.arrays["dyngru/bias"]).reshape(BLOCKS, 3, SIZE)
        reset, candidate, update = gates[:, 0], gates[:, 1], gates[:, 2]
        share = 1 / (1 + np.exp(1 - update))
        return (share * np.tanh(candidate / (1 + np.exp(-reset))) + (1 - share) * old).ravel()

    def observe(self, tokens, actions, uniforms, resets):
        deter, stoch, found = np.zeros(DETER), np.zeros((LATENTS, CLASSES)), []
        for token, action, uniform, reset in zip(tokens, actions, uniforms, resets, strict=True):
            if reset:
                deter, stoch, action = 0 * deter, 0 * stoch, 0 * action
            deter = self.core(deter, stoch, action)
            posterior = self.logits("obs", np.concatenate([deter, token]))
            stoch = self.sample(posterior, uniform)
            found.append((deter, stoch, posterior, self.logits("prior", deter)))
        return tuple(map(np.stack, zip(*found, strict=True)))

    def imagine(self, deter, stoch, uniforms):
        found = []
        for uniform in uniforms:
            action = self.affine("policy", np.concatenate([deter, stoch.ravel()]))
            deter = self.core(deter, stoch, action)
            stoch = self.sample(self.logits("prior", deter), uniform)
            found.append((deter, stoch, action))
        return tuple(map(np.stack, zip(*found, strict=True)))


# The port.

CORE = jn.zoo.dreamer_v3_block_gru(DETER, blocks=BLOCKS, embedding_features=WIDTH, activation=jax.nn.silu)


def core_params(arrays):  # gates r n z there, r z n here; a constant -1 in the update gate there
    own, *rest = np.split(arrays["dynhid0/kernel"], [SIZE, SIZE + WIDTH], axis=1)
    mix, kernel = (np.moveaxis(part, 0, 1).reshape(-1, DETER) for part in rest)
    gates = arrays["dyngru/kernel"].reshape(BLOCKS, SIZE, 3, SIZE)[:, :, [0, 2, 1]]
    bias = arrays["dyngru/bias"].reshape(BLOCKS, 3, SIZE)[:, [0, 2, 1]] - np.float32([[0], [1], [0]])
    recurrent, summed = (jn.Affine(arrays[f"{name}norm/scale"], None) for name in ("dynin0", "dynhid0"))
    return jn.zoo.BlockGRUParams(
        kernel, arrays["dynin0/kernel"], own, mix, gates, arrays["dynin0/bias"], arrays["dynhid0/bias"],
        np.moveaxis(bias, 0, 1).ravel(), jn.CellNorms(recurrent=recurrent, summed=summed),
    )  # fmt: skip


def affine(params, name, *inputs):
    return jnp.concatenate(inputs, -1) @ params[f"{name}/kernel"] + params[f"{name}/bias"]


def layer(params, name, *inputs):
    return jax.nn.silu(jn.rms_norm(affine(params, name, *inputs), params[f"{name}norm/scale"], epsilon=1e-4))


def draw(params, name, uniform, *inputs):
    logits = affine(params, f"{name}logit", layer(params, f"{name}0", *inputs)).reshape(-1, LATENTS, CLASSES)
    logits = jnp.log(0.99 * jax.nn.softmax(logits) + 0.01 / CLASSES)
    hot = jax.nn.one_hot(jnp.argmax(logits - jnp.log(-jnp.log(uniform.reshape(logits.shape))), -1), CLASSES)
    return hot + jnp.exp(logits) - jax.lax.stop_gradient(jnp.exp(logits)), logits  # straight through


def advance(params, state, action):
    seen = layer(params, "dynin1", flat(state)), layer(params, "dynin2", action / jnp.maximum(1, jnp.abs(action)))
    return jn.step(CORE, params["core"], state["deter"], jnp.concatenate(seen, -1))[1]


def observe(params, state, x):
    token, action, uniform = jnp.split(x, [TOKEN, TOKEN + ACTION], -1)
    deter = advance(params, state, action)
    stoch, posterior = draw(params, "obs", uniform, deter, token)
    return {"deter": deter, "stoch": stoch}, (deter, stoch, posterior, draw(params, "prior", uniform, deter)[1])


def imagine(params, state, uniform):
    action = affine(params, "policy", state["deter"], flat(state))
    deter = advance(params, state, action)
    stoch, _ = draw(params, "prior", uniform, deter)
    return {"deter": deter, "stoch": stoch}, (deter, stoch, action)


def flat(state):
    return state["stoch"].reshape(-1, STOCH)


START = {"deter": np.zeros(DETER, "float32"), "stoch": np.zeros((LATENTS, CLASSES), "float32")}


def run(params, tokens, actions, uniforms, resets, dreamed):
    xs = jnp.concatenate([tokens, jnp.where(resets[..., None], 0, actions), uniforms], -1)
    seen = jn.unroll(jn.FunctionCell(observe, START), params, xs, reset=resets)
    return seen.outputs, jn.unroll(jn.FunctionCell(imagine, START), params, dreamed, carry=seen.carry).outputs


# What it must do.


def test_observed_and_imagined_states(rng):
    arrays = weights_of(rng)
    tokens, actions = drawn(rng, STEPS, BATCH, TOKEN), 3 * drawn(rng, STEPS, BATCH, ACTION)
    uniforms, dreamed = rng.random((2, STEPS, BATCH, STOCH)).astype(np.float32)
    resets = rng.random((STEPS, BATCH)) < 0.3
    params = arrays | {"core": core_params(arrays)}
    seen, imagined = jax.jit(run)(params, tokens, actions, uniforms, resets, dreamed)
    original, shape = Original(arrays), (STEPS, LATENTS, CLASSES)
    for b in range(BATCH):
        theirs = original.observe(tokens[:, b], actions[:, b], uniforms[:, b].reshape(shape), resets[:, b])
        equal(tuple(each[:, b] for each in seen), theirs)
        theirs = original.imagine(theirs[0][-1], theirs[1][-1], dreamed[:, b].reshape(shape))
        equal(tuple(each[:, b] for each in imagined), theirs)


def test_gradients_pass_through_the_latents(rng):
    arrays = weights_of(rng)
    params = arrays | {"core": core_params(arrays)}
    sizes = (TOKEN, ACTION, STOCH, STOCH)
    tokens, actions, uniforms, dreamed = (rng.random((STEPS, BATCH, size)).astype(np.float32) for size in sizes)

    def loss(params):
        _, (_, stoch, _) = run(params, tokens, actions, uniforms, np.zeros((STEPS, BATCH), bool), dreamed)
        return jnp.sum(stoch[-1, ..., 0])

    gradient = jax.jit(jax.grad(loss))(params)
    for name in ("obslogit/kernel", "prior0/kernel", "policy/kernel", "dynin2/kernel"):
        assert 0 < np.abs(gradient[name]).max() < np.inf
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient["core"]))
