"""The contract of the kernel wrappers: linen, NNX and the core compute the same, for every kind of weight normalizer.

``row_NN`` counts the defects found in other libraries.
"""

import dataclasses

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from jaxnorm._shared.names import to_names
from tests import cases
from tests.contracts.cell_checks import equations
from tests.flax.flax_tools import close

SPECS = list({type(case.spec): case.spec for case in cases.WEIGHTS if case.spec.axis is None}.values())
every_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
LSTM = jn.ln_lstm(cases.HIDDEN)


def nnx_lstm():
    return jx.RNN(LSTM, cases.IN_FEATURES, rngs=jax.random.key(0))


class Both:
    """An LSTM with normalized kernels in linen and in NNX, with the same random weights, scales and states."""

    def __init__(self, spec, rng, names=("kernel", "recurrent")):
        # The modules find the axis of the inputs themselves.
        self.spec, self.names = dataclasses.replace(spec, axis=0), names
        self.params = cases.random_cell_params(LSTM, rng)
        made = {n: self.spec.init(getattr(self.params, n), jax.random.key(i)) for i, n in enumerate(names)}
        self.weights = {
            n: cases.randomize(params, rng)._replace(kernel=params.kernel) for n, (params, _) in made.items()
        }
        self.states = {n: state for n, (_, state) in made.items()}
        self.kernels = spec if len(names) == 2 else {names[0]: spec}
        self.linen = jl.Reparametrized(jl.RNN(LSTM), self.kernels)
        self.nnx = jx.Reparametrized(
            jx.RNN(LSTM, cases.IN_FEATURES, rngs=jax.random.key(0)), self.kernels, rngs=nnx.Rngs(0)
        )
        nnx.update(self.nnx, self.named(self.nnx))
        scales = {n: w.scale for n, w in self.weights.items() if w.scale is not None}
        self.variables = {"params": {"module": to_names(self.params), **({"scale": scales} if scales else {})}}
        if any(state != () for state in self.states.values()):
            self.variables["batch_stats"] = {"state": {n: to_names(state) for n, state in self.states.items()}}

    def named(self, module):
        """The state of the NNX module with our numbers."""
        state = nnx.state(module)
        pure = nnx.to_pure_dict(state)
        pure["module"] = {**pure["module"], **to_names(self.params)}
        for n, weights in self.weights.items():
            if weights.scale is not None:
                pure["scale"][n] = weights.scale
            if self.states[n] != ():
                pure["state"][n] = to_names(self.states[n])
        nnx.replace_by_pure_dict(state, pure)
        return state

    def core(self, params, weights, xs, advance):
        states = {n: self.spec.advance(w, self.states[n]) if advance else self.states[n] for n, w in weights.items()}
        used = params._replace(**{n: self.spec(w, states[n]) for n, w in weights.items()})
        return jn.unroll(LSTM, used, xs, time_axis=1).outputs, {n: to_names(s) for n, s in states.items() if s != ()}


def inputs(rng):
    return cases.random_inputs(rng).swapaxes(0, 1)


def pure(module, kind):
    return nnx.to_pure_dict(nnx.state(module, kind))


@pytest.mark.long
@every_spec
@pytest.mark.parametrize("training", [True, False])
def test_modules_equal_the_core(spec, training, rng):
    """Values, gradients of kernels and scales, and states; and no kernel is overwritten."""
    both, xs = Both(spec, rng), inputs(rng)

    def with_core(weights):
        outputs, states = both.core(both.params, weights, xs, training)
        return jnp.sum(jnp.sin(outputs)), states

    (want, states), of_weights = jax.jit(jax.value_and_grad(with_core, has_aux=True))(both.weights)

    def with_linen(params):
        variables = {**both.variables, "params": params}
        outputs, updates = both.linen.apply(variables, xs, update_stats=training, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(outputs)), updates

    (got, updates), gradient = jax.jit(jax.value_and_grad(with_linen, has_aux=True))(both.variables["params"])
    np.testing.assert_allclose(got, want, rtol=1e-5)
    close(updates.get("batch_stats", {}).get("state", {}), states)
    for n, weights in of_weights.items():
        close(gradient["module"][n], weights.kernel)
        if weights.scale is not None:
            close(gradient["scale"][n], weights.scale)

    module = both.nnx
    module.train() if training else module.eval()

    @nnx.jit
    def with_nnx(module):
        return nnx.value_and_grad(lambda module: jnp.sum(jnp.sin(module(xs))))(module)

    got, gradient = with_nnx(module)
    gradient = nnx.to_pure_dict(gradient)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    close(pure(module, nnx.BatchStat).get("state", {}), states)
    for n, weights in of_weights.items():
        close(gradient["module"][n], weights.kernel)
        if weights.scale is not None:
            close(gradient["scale"][n], weights.scale)
        np.testing.assert_array_equal(getattr(module.module, n)[...], getattr(both.params, n))


@every_spec
def test_row_13_initialization_keeps_the_kernels(spec, rng, key):
    """The wrapped parameter was overwritten: v and w could not be told apart, and a second wrapping lost v."""
    xs = inputs(rng)
    plain = jl.RNN(LSTM)
    wrapped = jl.Reparametrized(plain, spec)
    outputs, variables = wrapped.init_with_output(key, xs)
    assert set(variables["params"]) <= {"module", "scale"}
    again = wrapped.apply(variables, xs, update_stats=False)
    np.testing.assert_allclose(outputs, again, rtol=1e-6, atol=1e-7)
    if isinstance(spec, jn.weight_norms.UnitNorm):  # stored as drawn, not as used
        assert np.abs(jn.weight_norms.unit_lengths(variables["params"]["module"]["kernel"], axis=0) - 1).max() > 1e-2
    if isinstance(spec, jn.WeightNorm):
        for name in ("kernel", "recurrent"):
            kernel = variables["params"]["module"][name]
            np.testing.assert_allclose(
                variables["params"]["scale"][name], jn.weight_norms.unit_lengths(kernel, axis=0), rtol=1e-6
            )
        np.testing.assert_allclose(
            outputs, plain.apply({"params": variables["params"]["module"]}, xs), rtol=1e-5, atol=1e-6
        )
    rnn = jx.RNN(LSTM, cases.IN_FEATURES, rngs=key)
    before = pure(rnn, nnx.Param)
    module = jx.Reparametrized(rnn, spec, rngs=nnx.Rngs(0))
    module(xs)
    close(pure(module.module, nnx.Param), before)
    low = jx.Reparametrized(nnx.Linear(3, 4, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0)), spec, rngs=key)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(low, nnx.Param))} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.long
@pytest.mark.parametrize(
    "spec", [jn.WeightNorm(), jn.SpectralNorm(), jn.WeightStandardization()], ids=lambda s: type(s).__name__
)
def test_row_14_wrapped_cells_run_inside_the_drivers_of_flax(spec, rng):
    """Wrapped cells had no ``num_feature_axes``, wrapped layers handed no further arguments on."""
    xs = inputs(rng)
    with jax.numpy_rank_promotion("allow"):
        cell = nnx.LSTMCell(cases.IN_FEATURES, 4, rngs=nnx.Rngs(0))
        inside = nnx.RNN(jx.Reparametrized(cell, spec, use_running_average=True, rngs=nnx.Rngs(1)))
        around = jx.Reparametrized(nnx.RNN(cell), spec, use_running_average=True, rngs=nnx.Rngs(1))
        lengths = jnp.asarray([5, 2, 3])
        got, want = inside(xs, seq_lengths=lengths), around(xs, seq_lengths=lengths)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=5e-5)
        carry, _ = around(xs, return_carry=True)
        assert len(carry) == 2
        own = nnx.RNN(jx.Reparametrized(jx.RNNCell(LSTM, cases.IN_FEATURES, rngs=nnx.Rngs(0)), spec, rngs=nnx.Rngs(1)))
        assert own(xs).shape == (3, 5, 4)

        driver = nn.RNN(
            jl.Reparametrized(nn.OptimizedLSTMCell(4), spec, update_stats=False),
            variable_broadcast=("params", "batch_stats"),
        )
        outputs, variables = driver.init_with_output(jax.random.key(0), xs)
        assert outputs.shape == (3, 5, 4)
        cell_variables = {name: part["cell"] for name, part in variables.items()}
        outside = jl.Reparametrized(nn.RNN(nn.OptimizedLSTMCell(4)), spec, update_stats=False)

        def moved(tree, inner):
            renamed = {"module": {"cell": tree["module"]}} if "module" in tree else {}
            return {**renamed, **{name: {"cell": part} for name, part in tree.items() if name != "module"}}

        moved_variables = {name: moved(part, name) for name, part in cell_variables.items()}
        np.testing.assert_allclose(driver.apply(variables, xs), outputs, rtol=1e-6)
        np.testing.assert_allclose(outside.apply(moved_variables, xs), outputs, rtol=1e-4, atol=5e-5)
        grads = jax.grad(lambda p: jnp.sum(driver.apply({**variables, "params": p}, xs)))(variables["params"])
        chex.assert_tree_all_finite(grads)


@every_spec
def test_kernels_are_normalized_once_a_sequence(spec, rng):
    both, xs = Both(spec, rng, ("recurrent",)), inputs(rng)
    both.nnx.eval()
    graph, state = nnx.split(both.nnx)
    programs = [
        jax.make_jaxpr(lambda variables: both.linen.apply(variables, xs, update_stats=False))(both.variables),
        jax.make_jaxpr(lambda state: nnx.merge(graph, state)(xs))(state),
    ]
    weights, own = both.weights["recurrent"], both.states["recurrent"]
    alone = jax.make_jaxpr(lambda weights: both.spec(weights, own))(weights)

    def divisions(found):
        return [e.primitive.name for e in found].count("div" if isinstance(spec, jn.SpectralNorm) else "sqrt")

    for program in programs:
        found = list(equations(program.jaxpr))
        inside = [e for scan in found if scan.primitive.name == "scan" for e in equations(scan.params["jaxpr"].jaxpr)]
        assert inside
        assert divisions(found) - divisions(inside) >= divisions(alone.jaxpr.eqns and equations(alone.jaxpr)) > 0
        if not isinstance(spec, jn.SpectralNorm):
            assert divisions(inside) == 0


def test_states_advance_in_training_only(rng):
    spec = jn.SpectralNorm()
    module = jx.Reparametrized(nnx.Linear(5, 4, rngs=nnx.Rngs(0)), spec, rngs=nnx.Rngs(1))
    x = jnp.asarray(rng.standard_normal((3, 5)), jnp.float32)
    before = jax.tree.map(np.asarray, pure(module.state, nnx.BatchStat))
    module.eval()
    with jax.numpy_rank_promotion("allow"):
        still = jax.jit(module)(x)  # closed over: inference writes nothing
        close(pure(module.state, nnx.BatchStat), before)
        module.train()
        module(x)
        after = pure(module.state, nnx.BatchStat)
        assert np.abs(after["kernel"]["u"] - before["kernel"]["u"]).max() > 1e-3
        for _ in range(60):
            module(x)
        module.eval()
        merged = module.merged()
        assert type(merged) is nnx.Linear
        np.testing.assert_allclose(np.linalg.svd(merged.kernel[...], compute_uv=False)[0], 1.0, rtol=1e-3)
        np.testing.assert_allclose(merged(x), module(x), rtol=1e-6)
        assert np.abs(np.asarray(still - module(x))).max() > 1e-4


def test_what_the_module_itself_changes_is_kept(rng):
    """Running statistics of a BN-LSTM and the counts of a dropout layer live on under the wrapper."""
    cell, xs = jn.bn_lstm(cases.HIDDEN, max_steps=cases.MAX_STEPS), inputs(rng)
    plain = jx.RNN(cell, cases.IN_FEATURES, rngs=jax.random.key(0))
    wrapped = jx.Reparametrized(jx.RNN(cell, cases.IN_FEATURES, rngs=jax.random.key(0)), jn.WeightNorm())
    np.testing.assert_allclose(wrapped(xs), plain(xs), rtol=1e-4, atol=1e-5)  # fresh scales change nothing
    close(pure(wrapped.module, nnx.BatchStat), pure(plain, nnx.BatchStat))
    assert wrapped.module.norm.cell.mean[...].any()
    linen = jl.Reparametrized(jl.RNN(cell, use_running_average=False), {"recurrent": jn.WeightNorm()})
    variables = linen.init(jax.random.key(0), xs)
    _, updates = linen.apply(variables, xs, mutable=["batch_stats"])
    assert updates["batch_stats"]["module"]["norm"]["cell"]["mean"].any()


def test_an_optimizer_trains_the_weights_behind(rng):
    module = jx.Reparametrized(jx.RNN(LSTM, cases.IN_FEATURES, rngs=jax.random.key(0)), jn.WeightNorm())
    optimizer = nnx.Optimizer(module, optax.sgd(0.1), wrt=nnx.Param)
    xs, before = inputs(rng), pure(module, nnx.Param)

    @nnx.jit
    def step(module, optimizer):
        loss, gradient = nnx.value_and_grad(lambda module: jnp.mean((module(xs) - 0.3) ** 2))(module)
        optimizer.update(module, gradient)
        return loss

    losses = [step(module, optimizer) for _ in range(3)]
    assert losses[2] < losses[0]
    after = pure(module, nnx.Param)
    for name in ("kernel", "recurrent"):
        assert np.abs(after["scale"][name] - before["scale"][name]).max() > 1e-6
        assert (
            jn.weight_norms.unit_lengths(after["module"][name], axis=0)
            >= jn.weight_norms.unit_lengths(before["module"][name], axis=0)
        ).all()


def test_partitioned_weights_stay_in_their_boxes(rng, key):
    rnn = jl.RNN(LSTM, partitioning={"recurrent": (None, None, "model")})
    wrapped = jl.Reparametrized(rnn, {"recurrent": jn.WeightNorm()})
    variables = jax.eval_shape(lambda: wrapped.init(key, inputs(rng)))
    assert variables["params"]["module"]["recurrent"].names == (None, None, "model")
    assert wrapped.apply(wrapped.init(key, inputs(rng)), inputs(rng)).shape == (3, 5, 4)


def test_kernels_are_chosen_by_name(rng, key):
    xs = inputs(rng)
    kernels = {"recurrent": jn.WeightNorm(), "kernel": jn.weight_norms.UnitNorm()}
    module = jx.Reparametrized(jx.RNN(LSTM, cases.IN_FEATURES, rngs=key), kernels)
    assert set(pure(module, nnx.Param)["scale"]) == {"recurrent"}
    merged = module.merged()
    np.testing.assert_allclose(jn.weight_norms.unit_lengths(merged.kernel[...], axis=0), np.ones((4, 4)), rtol=1e-5)
    for make in (
        lambda kernels: jx.Reparametrized(jx.RNN(LSTM, cases.IN_FEATURES, rngs=key), kernels),
        lambda kernels: jl.Reparametrized(jl.RNN(LSTM), kernels).init(key, xs),
    ):
        with pytest.raises(TypeError, match=r"Reparametrized: there is no variable 'weight' here, only bias, kernel"):
            make({"weight": jn.WeightNorm()})
    with pytest.raises(
        TypeError, match=r"Reparametrized: no variable is named 'kernel' or 'recurrent'; there are scale"
    ):
        jx.Reparametrized(nnx.RMSNorm(4, rngs=nnx.Rngs(0)), jn.WeightNorm())
    undecided = jx.Reparametrized(
        nnx.Linear(3, 4, rngs=nnx.Rngs(0)), jn.SpectralNorm(), use_running_average=None, rngs=key
    )
    with pytest.raises(ValueError, match=r"Reparametrized: nothing says whether to bring states up to date"):
        undecided(jnp.ones((2, 3)))
