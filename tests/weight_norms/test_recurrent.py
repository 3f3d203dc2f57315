"""On a recurrent kernel: applied once a sequence, before the loop, in forward and backward pass, by every row."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.contracts.cell_checks import equations
from tests.weight_norms import oracles

SPECS = list({type(case.spec): dataclasses.replace(case.spec, axis=0) for case in cases.WEIGHTS[::-1]}.values())
LSTM = jn.lstm(cases.HIDDEN)


def loss_of(spec, state, params, xs, method):
    """A loss of the weights behind the recurrent kernel, and of all others."""

    def loss(weights, params):
        kernel = spec(weights, spec.advance(weights, state))
        out = jn.unroll(LSTM, params._replace(recurrent=kernel), xs, method=method)
        return jnp.sum(jnp.sin(out.outputs)), kernel

    return loss


def lstm_with(spec, rng):
    params, xs = cases.random_cell_params(LSTM, rng), cases.random_inputs(rng)
    weights, state = spec.init(params.recurrent, jax.random.key(0))
    return cases.randomize(weights, rng), state, params, xs


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
@pytest.mark.parametrize("method", ["scan", "chunked"])
def test_it_is_applied_once_outside_the_loop(spec, method, rng):
    weights, state, params, xs = lstm_with(spec, rng)
    loss = loss_of(spec, state, params, xs, method)

    def roots(found):
        return [equation.primitive.name for equation in found].count("sqrt")

    alone = jax.make_jaxpr(lambda weights: spec(weights, spec.advance(weights, state)))(weights)
    once = roots(equations(alone.jaxpr))
    assert once > 0, "each divides by a length"
    forward = jax.make_jaxpr(loss)(weights, params)
    assert roots(equations(forward.jaxpr)) == once
    for program in (forward, jax.make_jaxpr(jax.grad(loss, has_aux=True))(weights, params)):
        scans = [equation for equation in equations(program.jaxpr) if equation.primitive.name == "scan"]
        assert scans
        for scan in scans:
            assert roots(equations(scan.params["jaxpr"].jaxpr)) == 0, "a kernel was normalized in the loop"


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_the_cell_runs_with_the_kernel_of_the_paper(spec, rng):
    weights, state, params, xs = lstm_with(spec, rng)
    loss = loss_of(spec, state, params, xs, "scan")
    (value, kernel), gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(weights, params)
    used = spec.advance(weights, state)
    want = oracles.of_spec(spec, jax.tree.map(lambda a: np.asarray(a, np.float64), weights), used)
    np.testing.assert_allclose(kernel, want, rtol=2e-5, atol=2e-5)
    plain = jn.unroll(LSTM, params._replace(recurrent=jnp.asarray(want, jnp.float32)), xs)
    np.testing.assert_allclose(value, jnp.sum(jnp.sin(plain.outputs)), rtol=1e-4)
    assert all(np.isfinite(leaf).all() and leaf.any() for leaf in jax.tree.leaves(gradients[0]))
    assert not gradients[1].recurrent.any(), "the kernel that was replaced is not used"
