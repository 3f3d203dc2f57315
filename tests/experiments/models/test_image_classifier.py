"""The optimizer of image classifiers, step by step."""

import jax.numpy as jnp
import numpy as np

from experiments.models.image_classifier import head, sgd


def test_clip_then_decay_then_momentum():
    rng = np.random.default_rng(0)
    names = ("Conv_0", "head")
    params = {name: {"kernel": rng.normal(size=(3, 2))} for name in names}
    rule = sgd(0.5, 0.1, mask=head, clip=1.5)
    given = {name: {"kernel": jnp.float32(layer["kernel"])} for name, layer in params.items()}
    state, speed = rule.init(given), dict.fromkeys(names, 0.0)
    for _ in range(3):
        pulls = {name: rng.normal(size=(3, 2)) for name in names}
        norm = np.sqrt(sum((pull**2).sum() for pull in pulls.values()))
        assert norm > 1.5
        gradient = {name: {"kernel": jnp.float32(pull)} for name, pull in pulls.items()}
        change, state = rule.update(gradient, state, given)
        for name in names:
            decay = 0.1 * params[name]["kernel"] if name == "head" else 0.0
            speed[name] = 0.9 * speed[name] + pulls[name] * 1.5 / norm + decay
            np.testing.assert_allclose(change[name]["kernel"], -0.5 * speed[name], rtol=1e-4, atol=1e-6)
