"""Statistics of time steps through the Flax modules, by age; and population statistics in one call."""

from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from jaxnorm._shared.layers import cell_template
from jaxnorm._shared.names import from_names
from jaxnorm.nnx import variables
from tests import cases

BATCH, STEPS, IN, HIDDEN = 16, 6, cases.IN_FEATURES, 3
ROWS = 8
CELL = jn.bn_lstm(HIDDEN, max_steps=ROWS, momentum=0.0)
FIRST = jnp.arange(STEPS) >= 2
SCENES = {
    "padding on the left": {"mask": jnp.broadcast_to(FIRST, (BATCH, STEPS))},
    "padding in the middle": {"mask": jnp.broadcast_to(jnp.arange(STEPS) % 3 != 1, (BATCH, STEPS))},
    "reversed, with lengths": {"seq_lengths": jnp.arange(BATCH) % (STEPS + 1), "reverse": True},
    "a window that begins with a reset": {"carry": True, "reset": jnp.zeros((BATCH, STEPS), bool).at[:, 0].set(True)},
}


def inputs(rng, steps=STEPS):
    return cases.random_inputs(rng, BATCH, (steps,)) + jnp.arange(float(steps))[None, :, None] / 4


def run_linen(xs, options):
    module = jl.RNN(CELL)
    start = module.init(jax.random.key(0), xs, use_running_average=True)
    trained, updates = module.apply(start, xs, **options, use_running_average=False, mutable=["batch_stats"])
    return trained, module.apply({**start, **updates}, xs, **options, use_running_average=True)


def run_nnx(xs, options):
    module = jx.RNN(CELL, IN, rngs=nnx.Rngs(0))
    return module(xs, **options), module(xs, **options, use_running_average=True)


@pytest.mark.parametrize("run", [run_linen, run_nnx])
@pytest.mark.parametrize("scene", SCENES)
def test_inference_repeats_training(run, scene, rng):
    options = dict(SCENES[scene])
    if options.pop("carry", False):
        old = jn.unroll(CELL, CELL.init(jax.random.key(1), IN), inputs(rng, 4), time_axis=1)
        options["initial_carry"] = old.carry
    trained, inferred = run(inputs(rng), options)
    np.testing.assert_allclose(inferred, trained, atol=1e-6)


def test_single_steps_of_linen_know_the_age_of_their_examples(rng):
    """Two steps through RNNCell with a carry of mixed ages fill the rows of both ages, in each front end."""
    xs = inputs(rng, 2)
    step = jnp.where(jnp.arange(BATCH) < 4, 5, 1)
    carry = jn.CountedCarry(jn.LSTMCarry(*jnp.ones((2, BATCH, HIDDEN))), step.astype(jnp.int32))
    plain = jl.RNNCell(CELL, use_running_average=False)
    start = plain.init(jax.random.key(0), carry, xs[:, 0])
    params = from_names(cell_template(CELL, IN), start["params"])
    module = jx.RNNCell(CELL, IN, rngs=nnx.Rngs(0))
    for name in ("kernel", "recurrent", "bias"):
        getattr(module, name).set_value(start["params"][name])
    found, state, other = start, carry, carry
    for t in range(2):
        (state, _), updates = plain.apply(found, state, xs[:, t], mutable=["batch_stats"])
        found = {**found, **updates}
        other, _ = module(other, xs[:, t])
    first = jn.unroll(CELL, params, xs[:, :1], carry=carry, time_axis=1)
    second = jn.unroll(CELL, params, xs[:, 1:], carry=first.carry, time_axis=1)
    expected = CELL.update_running(CELL.update_running(CELL.initial_stats(), first.moments), second.moments)
    assert expected.input.count.tolist() == [0, 12, 12, 0, 0, 4, 4, 0]
    template = {"norm": CELL.initial_stats()}
    for got in (from_names(template, found["batch_stats"])["norm"], variables.running(module)):
        chex.assert_trees_all_close(got, expected, rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize("driver", ["linen", "nnx"])
def test_steps_in_a_driver_of_flax_fill_the_same_rows(driver, rng):
    """Whole sequences by RNNCell in Flax's own RNN: inference repeats training."""
    xs = inputs(rng)
    if driver == "nnx":
        module = nnx.RNN(jx.RNNCell(CELL, IN, rngs=nnx.Rngs(0)))
        trained = module(xs)
        module.eval()
        inferred = module(xs)
    else:
        train = nn.RNN(jl.RNNCell(CELL, use_running_average=False), variable_carry="batch_stats")
        test = nn.RNN(jl.RNNCell(CELL, use_running_average=True), variable_broadcast=("params", "batch_stats"))
        start = train.init(jax.random.key(0), xs)
        trained, updates = train.apply(start, xs, mutable=["batch_stats"])
        inferred = test.apply({**start, **updates}, xs)
    np.testing.assert_allclose(inferred, trained, atol=1e-6)


# ---- population statistics


class Model(nn.Module):
    """Statistics over positions, of time steps in a module or in a driver, and those of other kinds beside them."""

    steps_apart: bool = False

    @nn.compact
    def __call__(self, xs, *, train):
        xs = jl.Norm(jn.BatchNorm(ddof=1), name="norm")(xs, use_running_average=not train)
        xs = jl.Norm(jn.zoo.DecorrelatedBatchNorm(3), name="white")(xs, use_running_average=not train)
        xs = jl.Norm(jn.zoo.BatchRenorm(), name="renorm")(xs, use_running_average=not train)
        if not self.steps_apart:
            return jl.RNN(CELL, name="rnn")(xs, use_running_average=not train)
        cell = jl.RNNCell(CELL, use_running_average=not train, name="rnn")
        return nn.RNN(cell, variable_carry="batch_stats")(xs)


def data(rng):
    return [inputs(rng)[..., :3], inputs(rng, 4)[: BATCH // 2, :, :3], inputs(rng)[..., :3]]


def population_of_moments(batches, params, ddof):
    """By the functions of the core, a layer after the other."""

    def forward(xs):
        ys, norm = jn.batch_norm(xs)
        renorm = jn.zoo.BatchRenorm()
        white = jn.zoo.DecorrelatedBatchNorm(3)
        ys, _ = white(white.init((3,)), ys)
        ys, _ = renorm.train(renorm.init((3,)), ys, renorm.initial_stats((3,)))
        return norm, jn.unroll(CELL, params, ys, time_axis=1).moments

    return jn.population(map(jax.jit(forward), batches), ddof=ddof)


@pytest.mark.parametrize("steps_apart", [False, True])
@pytest.mark.parametrize("ddof", [0, 1])
def test_population_of_a_linen_model(steps_apart, ddof, rng):
    batches, model = data(rng), Model(steps_apart)
    start = model.init(jax.random.key(0), batches[0], train=steps_apart)
    got = jl.population(model, start, iter(batches), ddof=ddof, train=True)
    params = from_names(cell_template(CELL, 3), start["params"]["rnn"])
    norm, sites = population_of_moments(batches, params, ddof)
    close = partial(chex.assert_trees_all_close, rtol=1e-4, atol=1e-5)
    close(jn.Moments(**got["batch_stats"]["norm"]), norm)
    seen = np.asarray(sites.input.count) > 0
    assert seen.tolist() == [True] * STEPS + [False] * 2
    close(from_names({"norm": CELL.initial_stats()}, got["batch_stats"]["rnn"])["norm"], sites)
    for other in ("white", "renorm"):  # no means and variances; or training looks at them
        chex.assert_trees_all_equal(got["batch_stats"][other], start["batch_stats"][other])
    chex.assert_trees_all_equal(got["params"], start["params"])


def test_population_goes_through_a_compiled_part_of_a_model(rng):
    """Even if it has been compiled for training: there the same call folds by the rule of the spec."""

    class Outer(nn.Module):
        @nn.compact
        def __call__(self, xs):
            return nn.jit(jl.RNN)(CELL, use_running_average=False, name="rnn")(xs)

    xs, model = inputs(rng), Outer()
    start = model.init(jax.random.key(0), xs)
    _, updates = model.apply(start, xs, mutable=["batch_stats"])
    changed = jl.population(model, {**start, **updates}, [xs, 2.0 * xs], ddof=0)["batch_stats"]["rnn"]["norm"]["input"]
    params = from_names(cell_template(CELL, IN), start["params"]["rnn"])
    moments = [jn.unroll(CELL, params, x, time_axis=1).moments for x in (xs, 2.0 * xs)]
    np.testing.assert_allclose(changed["mean"], jn.population(moments, ddof=0).input.mean, rtol=1e-4, atol=1e-5)
    _, later = model.apply(start, xs, mutable=["batch_stats"])
    chex.assert_trees_all_equal(later, updates)


class Pair(nnx.Module):
    def __init__(self, steps_apart, *, rngs):
        self.norm = jx.Norm(jn.BatchNorm(ddof=1), 3)
        self.white = jx.Norm(jn.zoo.DecorrelatedBatchNorm(3), 3)
        self.renorm = jx.Norm(jn.zoo.BatchRenorm(), 3)
        self.rnns = nnx.List([(nnx.RNN(jx.RNNCell(CELL, 3, rngs=rngs)) if steps_apart else jx.RNN(CELL, 3, rngs=rngs))])

    def __call__(self, xs):
        return self.rnns[0](self.renorm(self.white(self.norm(xs))))


@pytest.mark.parametrize("steps_apart", [False, True])
def test_population_of_an_nnx_model(steps_apart, rng):
    batches, model = data(rng), Pair(steps_apart, rngs=nnx.Rngs(0))
    model.eval()
    rnn = model.rnns[0].cell if steps_apart else model.rnns[0]
    before = jax.tree.map(jnp.copy, nnx.to_pure_dict(nnx.state(model)))
    assert jx.population(model, iter(batches), ddof=1) is None
    norm, sites = population_of_moments(batches, variables.weights(rnn), 1)
    close = partial(chex.assert_trees_all_close, rtol=1e-4, atol=1e-5)
    close(variables.statistics(model.norm), norm)
    close(variables.running(rnn), sites)
    after = nnx.to_pure_dict(nnx.state(model))
    for other in ("white", "renorm"):
        chex.assert_trees_all_equal(after[other], before[other])
    assert rnn.cell == CELL
    assert model.norm.use_running_average, "it is still in evaluation"


def test_population_takes_several_arguments_methods_and_randomness(rng):
    xs = inputs(rng)
    zoned = jn.Zoneout(CELL, rate=0.5)
    module = jl.RNN(zoned)
    start = module.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, xs, use_running_average=False)
    run = partial(jl.population, module, start, [xs, xs], use_running_average=False, ddof=0)
    one, same, other = (run(rngs={"dropout": jax.random.key(k)})["batch_stats"]["norm"]["cell"] for k in (3, 3, 4))
    np.testing.assert_array_equal(one["mean"], same["mean"])
    assert not np.allclose(one["mean"], other["mean"], atol=1e-4)

    norm = jx.Norm(jn.BatchNorm(), IN)
    calls = [(xs, jnp.ones((BATCH, STEPS, 1), bool).at[3:].set(False))] * 2
    jx.population(norm, calls, ddof=0, method=lambda norm, xs, mask: norm(xs, mask=mask))
    np.testing.assert_allclose(norm.mean[...], np.asarray(xs[:3]).mean((0, 1)), rtol=1e-4, atol=1e-5)


def test_rows_that_no_batch_has_seen_stay(rng):
    norm = jx.RNN(CELL, IN, rngs=nnx.Rngs(0))
    norm(inputs(rng, 8))
    kept = np.asarray(norm.norm.input.mean[...])
    jx.population(norm, [inputs(rng, 3)])
    assert not np.allclose(norm.norm.input.mean[:3], kept[:3], atol=1e-4)
    np.testing.assert_array_equal(norm.norm.input.mean[3:], kept[3:])


def test_errors_say_what_is_missing(rng):
    xs, module = inputs(rng), jl.RNN(CELL)
    start = module.init(jax.random.key(0), xs, use_running_average=True)
    with pytest.raises(ValueError, match=r"jaxnorm.linen.population: batches is empty. Pass the inputs"):
        jl.population(module, start, [], use_running_average=False)
    with pytest.raises(ValueError, match=r"jaxnorm.linen.population: no module with batch statistics measured"):
        jl.population(module, start, [xs], use_running_average=True)
    plain = jl.RNN(jn.ln_lstm(3))
    with pytest.raises(ValueError, match=r"jaxnorm.linen.population: the variables have no 'batch_stats'"):
        jl.population(plain, plain.init(jax.random.key(0), xs), [xs])
    with pytest.raises(ValueError, match=r"jaxnorm.nnx.population: batches is empty. Pass the inputs"):
        jx.population(jx.RNN(CELL, IN, rngs=nnx.Rngs(0)), [])
    with pytest.raises(ValueError, match=r"jaxnorm.nnx.population: RNN has no module of jaxnorm with batch statistics"):
        jx.population(jx.RNN(jn.ln_lstm(3), IN, rngs=nnx.Rngs(0)), [xs])
    used = lambda module, xs: module(xs, use_running_average=True)  # noqa: E731
    with pytest.raises(ValueError, match=r"jaxnorm.nnx.population: no module with batch statistics measured"):
        jx.population(jx.RNN(CELL, IN, rngs=nnx.Rngs(0)), [xs], method=used)
