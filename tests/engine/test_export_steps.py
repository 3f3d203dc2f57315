"""Single steps, the carries of all steps and repeated outputs leave the process, with a free batch and free time."""

import jax
import jax.numpy as jnp
import jaxtyping
import pytest
from jax import export

import jaxnorm as jn
from tests import cases
from tests.export.export_checks import check_reloaded, shapes


@pytest.fixture(autouse=True)
def unhooked():
    """Without the run-time checks of annotations that pytest adds: a symbol in the place of a size is no int."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_a_step_with_a_free_batch(rng):
    cell = jn.ln_lstm(cases.HIDDEN)
    params = cases.random_cell_params(cell, rng)
    (b,) = export.symbolic_shape("b")
    entry = jax.ShapeDtypeStruct((b, cases.HIDDEN), jnp.float32)
    free = jax.ShapeDtypeStruct((b, cases.IN_FEATURES), jnp.float32)
    carry = tuple(jnp.asarray(rng.standard_normal((2, 3, cases.HIDDEN)), jnp.float32))
    x = cases.random_inputs(rng, 1, (3,))[0]

    def run(params, carry, x):
        return jn.step(cell, params, carry, x, where=x[:, 0] > 0)

    check_reloaded(run, (shapes(params), (entry, entry), free), (params, carry, x))


@pytest.mark.parametrize("reverse", [False, True])
def test_every_step_with_free_sizes(reverse, rng):
    cell = jn.bn_lstm(cases.HIDDEN, max_steps=cases.MAX_STEPS)
    params, stats = cases.random_cell_params(cell, rng), cases.random_stats(cell.initial_stats(), rng)
    b, t = export.symbolic_shape("b, t")
    free = jax.ShapeDtypeStruct((t, b, cases.IN_FEATURES), jnp.float32)
    lengths = jax.ShapeDtypeStruct((b,), jnp.int32)

    def run(params, xs, lengths):
        options = {"masked_outputs": "hold", "return_carries": True, "reverse": reverse}
        out = jn.unroll(cell, params, xs, lengths=lengths, reset=xs[..., 0] > 1, stats=stats, **options)
        return out.outputs, out.carries

    calls = [(params, cases.random_inputs(rng, n, (2,)), jnp.array([n, 1], jnp.int32)) for n in (2, 5)]
    check_reloaded(run, (shapes(params), free, lengths), *calls)
