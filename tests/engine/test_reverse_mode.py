"""Forward mode through what has a derivative for reverse mode only: the message arrives, reverse mode is as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax import lax

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from tests import cases
from tests.tools.marks import mostly_heavy

CELL = jn.ln_gru(cases.HIDDEN)
PARAMS = cases.random_cell_params(CELL, np.random.default_rng(5))
XS = cases.random_inputs(np.random.default_rng(6), 4, (2,))
ANSWER = r"unroll: method='chunked' has no forward-mode .* method='scan', in Flax .*engine={'method': 'scan'}"


def loss(xs, method="chunked"):
    return jnp.sum(jnp.sin(jn.unroll(CELL, PARAMS, xs, method=method).outputs))


def stateful(xs):
    return nnx.jit(lambda rnn, xs: rnn(xs))(jx.RNN(CELL, cases.IN_FEATURES, rngs=nnx.Rngs(0)), xs)


def linen(xs):
    return jl.RNN(CELL).apply({"params": to_names()}, xs)


def to_names():
    return jl.RNN(CELL).init(jax.random.key(0), XS)["params"]


class Deep(nn.Module):
    @nn.compact
    def __call__(self, xs):
        return nn.Dense(2)(jl.RNN(CELL)(xs))


FUNCTIONS = {
    "direct": loss,
    "jit": jax.jit(loss),
    "checkpoint": jax.checkpoint(loss),
    "vmap in jit": jax.jit(lambda xs: jax.vmap(loss, 1)(xs)),
    "scan": lambda xs: lax.scan(lambda total, _: (total + loss(xs), None), 0.0, None, length=2)[0],
    "linen": jax.jit(linen),
    "linen inside": jax.jit(lambda xs: Deep().init_with_output(jax.random.key(0), xs)[0]),
    "nnx": stateful,
}

FORWARD = {
    "jvp": lambda f: jax.jvp(f, (XS,), (XS,)),
    "jvp in jit": lambda f: jax.jit(lambda xs: jax.jvp(f, (xs,), (xs,)))(XS),
    "linearize": lambda f: jax.linearize(f, XS)[1](XS),
    "jacfwd": lambda f: jax.jacfwd(f)(XS),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("transformation", FORWARD)
def test_forward_mode_is_answered_with_the_keyword(name, transformation):
    with pytest.raises(TypeError, match=ANSWER):
        FORWARD[transformation](FUNCTIONS[name])


def test_the_keyword_of_the_answer_works():
    along = jnp.cos(XS)
    _, change = jax.jvp(jax.jit(lambda xs: loss(xs, "scan")), (XS,), (along,))
    np.testing.assert_allclose(change, jnp.vdot(jax.grad(loss)(XS), along), rtol=1e-4)
    rnn = jl.RNN(CELL, engine={"method": "scan"})
    jax.jvp(lambda xs: rnn.apply({"params": to_names()}, xs), (XS,), (along,))


REVERSE = {
    "grad": jax.grad,
    "grad of jit": lambda f: jax.grad(jax.jit(f)),
    "grad of checkpoint": lambda f: jax.jit(jax.grad(jax.checkpoint(f))),
    "grad of vmap": lambda f: jax.grad(lambda xs: jax.vmap(f, 1)(xs).sum()),
    "vmap of grad": lambda f: jax.vmap(jax.grad(f), 1),
    "jacrev": jax.jacrev,
    "grad of scan": lambda f: jax.grad(
        lambda xs: lax.scan(lambda total, _: (total + f(xs * (1 + total / 9)), None), 0.0, None, length=2)[0]
    ),
    "grad of grad": lambda f: jax.grad(lambda xs: jnp.sum(jnp.square(jax.grad(f)(xs)))),
    "forward over reverse": lambda f: lambda xs: jax.jvp(jax.grad(f), (xs,), (jnp.cos(xs),))[1],
    "hessian": jax.hessian,
}


@pytest.mark.parametrize("name", mostly_heavy(REVERSE, kept=4))
def test_reverse_mode_and_what_is_done_with_it_are_those_of_the_plain_loop(name, x64):
    xs = XS.astype(jnp.float64)
    ours, plain = (REVERSE[name](lambda xs, s=s: loss(xs, s))(xs) for s in ("chunked", "scan"))
    np.testing.assert_allclose(ours, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("norm", "call"),
    [
        ("power_norm", lambda x: jn.zoo.power_norm(x)[0]),
        ("streaming_norm", lambda x: jn.zoo.streaming_norm(x, stats=jn.zoo.StreamingNorm().initial_stats((3,)))[0]),
    ],
)
@pytest.mark.parametrize("transformation", FORWARD)
def test_normalizers_with_a_backward_pass_of_their_own(norm, call, transformation):
    def total(xs):
        return jnp.sum(jax.jit(call)(xs.reshape(-1, 3)))

    with pytest.raises(TypeError, match=rf"{norm}: its backward pass is no derivative, .* Use reverse mode"):
        FORWARD[transformation](total)
