"""Sums over time inside the loop, as a program: memory, transformations, closures, export, devices."""

from functools import partial
from importlib.metadata import version

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxnorm as jn
from jaxnorm.engine.unroll_sum import _unroll_sum
from tests import cases
from tests.contracts.cell_checks import equations
from tests.export.export_checks import check_reloaded, shapes

CELL = jn.ln_gru(cases.HIDDEN)
STEPS, CLASSES, MIB = 6, 5, 2**20
close = partial(chex.assert_trees_all_close, rtol=1e-4, atol=1e-5)


def cross_entropy(head, y, word):
    logits = jax.nn.log_softmax(y @ head)
    return -jnp.take_along_axis(logits, word[..., None], axis=-1)[..., 0]


def drawn(rng, cell=CELL, batch=3):
    params = cases.random_cell_params(cell, rng)
    head = jnp.asarray(rng.standard_normal((cases.HIDDEN, CLASSES)), jnp.float32)
    words = jnp.asarray(rng.integers(0, CLASSES, (STEPS, batch)), jnp.int32)
    return params, head, cases.random_inputs(rng, STEPS, (batch,)), words


def loss(params, head, xs, words, **options):
    return jn.unroll_sum(CELL, params, xs, cross_entropy, head, words, **{"block": 2} | options).sums.sum()


def plain(params, head, xs, words):
    return cross_entropy(head, jn.unroll(CELL, params, xs).outputs, words).sum()


# ---- memory


def temporary_memory(run, *shapes):
    """Bytes beyond arguments and results, of the program as users compile it."""
    options = {"xla_backend_optimization_level": 3}
    if version("jaxlib").startswith("0.10."):  # later releases do not know the option
        options["xla_cpu_use_fusion_emitters"] = True
    compiled = jax.jit(run).lower(*shapes).compile(options)
    return compiled.memory_analysis().temp_size_in_bytes


def program(layout, inputs, hidden, words, *, time_axis=0, **options):
    """The gradient of a language model by weights and head, and shapes to compile it for."""
    cell = jn.ln_lstm(hidden)
    shape = jax.ShapeDtypeStruct
    params = jax.eval_shape(lambda key: cell.init(key, inputs), jax.random.key(0))

    def total(params, head, xs, words, inside):
        if inside:
            out = jn.unroll_sum(cell, params, xs, cross_entropy, head, words, time_axis=time_axis, **options)
            return out.sums.sum()
        return cross_entropy(head, jn.unroll(cell, params, xs, time_axis=time_axis).outputs, words).sum()

    given = (
        params,
        shape((hidden, words), jnp.float32),
        shape((*layout, inputs), jnp.float32),
        shape(layout, jnp.int32),
    )
    return [jax.grad(partial(total, inside=inside), (0, 1)) for inside in (True, False)], given


@pytest.mark.parametrize("time_axis", [0, 1])
def test_memory_is_that_of_the_root_of_the_steps(time_axis):
    """Neither the outputs of all steps exist whole, nor a copy of the inputs, nor what the function makes."""
    steps, features, words = 16_384, 8, 64
    layout = (steps, 1) if time_axis == 0 else (1, steps)
    (inside, _), given = program(layout, features, features, words, time_axis=time_axis)
    sequence = 4 * steps * features
    assert temporary_memory(inside, *given) < sequence  # logits are eight times as large


@pytest.mark.heavy
@pytest.mark.parametrize("time_axis", [0, 1])
def test_a_million_steps(time_axis):
    layout = (2**20, 1) if time_axis == 0 else (1, 2**20)
    (inside, _), given = program(layout, 16, 16, 16, time_axis=time_axis)
    assert temporary_memory(inside, *given) <= 2 * MIB


@pytest.mark.heavy
def test_a_language_model_with_ten_thousand_words():
    (inside, outside), given = program((32, 512), 512, 512, 10_000, time_axis=1)
    assert temporary_memory(inside, *given) <= temporary_memory(outside, *given) / 10


# ---- transformations


def test_mapped_and_compiled_once(rng):
    params, head, xs, words = drawn(rng)
    each = jax.vmap(jax.grad(loss, (0, 1, 2)), (None, None, 1, 1), (0, 0, 1))
    by_params, by_head, by_xs = jax.jit(each)(params, head, xs, words)
    got = (*jax.tree.map(lambda leaf: leaf.sum(0), (by_params, by_head)), by_xs)
    close(got, jax.jit(jax.grad(plain, (0, 1, 2)))(params, head, xs, words))
    _unroll_sum.clear_cache()
    for scale in (1.0, 2.0):
        loss(params, scale * head, xs, words)
    assert _unroll_sum._cache_size() == 1


def test_a_function_may_use_traced_arrays(rng):
    """As loops of ``lax`` let it; also where the same function comes again with other values."""
    params, head, xs, words = drawn(rng)

    def closed(params, head, xs, words):
        function = lambda _, y, word: cross_entropy(head, y, word)  # noqa: E731
        return jn.unroll_sum(CELL, params, xs, function, None, words, block=2).sums.sum()

    for transform in (lambda f: f, jax.jit):
        gradient = transform(jax.grad(closed, (0, 1, 2)))
        for scale in (1.0, -0.5):
            close(
                gradient(params, scale * head, xs, words), jax.grad(plain, (0, 1, 2))(params, scale * head, xs, words)
            )


def test_forward_mode(rng):
    params, head, xs, words = drawn(rng)
    along = jnp.cos(xs)
    with pytest.raises(TypeError, match=r"unroll_sum: method='chunked' has no forward-mode .* method='scan'"):
        jax.jvp(lambda xs: loss(params, head, xs, words), (xs,), (along,))
    _, change = jax.jvp(lambda xs: loss(params, head, xs, words, method="scan"), (xs,), (along,))
    np.testing.assert_allclose(change, jnp.vdot(jax.grad(plain, 2)(params, head, xs, words), along), rtol=1e-4)


@pytest.mark.heavy
def test_second_derivatives(x64, rng):
    given = jax.tree.map(lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf, drawn(rng))

    def curvature(loss):
        return jax.grad(lambda head, xs: jnp.sum(jax.grad(loss, 2)(given[0], head, xs, given[3]) ** 2), (0, 1))

    got, expected = (jax.jit(curvature(f))(*given[1:3]) for f in (loss, plain))
    chex.assert_trees_all_close(got, expected, rtol=1e-9, atol=1e-11)


# ---- leaving the process


@pytest.fixture
def symbols():
    """Without the run-time checks of annotations that pytest adds: a symbol in the place of a size is no int."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("free", ["b", "b, t"])
def test_a_training_step_with_free_sizes(free, symbols, rng):
    params, head, xs, words = drawn(rng)
    b, *rest = export.symbolic_shape(free)
    steps = rest[0] if rest else STEPS
    lengths = jnp.array([4, 6, 1], jnp.int32)

    def run(params, head, xs, words, lengths):
        def total(params, head):
            block = None if rest else 2
            out = jn.unroll_sum(CELL, params, xs, cross_entropy, head, words, lengths=lengths, block=block)
            return out.sums.sum()

        return jax.value_and_grad(total, (0, 1))(params, head)

    shape = jax.ShapeDtypeStruct
    sizes = (shape((steps, b, cases.IN_FEATURES), jnp.float32), shape((steps, b), jnp.int32), shape((b,), jnp.int32))
    check_reloaded(run, (shapes(params), shapes(head), *sizes), (params, head, xs, words, lengths))


# ---- devices


@pytest.mark.long
@pytest.mark.usefixtures("spread")
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_a_batch_spread_over_devices(kind, rng):
    params, head, xs, words = drawn(rng, batch=8)
    where = jnp.asarray(rng.random((8, STEPS)) < 0.7)
    xs, words = jnp.moveaxis(xs, 0, 1), words.T

    def total(params, head, xs, words, where):
        out = jn.unroll_sum(CELL, params, xs, cross_entropy, head, words, where=where, time_axis=1, block=2)
        return out.sums.sum(), out.sums

    gradient = jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        spread = jax.device_put((xs, words), NamedSharding(mesh, P("data")))
        (value, sums), got = gradient(params, head, *spread, where)
        assert sums.sharding.spec == P("data")
    close((value, got), ((expected := gradient(params, head, xs, words, where))[0][0], expected[1]))


@pytest.mark.long
@pytest.mark.usefixtures("spread")
def test_each_device_with_its_own_examples(rng):
    params, head, xs, words = drawn(rng, batch=4)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P(), P(None, "data"), P(None, "data")), out_specs=(P(), P()))
    def gradient(params, head, xs, words):
        return jax.grad(loss, (0, 1))(params, head, xs, words)

    close(gradient(params, head, xs, words), jax.grad(plain, (0, 1))(params, head, xs, words))
    found = equations(jax.make_jaxpr(gradient)(params, head, xs, words).jaxpr)
    bodies = [equation.params["jaxpr"].jaxpr for equation in found if equation.primitive.name == "scan"]
    inside = {equation.primitive.name for body in bodies for equation in equations(body)}
    assert "dot_general" in inside
    assert not [name for name in inside if name.startswith("psum")], "a sum over devices in a loop"
