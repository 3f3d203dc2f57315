"""Other libraries in tests: imported where they are installed, and run by their own rules."""

import contextlib
import importlib
import warnings

import jax
import pytest


def import_peer(name, extra="peers"):
    """The module, or a skipped test that says what is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            pytest.skip(f"{name} is not installed: the comparison with it needs `pip install jaxnorm[{extra}]`")


@contextlib.contextmanager
def lenient():
    """The defaults of JAX, and no word about warnings, around the code of others."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
