"""The strictest settings JAX has, and run-time checks of every shape annotation, for the whole suite."""

import itertools
import os
from importlib.metadata import version

# Before jax starts: several CPU devices for the collectives, and quick compilation (these programs run once each).
flags = [
    os.environ.get("XLA_FLAGS", ""),
    "--xla_force_host_platform_device_count=4",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
]
if version("jaxlib").startswith("0.10."):
    # Compiles in a third of the time. Later releases do not know this flag, and XLA stops at those it does not know.
    flags.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join(flags)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("KERAS_BACKEND", "jax")

from jaxtyping import install_import_hook

install_import_hook("jaxnorm", "beartype.beartype")

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from jaxnorm._base import devices
from tests.tools.annotations import no_annotation_checks
from tests.tools.marks import share
from tests.tools.peers import import_peer

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

settings.register_profile(
    "jaxnorm",
    deadline=None,
    max_examples=12,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("jaxnorm")

# Programs take the forms that they take on a machine with one CPU device, except where a test spreads them.
count_cpus = devices.count_cpus
devices.count_cpus = lambda: 1

finished = itertools.count(1)


def pytest_addoption(parser):
    text = "of the rows of each test run the first and one in N of the others, the same at every run (default: all)"
    parser.addoption("--one-in", type=int, default=1, metavar="N", help=text)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Takes the share of rows from those that the marks leave."""
    one_in = config.getoption("one_in")
    if one_in < 1:
        raise pytest.UsageError(f"--one-in must be a number from 1 on, got {one_in}: 1 runs all rows")
    kept = set(share([item.nodeid for item in items], one_in))
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
    items[:] = [item for item in items if item.nodeid in kept]


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """Lets go of compiled programs: another file runs others, and a process can map only so many of them."""
    if nextitem is None or nextitem.path != item.path or next(finished) % 200 == 0:
        jax.clear_caches()


@pytest.fixture
def key():
    return jax.random.key(20161)


@pytest.fixture
def rng():
    """NumPy's generator: drawing with it compiles nothing."""
    return np.random.default_rng(20161)


@pytest.fixture
def spread(monkeypatch):
    """Programs take the forms that can be spread over all devices."""
    jax.clear_caches()
    monkeypatch.setattr(devices, "count_cpus", count_cpus)
    yield
    jax.clear_caches()


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def unhooked():
    """Without the checks of annotations, as users run the library."""
    with no_annotation_checks():
        yield


@pytest.fixture
def torch():
    return import_peer("torch")


@pytest.fixture
def keras():
    module = import_peer("keras")
    if module.backend.backend() != "jax":
        pytest.skip("keras runs on another backend: the comparison needs KERAS_BACKEND=jax")
    return module
