"""Everything leaves the process: exported with free sizes, as bytes, with the values of the direct call."""

import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from jaxnorm.engine.loops.chunks import chunk_length
from tests import cases
from tests.cell_cases import IMAGE_CELLS
from tests.export.export_checks import begin, check_reloaded, shapes, training

# A symbol in the place of a size is no int, and the checks of annotations would say so.
pytestmark = pytest.mark.usefixtures("unhooked")


FAST = ("layer_norm", "batch_norm", "ln_gru", "bn_lstm")
"""The rows that are checked in the fast suite too; the others have the mark ``heavy``."""


def rows(chosen):
    return [case if case.name in FAST else pytest.param(case, marks=pytest.mark.heavy) for case in chosen]


@pytest.mark.parametrize("case", rows(cases.NORMS), ids=str)
def test_normalizers(case, rng):
    """Training with a gradient and a step of the optimizer, with a mask, and inference with running statistics."""
    params, running = cases.random_norm_params(case, rng), cases.running_of(case)
    least = case.smallest_batch
    (b,) = export.symbolic_shape("b")

    def loss(params, x, running):
        y, measured = case.spec.train(params, x, running)
        return jnp.sum(jnp.sin(y)), (
            case.spec.update_running(running, measured),
            case.spec(params, x, running or None)[0],
        )

    def given(batch, seed=0):
        draw = np.random.default_rng(seed)
        return jnp.asarray(draw.standard_normal((batch, *case.shape[1:])), jnp.float32)

    free = jax.ShapeDtypeStruct((least * b, *case.shape[1:]), jnp.float32)
    state = begin(params)
    check_reloaded(
        training(loss),
        (shapes(params), shapes(state), free, shapes(running)),
        (params, state, given(4 * least), running),
    )

    def masked(params, x, running, where):
        return case.spec.train(params, x, running, where)[0]

    where = jax.ShapeDtypeStruct((least * b, *(1,) * (len(case.shape) - 1)), bool)
    export.export(jax.jit(masked))(shapes(params), free, shapes(running), where)


@pytest.mark.parametrize("case", rows((*cases.CELLS, *IMAGE_CELLS)), ids=str)
def test_cells(case, rng):
    """A training step with a free batch; with free time, too, the forward pass and a gradient.

    Batch statistics of the two or three examples of a step magnify how a program rounds a division by a number that it
    does not know, to more than 1e-6 in float32: they are in float64.
    """
    with jax.enable_x64(case.batch_statistics):
        check_cell(case.cell, case.image_shape, rng, jnp.float64 if case.batch_statistics else jnp.float32)


def check_cell(cell, image_shape, rng, dtype):
    params = cases.random_cell_params(cell, rng, dtype=dtype)
    stats = cell.initial_stats(dtype)
    b, t = export.symbolic_shape("b, t")

    def loss(params, xs, lengths, stats):
        out = jn.unroll(cell, params, xs, lengths=lengths)
        return jnp.sum(jnp.sin(out.outputs)), (out, cell.update_running(stats, out.moments))

    def free(steps):
        features = jax.ShapeDtypeStruct((steps, b, *image_shape, cases.IN_FEATURES), dtype)
        return features, jax.ShapeDtypeStruct((b,), jnp.int32)

    state = begin(params)
    xs, lengths = cases.random_inputs(rng, 5, (3, *image_shape), dtype), jnp.array([5, 2, 3], jnp.int32)
    check_reloaded(
        training(loss),
        (shapes(params), shapes(state), *free(5), shapes(stats)),
        (params, state, xs, lengths, stats),
    )

    def gradient(params, xs):
        def loss(params, xs):
            out = jn.unroll(cell, params, xs, method="scan")
            return jnp.sum(jnp.sin(out.outputs)), out

        return jax.grad(loss, has_aux=True)(params, xs)

    check_reloaded(gradient, (shapes(params), free(t)[0]), (params, xs))


@pytest.mark.long
def test_free_time_with_the_methods_and_statistics(rng):
    cell = jn.bn_lstm(cases.HIDDEN, max_steps=cases.MAX_STEPS)
    params, stats = cases.random_cell_params(cell, rng), cases.random_stats(cell.initial_stats(), rng)
    b, t = export.symbolic_shape("b, t")

    def run(params, xs, stats):
        return (
            jn.unroll(cell, params, xs).moments,
            jn.unroll(cell, params, xs, stats=stats),
            jn.unroll(cell, params, xs[:, :, ::-1], method="scan", reverse=True),
        )

    free = jax.ShapeDtypeStruct((t, b, cases.IN_FEATURES), jnp.float32)
    # Fewer steps than there are rows of statistics, as many, and more.
    calls = [(params, cases.random_inputs(rng, steps, (2,)), stats) for steps in (2, 3, 5)]
    check_reloaded(run, (shapes(params), free, shapes(stats)), *calls)

    def chunks(params, xs):
        return jax.grad(lambda params: jnp.sum(jn.unroll(cell, params, xs, chunk=4).outputs))(params)

    whole = jax.ShapeDtypeStruct((4 * t, b, cases.IN_FEATURES), jnp.float32)
    check_reloaded(chunks, (shapes(params), whole), (params, cases.random_inputs(rng, 8, (2,))))
    with pytest.raises(ValueError, match=r"unroll: chunk=4 must divide the number of steps, t, .*'4\*t'"):
        export.export(jax.jit(chunks))(shapes(params), free)


def test_choices_by_a_size_that_is_not_known():
    b, t = export.symbolic_shape("b, t")
    assert chunk_length(t, 32, 16, "cpu") is t
    assert chunk_length(16 * t, 32, 16, "cpu") == 8
    assert chunk_length(64, b, 16, "cpu") == 8
    assert chunk_length(64, b, 16, "gpu") == 64
    assert chunk_length(64, b, 2048, "tpu") == 8, "a free batch counts as 256 examples"


@pytest.mark.parametrize("method", ["chunked", "scan"])
@pytest.mark.parametrize("name", ["lstm", "gru", "ln_lstm", "ln_gru"])
def test_no_switch_by_platform_in_inference(name, method):
    """Converters to other formats know none; the gradient of a kernel has one."""
    cell = getattr(jn, name)(cases.HIDDEN)
    params = cell.init(jax.random.key(0), cases.IN_FEATURES)

    def run(params):
        return jn.unroll(cell, params, jnp.ones((20, 2, cases.IN_FEATURES)), method=method).outputs

    assert "platform_index" not in str(jax.make_jaxpr(run)(params))
    assert "platform_index" in str(jax.make_jaxpr(jax.grad(lambda params: jnp.sum(run(params))))(params))


@pytest.mark.long
def test_a_associative_scan_and_stacks(rng):
    cell = jn.zoo.MinGRU(cases.HIDDEN)
    params = [cases.random_cell_params(cell, rng, size) for size in (cases.IN_FEATURES, cases.HIDDEN)]
    (b,) = export.symbolic_shape("b")
    free = jax.ShapeDtypeStruct((6, b, cases.IN_FEATURES), jnp.float32)
    xs = cases.random_inputs(rng, 6, (2,))
    for run in (
        lambda params, xs: jn.unroll(cell, params[0], xs, method="associative"),
        lambda params, xs: jn.stack((cell, cell), params, xs),
        lambda params, xs: jn.bidirectional((cell, cell), params[:1] * 2, xs),
    ):
        check_reloaded(run, (shapes(params), free), (params, xs))


def test_linen_and_nnx_modules(rng):
    cell = jn.ln_gru(cases.HIDDEN)
    (b,) = export.symbolic_shape("b")
    free = jax.ShapeDtypeStruct((b, 5, cases.IN_FEATURES), jnp.float32)
    xs = jnp.asarray(rng.standard_normal((3, 5, cases.IN_FEATURES)), jnp.float32)
    module = jl.RNN(cell)
    variables = module.init(jax.random.key(0), xs)

    def gradient(variables, xs):
        return jax.value_and_grad(lambda v: jnp.sum(jnp.sin(module.apply(v, xs))))(variables)

    check_reloaded(gradient, (shapes(variables), free), (variables, xs))

    graph, state = nnx.split(jx.RNN(cell, cases.IN_FEATURES, rngs=nnx.Rngs(0)), nnx.Param, ...)[:2]
    params = nnx.to_pure_dict(state)

    def apply(params, xs):
        state = nnx.state(nnx.eval_shape(lambda: jx.RNN(cell, cases.IN_FEATURES, rngs=nnx.Rngs(0))), nnx.Param)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state)(xs)

    check_reloaded(apply, (shapes(params), free), (params, xs))


def named_tuples():
    for module in pkgutil.walk_packages(jn.__path__, "jaxnorm."):
        for kind in vars(importlib.import_module(module.name)).values():
            named = isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")
            if named and kind.__module__.startswith("jaxnorm."):
                yield kind


def test_every_named_tuple_can_be_written():
    pytest.importorskip("flatbuffers", reason="jax.export needs flatbuffers to write bytes")
    kinds = set(named_tuples())
    assert {
        jn.Moments,
        jn.LSTMParams,
        jn.CellNorms,
        jn.Unrolled,
        jn.Directions,
        jn.CountedCarry,
        jn.weight_norms.SpectralState,
    } <= kinds
    trees = [kind(*range(len(kind._fields))) for kind in kinds]
    written = export.export(jax.jit(lambda trees: trees))(trees).serialize()
    assert export.deserialize(written).in_tree == jax.tree.structure(((trees,), {}))


def test_a_plain_named_tuple_cannot_be_written():
    """What the test before would say of a type that is forgotten."""
    from typing import NamedTuple

    pytest.importorskip("flatbuffers", reason="jax.export needs flatbuffers to write bytes")

    class Forgotten(NamedTuple):
        x: jax.Array

    tree = Forgotten(jnp.zeros(()))
    with pytest.raises(ValueError, match="unregistered type"):
        export.export(jax.jit(lambda tree: tree))(shapes(tree)).serialize()
