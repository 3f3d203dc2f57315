"""On GPUs a round of the loop over steps takes several of them; what comes out is the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.contracts import cell_checks


def rounds(cell, params, xs, **options):
    """The steps in a round of each loop over steps, forward and backward."""
    loss = lambda params, xs: jnp.sum(jn.unroll(cell, params, xs, **options).outputs)  # noqa: E731
    program = jax.make_jaxpr(jax.grad(loss))(params, xs)
    loops = [e for e in cell_checks.equations(program.jaxpr) if e.primitive.name == "scan"]
    return sorted({e.params["unroll"] for e in loops})


@pytest.mark.parametrize("method", ["scan", "chunked"])
def test_a_round_has_eight_steps_on_gpus_and_one_elsewhere(method, monkeypatch):
    cell = jn.ln_lstm(4)
    params = cell.init(jax.random.key(0), 3)
    for platform, expected in (("cpu", [1]), ("tpu", [1]), ("gpu", [8]), ("cuda", [8])):
        monkeypatch.setattr(jax, "default_backend", lambda platform=platform: platform)
        jax.clear_caches()
        found = rounds(cell, params, jnp.ones((24, 2, 3)), method=method)
        assert found == expected or found == [1, *expected], platform  # the loop over chunks stays as it is
    found = rounds(cell, params, jnp.ones((3, 2, 3)), method=method)
    assert max(found) == 3, "no more than there are"


@pytest.mark.parametrize(("steps", "reverse"), [(1, False), (8, False), (21, True)])
def test_values_and_gradients_are_the_same(steps, reverse, monkeypatch, rng, x64):
    cell = jn.bn_lstm(4, max_steps=5, param_dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 3)
    xs = jnp.asarray(rng.standard_normal((steps, 6, 3)))
    where = jnp.asarray(rng.random((steps, 6)) < 0.8)

    def run(method):
        def loss(params, xs):
            out = jn.unroll(cell, params, xs, where=where, reverse=reverse, method=method)
            return jnp.sum(jnp.sin(out.outputs)) + jnp.sum(jnp.sin(out.carry.c)), out

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, xs)

    want = run("scan")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.clear_caches()
    for method in ("scan", "chunked"):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), run(method), want)
    jax.clear_caches()
