"""Programs of users: JAX's own rules of promotion, and no check of annotations."""

import jax
import pytest


@pytest.fixture(autouse=True)
def as_users_run_it(unhooked):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
