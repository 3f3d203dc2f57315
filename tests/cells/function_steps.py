"""Steps of the kinds that users write, on inputs with three features, for the tests of ``FunctionCell``."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnorm as jn

HIDDEN, IN = 4, 3


def random_params(*names_and_shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(0.6 * rng.standard_normal(shape), jnp.float32) for name, shape in names_and_shapes}


# ---- a recurrent state-space model: a deterministic state, and a stochastic one drawn with the key of each example


def state_space(params, carry, x):
    keys = jax.vmap(jax.random.split)(carry["key"].reshape(-1)).reshape(*carry["key"].shape, 2)
    mixed = jnp.concatenate([carry["stoch"], x], -1) @ params["mix"]
    deter = jnp.tanh(mixed + carry["deter"] @ params["recurrent"])
    logits = jn.layer_norm(deter @ params["head"])
    flat = keys[..., 1].reshape(-1)
    noise = jax.vmap(lambda key: jax.random.gumbel(key, (2,)))(flat).reshape(*keys.shape[:-1], 2)
    hard = jax.nn.one_hot(jnp.argmax(logits + noise, -1), 2)
    soft = jax.nn.softmax(logits)
    stoch = hard + soft - jax.lax.stop_gradient(soft)  # straight through
    new = {
        "deter": deter,
        "stoch": stoch,
        "key": keys[..., 0],
        "count": carry["count"] + 1,
        "first": jnp.zeros_like(carry["first"]),
        "raw": carry["raw"] ^ jnp.uint32(5),
    }
    return new, {"feature": jnp.concatenate([deter, stoch], -1), "logits": logits, "sampled": jnp.argmax(stoch, -1)}


def state_space_start(batch_shape, *, key=None):
    return {
        "deter": jnp.full((*batch_shape, HIDDEN), 0.1),
        "stoch": jnp.zeros((*batch_shape, 2)),
        "key": jax.random.split(jax.random.key(3) if key is None else key, batch_shape),
        "count": jnp.zeros(batch_shape, jnp.int32),
        "first": jnp.ones(batch_shape, bool),
        "raw": jnp.full(batch_shape, 9, jnp.uint32),
    }


STATE_SPACE = jn.FunctionCell(state_space, state_space_start)
STATE_SPACE_PARAMS = random_params(
    ("mix", (2 + IN, HIDDEN)), ("recurrent", (HIDDEN, HIDDEN)), ("head", (HIDDEN, 2)), seed=1
)


# ---- a decoder that attends to a memory among the params, with a start that is learned


def decoder(params, carry, x):
    (h,) = carry
    weights = jax.nn.softmax(jnp.einsum("...h,mh->...m", h, params["memory"]))
    read = weights @ params["memory"]
    h = jnp.tanh(jnp.concatenate([x, read], -1) @ params["kernel"] + h @ params["recurrent"])
    return (h,), (h @ params["head"], weights)


def decoder_start(batch_shape, params):
    return (jnp.broadcast_to(params["start"], (*batch_shape, HIDDEN)),)


def decoder_params(key, in_features):
    shapes = {
        "memory": (5, HIDDEN),
        "kernel": (in_features + HIDDEN, HIDDEN),
        "recurrent": (HIDDEN, HIDDEN),
        "head": (HIDDEN, 2),
        "start": (HIDDEN,),
    }
    keys = jax.random.split(key, len(shapes))
    return {name: jax.random.normal(k, shape) for k, (name, shape) in zip(keys, shapes.items(), strict=True)}


DECODER = jn.FunctionCell(decoder, decoder_start, params_init=decoder_params)


# ---- an environment: no weights, an action in, an observation, a reward and an end out


def environment(params, carry, action):
    position = carry.position + action[..., 0] - 1
    done = jnp.abs(position) >= 3
    new = carry._replace(position=jnp.where(done, 0, position), episodes=carry.episodes + done.astype(jnp.int32))
    return new, (jax.nn.one_hot(position + 3, 7), done.astype(jnp.float32), done)


def scan(step, params, carry, xs, where=None, reset=None, start=None):
    """The oracle: ``lax.scan`` over the step, with masks and resets in the plainest way."""

    def select(mask, yes, no):
        return jax.tree.map(
            lambda a, b: jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b), yes, no
        )

    def body(carry, t):
        x, real, anew = t
        if anew is not None:
            carry = select(anew, start, carry)
        new, y = step(params, carry, x)
        if real is not None:
            new, y = select(real, new, carry), select(real, y, jax.tree.map(jnp.zeros_like, y))
        return new, y

    return jax.lax.scan(body, carry, (xs, where, reset))


def same(got, expected):
    """Equal structures and dtypes; equal keys and numbers, and floats up to rounding."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)

    def leaf(a, b):
        assert a.dtype == b.dtype
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)

    jax.tree.map(leaf, got, expected)
