"""Weight normalization with each weight a unit of its own, ``axis=()``, as Flax has it for all axes as features."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
import jaxnorm.linen as jl

WN = jn.weight_norms


def test_the_sign_stays_and_the_scale_is_the_magnitude(rng):
    v, g = (jnp.asarray(rng.standard_normal((3, 4)), jnp.float32) for _ in range(2))
    v = v.at[0, 0].set(0.0)
    spec = jn.WeightNorm(())
    params, state = spec.init(v)
    np.testing.assert_allclose(params.scale, np.abs(v), rtol=1e-6)
    np.testing.assert_allclose(spec(params, state), v, rtol=1e-6)
    made, slope = jax.value_and_grad(lambda v, g: jnp.sum(jn.weight_norm(v, g, axis=()) ** 2), argnums=(0, 1))(v, g)
    np.testing.assert_allclose(made, np.sum((np.sign(v) * np.asarray(g)) ** 2), rtol=1e-5)
    np.testing.assert_array_equal(slope[0], 0.0)
    np.testing.assert_allclose(slope[1], 2 * np.sign(v) ** 2 * np.asarray(g), rtol=1e-6)


def test_it_is_that_of_flax(rng):
    x = jnp.asarray(rng.standard_normal((2, 3)), jnp.float32)
    theirs = nn.WeightNorm(nn.Dense(4), feature_axes=(0, 1), variable_filter={"kernel"})
    variables = jax.tree.map(lambda leaf: leaf + 0.5, theirs.init(jax.random.key(0), x))
    ours = jl.Reparametrized(nn.Dense(4), {"kernel": jn.WeightNorm(())})
    weights = {"module": variables["params"]["layer_instance"], "scale": {}}
    scale = next(leaf for leaf in jax.tree.leaves(variables["params"]) if leaf.shape == (3, 4) and leaf.min() > 1)
    weights["scale"] = {"kernel": scale}
    with jax.numpy_rank_promotion("allow"):
        got, want = ours.apply({"params": weights}, x), theirs.apply(variables, x)
    # Terms whose sizes add up to six cancel to a hundredth; Flax may be off by 5e-7 there.
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [WN.UnitNorm, WN.WeightStandardization, WN.CenteredWeightNorm, WN.BoundedWeightNorm])
def test_others_leave_nothing_of_a_single_weight_and_refuse_it(kind):
    with pytest.raises(TypeError, match=rf"{kind.__name__}: axis must be an int or a non-empty tuple .* got \(\)"):
        kind(axis=())
