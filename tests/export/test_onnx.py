"""Inference through ONNX: jax2onnx writes the program, onnxruntime runs it. `make onnx` has what that needs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.tools.annotations import no_annotation_checks

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is missing: pip install 'jaxnorm[onnx]'")
if jax.__version_info__ >= (0, 11):
    pytest.skip(f"jax2onnx reads internals that jax {jax.__version__} no longer has", allow_module_level=True)


@pytest.fixture(autouse=True)
def ordinary_settings():
    """Those that users have: jax2onnx mixes dtypes itself, and a symbol in the place of a size is no int."""
    with no_annotation_checks(), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
    jax.clear_caches()  # while it traces, jax2onnx puts operations of its own in the place of those of jax


def through_onnx(function, *arguments, free=()):
    """What onnxruntime makes of the program of a function."""
    jax2onnx = pytest.importorskip("jax2onnx", reason="jax2onnx is missing: pip install 'jaxnorm[onnx]'")
    inputs = [(*free, *array.shape[len(free) :]) if k == 0 else array.shape for k, array in enumerate(arguments)]
    model = jax2onnx.to_onnx(function, inputs=inputs, model_name="m")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    return session.run(None, dict(zip(names, map(np.asarray, arguments), strict=True)))


def check(function, *arguments, free=()):
    expected = jax.tree.leaves(function(*arguments))
    jax.clear_caches()  # the program is traced by jax2onnx, not found
    got = through_onnx(function, *arguments, free=free)
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


CELLS = {"lstm": jn.lstm, "gru": jn.gru, "ln_lstm": jn.ln_lstm, "ln_gru": jn.ln_gru}


@pytest.mark.parametrize("method", ["chunked", "scan"])
@pytest.mark.parametrize("name", CELLS)
def test_cells(name, method, rng):
    cell = CELLS[name](cases.HIDDEN)
    params = cases.random_cell_params(cell, rng)

    def run(xs):
        out = jn.unroll(cell, params, xs, method=method)
        return out.outputs, out.carry

    check(run, cases.random_inputs(rng, 20, (2,)))


@pytest.mark.parametrize("name", CELLS)
def test_a_step_of_a_stream(name, rng):
    cell = CELLS[name](cases.HIDDEN)
    params = cases.random_cell_params(cell, rng)
    carry, structure = jax.tree.flatten(cell.initial_carry((2,), params=params))

    def step(x, *carry):
        out = jn.unroll(cell, params, x[None], carry=jax.tree.unflatten(structure, carry), method="scan")
        return out.outputs[0], out.carry

    draw = [jnp.asarray(rng.standard_normal(entry.shape), jnp.float32) for entry in carry]
    check(step, cases.random_inputs(rng, 1, (2,))[0], *draw)


NORMS = {
    "layer": jn.LayerNorm(),
    "rms": jn.RMSNorm(),
    "group": jn.GroupNorm(4),
    "instance": jn.InstanceNorm(),
    "batch": jn.BatchNorm(),
}


@pytest.mark.parametrize("name", NORMS)
def test_normalizers(name, rng):
    spec, shape = NORMS[name], (3, 5, 8)
    features = spec.param_shape(shape)
    params = cases.randomize(spec.init(features), rng)
    stats = cases.random_stats(spec.initial_stats(features), rng)
    x = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    check(lambda x: spec(params, x, stats or None)[0], x)
    if stats == ():
        check(lambda x: spec(params, x)[0], x, free=("B",))
