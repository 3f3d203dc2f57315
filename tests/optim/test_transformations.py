"""The optax transformations against NumPy, in chains, by groups, jitted, and through checkpoints."""

import chex
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

import jaxnorm as jn
from jaxnorm import optim
from tests import cases
from tests.weight_norms import oracles


def as_float32(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


def weights_of(rng):
    """A kernel, a bias, gates and a convolution, as float64."""
    shapes = {"dense": {"kernel": (5, 4), "bias": (4,)}, "cell": {"recurrent": (3, 4, 3), "bias": (12,)}}
    shapes["image"] = {"kernel": (3, 3, 2, 4)}
    return jax.tree.map(rng.standard_normal, shapes, is_leaf=lambda shape: isinstance(shape, tuple))


def on_kernels(function, *trees):
    """Applies a function to kernels, the last tree's leaf elsewhere."""

    def choose(path, *leaves):
        return function(*leaves) if path[-1].key in ("kernel", "recurrent") else leaves[-1]

    return jax.tree_util.tree_map_with_path(choose, *trees)


def as_rows(kernel):
    """Kernels with three axes are gates here."""
    return oracles.as_rows(kernel, 0 if np.ndim(kernel) == 3 else None)


def lengths(kernel):
    rows, _ = as_rows(kernel)
    return np.sqrt((rows**2).sum(1))


def scaled(kernel, factors):
    rows, back = as_rows(kernel)
    return back(rows * np.broadcast_to(np.ravel(factors), len(rows))[:, None])


def falling(every):
    """A learning rate of 0.1 that falls to a tenth again and again; those of optax mix dtypes."""
    return lambda count: 0.1 * jnp.power(jnp.float32(0.1), (count // every).astype(jnp.float32))


def run(optimizer, params, gradients):
    """Several updates in one jitted function; the weights after each."""
    update = jax.jit(optimizer.update)
    params, found = as_float32(params), []
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = update(as_float32(gradient), state, params)
        params = optax.apply_updates(params, updates)
        found.append(params)
    return found


def assert_trees(got, want, tolerance=1e-5):
    chex.assert_trees_all_close(got, want, rtol=tolerance, atol=tolerance)


# ---- projection-based weight normalization


@pytest.mark.parametrize("every", [1, 3])
def test_project_weights_after_the_update(rng, every):
    params, gradients = weights_of(rng), [weights_of(rng) for _ in range(7)]
    found = run(optax.chain(optax.sgd(0.1), optim.project_weights(every=every)), params, gradients)
    for count, (gradient, got) in enumerate(zip(gradients, found, strict=True), 1):
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
        if count % every == 0:
            params = on_kernels(lambda w: scaled(w, 1 / lengths(w)), params)
        assert_trees(got, params)


def test_project_gradients_leaves_no_part_along_the_weights(rng):
    params, gradient = weights_of(rng), weights_of(rng)

    def tangent(w, g):
        rows, back = as_rows(w)
        steep = as_rows(g)[0]
        units = rows / np.sqrt((rows**2).sum(1, keepdims=True))
        return back(steep - (steep * units).sum(1, keepdims=True) * units)

    (got,) = run(optax.chain(optim.project_gradients(), optax.sgd(1.0)), params, [gradient])
    change = on_kernels(tangent, params, gradient)
    assert_trees(got, jax.tree.map(lambda p, g: p - g, params, change))
    flat = (oracles.as_rows(params["dense"]["kernel"])[0] * oracles.as_rows(change["dense"]["kernel"])[0]).sum(1)
    np.testing.assert_allclose(flat, 0.0, atol=1e-12)


def test_the_tangent_gradient_is_that_of_unit_rows(rng):
    # On the sphere the gradient through w/|w| is the projected one: the reparametrization and the projection agree.
    w = jn.weight_norms.unit_norm(jnp.asarray(rng.standard_normal((5, 3)), jnp.float32))
    through = jax.grad(lambda w: jnp.sum(jnp.sin(jn.weight_norms.unit_norm(w))))(w)
    plain = {"kernel": jax.grad(lambda w: jnp.sum(jnp.sin(w)))(w)}
    project = optim.project_gradients()
    update, _ = project.update(plain, project.init({"kernel": w}), {"kernel": w})
    np.testing.assert_allclose(update["kernel"], through, atol=1e-6)


# ---- weight decay by its effect on the step size


def test_correct_step_size_after_momentum(rng):
    params, gradients = weights_of(rng), [weights_of(rng) for _ in range(7)]
    records = [weights_of(rng) for _ in range(3)]
    norms = jax.tree.map(lambda *r: jnp.stack(r), *[optim.record_norms(as_float32(record)) for record in records])
    optimizer = optax.chain(optax.sgd(0.1, momentum=0.9), optim.correct_step_size(norms, steps_per_record=2))
    trace = jax.tree.map(np.zeros_like, params)
    for count, (gradient, got) in enumerate(zip(gradients, run(optimizer, params, gradients), strict=True)):
        record = records[min(count // 2, 2)]
        trace = jax.tree.map(lambda t, g: 0.9 * t + g, trace, gradient)  # not corrected itself

        def corrected(w, decayed, t):
            return scaled(t, (lengths(w) / lengths(decayed)) ** 2)

        params = jax.tree.map(lambda p, u: p - 0.1 * u, params, on_kernels(corrected, params, record, trace))
        assert_trees(got, params, 1e-4)


def test_correction_gives_the_directions_of_weight_decay(rng):
    """What the paper says: a normalized layer without decay turns as with it, once its step size is corrected."""
    x, target = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((32, 6), (32, 3)))
    start = {"kernel": jnp.asarray(rng.standard_normal((6, 3)), jnp.float32)}

    def loss(params):
        return jnp.mean((jn.batch_norm(jnp.matmul(x, params["kernel"]))[0] - target) ** 2)

    def train(optimizer):
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), params

        (final, _), seen = jax.lax.scan(step, (start, optimizer.init(start)), length=150)
        return jn.weight_norms.unit_norm(final["kernel"]), seen

    decay = optax.chain(optax.add_decayed_weights(0.02), optax.sgd(0.3))
    decayed, seen = jax.jit(lambda: train(decay))()
    norms = jax.jit(jax.vmap(optim.record_norms))(seen)
    corrected, _ = jax.jit(lambda: train(optax.chain(optax.sgd(0.3), optim.correct_step_size(norms))))()
    plain, _ = jax.jit(lambda: train(optax.sgd(0.3)))()
    kept, _ = jax.jit(lambda: train(optax.chain(optax.sgd(0.3), optim.schedule_norms(norms))))()
    away = float(jnp.abs(plain - decayed).max())
    assert away > 0.05, "the decay has to matter"
    assert float(jnp.abs(corrected - decayed).max()) < 0.1 * away
    assert float(jnp.abs(kept - decayed).max()) < 0.1 * away


def test_a_zero_record_stops_a_unit_and_nan_is_not_hidden():
    norms = {"kernel": jnp.asarray([[0.0, 1.0]])}
    params, gradient = {"kernel": jnp.ones((3, 2))}, {"kernel": jnp.asarray([[1.0, jnp.nan]] * 3)}
    (got,) = run(optax.chain(optax.sgd(1.0), optim.correct_step_size(norms)), params, [gradient])
    np.testing.assert_array_equal(got["kernel"][:, 0], np.ones(3))
    assert np.isnan(got["kernel"][:, 1]).all()
    published = optax.chain(optax.sgd(1.0), optim.correct_step_size(norms), optax.zero_nans())
    np.testing.assert_array_equal(run(published, params, [gradient])[0]["kernel"], np.ones((3, 2)))


def test_schedule_norms_in_place_of_the_learning_rate(rng):
    """The experiment's schedule: a tenth of the learning rate every two epochs is lengths that grow by root ten."""
    params, gradients = weights_of(rng), [weights_of(rng) for _ in range(9)]
    records = [weights_of(rng) for _ in range(3)]
    norms = jax.tree.map(lambda *r: jnp.stack(r), *[optim.record_norms(as_float32(record)) for record in records])
    schedule = falling(4)
    groups = {True: optax.sgd(0.1), False: optax.sgd(schedule)}  # the others keep the learning rate's schedule
    optimizer = optax.chain(
        optax.partition(groups, optim.kernels), optim.schedule_norms(norms, steps_per_record=2, learning_rate=schedule)
    )
    for count, (gradient, got) in enumerate(zip(gradients, run(optimizer, params, gradients), strict=True)):
        epoch = count // 2
        rate, record = 0.1 * 0.1 ** (count // 4), records[min(epoch, 2)]

        def rescaled(w, g, decayed, _, epoch=epoch):
            moved = w - 0.1 * g
            return scaled(moved, lengths(decayed) * np.sqrt(10.0) ** (epoch // 2) / lengths(moved))

        others = jax.tree.map(lambda p, g, rate=rate: p - rate * g, params, gradient)
        params = on_kernels(rescaled, params, gradient, record, others)
        assert_trees(got, params, 1e-4)


# ---- groups, masks


@pytest.mark.parametrize("given", ["booleans", "prefix", "callable", "named"])
def test_masks_choose_the_weights(rng, given):
    params, gradient = weights_of(rng), weights_of(rng)
    mask = {
        "booleans": {
            "dense": {"kernel": True, "bias": False},
            "cell": {"recurrent": False, "bias": False},
            "image": {"kernel": False},
        },
        "prefix": {"dense": {"kernel": True, "bias": False}, "cell": False, "image": False},
        "callable": lambda tree: jax.tree.map(lambda leaf: leaf.ndim == 2 and leaf.shape[0] == 5, tree),
        "named": lambda tree: {**optim.named("kernel")(tree), "image": False},
    }[given]
    (got,) = run(optax.chain(optax.sgd(0.1), optim.project_weights(mask=mask)), params, [gradient])
    want = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    want["dense"]["kernel"] = scaled(want["dense"]["kernel"], 1 / lengths(want["dense"]["kernel"]))
    assert_trees(got, want)


def test_two_groups_are_two_in_the_chain(rng):
    params, gradients = weights_of(rng), [weights_of(rng) for _ in range(2)]
    only_dense = {"dense": {"kernel": True, "bias": False}, "cell": False, "image": False}
    optimizer = optax.chain(
        optax.sgd(0.1),
        optim.project_weights(mask=optim.named("recurrent")),
        optim.project_weights(every=2, axis=-1, mask=only_dense),
    )
    first, second = run(optimizer, params, gradients)
    np.testing.assert_allclose(lengths(first["cell"]["recurrent"]), 1.0, rtol=1e-5)
    assert np.abs(lengths(first["dense"]["kernel"].T) - 1).min() > 1e-3
    np.testing.assert_allclose(lengths(second["dense"]["kernel"].T), 1.0, rtol=1e-5)


def test_the_default_mask_finds_the_kernels_of_cells_and_modules(key):
    params = jn.ln_lstm(4).init(key, in_features=3)
    chosen = optim.kernels(params)
    assert chosen.kernel is chosen.recurrent is True
    assert chosen.bias is False
    assert not any(jax.tree.leaves(chosen.norm)), "a gain at the site 'recurrent' is no kernel"
    with pytest.raises(ValueError, match=r"named: no weight is named 'kernel' or 'recurrent'. Give other names"):
        optim.project_weights().init({"weight": jnp.ones((2, 2))})


def test_nnx_optimizers_take_them(rng):
    model = nnx.Linear(5, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.chain(optax.sgd(0.1), optim.project_weights()), wrt=nnx.Param)
    x = jnp.asarray(rng.standard_normal((4, 5)), jnp.float32)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(lambda model: jnp.sum(jnp.sin(model(x))))(model))

    with jax.numpy_rank_promotion("allow"):
        step(model, optimizer)
    np.testing.assert_allclose(lengths(model.kernel[...]), 1.0, rtol=1e-5)
    assert model.bias[...].any()


# ---- jit, dtypes, checkpoints, errors


def everything(params):
    norms = jax.tree.map(lambda length: length[None], optim.record_norms(params))
    return optax.chain(
        optim.project_gradients(),
        optax.sgd(0.1, momentum=0.9),
        optim.correct_step_size(norms),
        optim.schedule_norms(norms, learning_rate=falling(2)),
        optim.project_weights(every=2),
    )


def test_state_goes_through_checkpoints(rng, tmp_path):
    params, gradients = as_float32(weights_of(rng)), [as_float32(weights_of(rng)) for _ in range(3)]
    optimizer = everything(params)
    state = optimizer.init(params)
    _, state = optimizer.update(gradients[0], state, params)
    bytes_ = flax.serialization.to_bytes(state)
    from_bytes = flax.serialization.from_bytes(optimizer.init(params), bytes_)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        from_disk = checkpointer.restore(tmp_path / "state", optimizer.init(params))
    update = jax.jit(optimizer.update)
    want = update(gradients[1], state, params)
    for restored in (from_bytes, from_disk):
        chex.assert_trees_all_equal_structs(restored, state)
        assert_trees(update(gradients[1], restored, params), want, 0)
    counts = [leaf for leaf in jax.tree.leaves(from_bytes) if leaf.ndim == 0]
    assert sum(int(count) == 1 for count in counts) >= 4


def test_one_trace_serves_all_steps(rng):
    params = as_float32(weights_of(rng))
    optimizer = everything(params)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(gradient, state, params):
        return optimizer.update(gradient, state, params)

    state = optimizer.init(params)
    for _ in range(4):
        updates, state = step(as_float32(weights_of(rng)), state, params)
        params = optax.apply_updates(params, updates)
        chex.assert_tree_all_finite(params)
    np.testing.assert_allclose(lengths(params["dense"]["kernel"]), 1.0, rtol=1e-5)


def test_low_precision_weights_and_zero_units(rng):
    params = {"kernel": jnp.asarray(rng.standard_normal((5, 4)), jnp.bfloat16).at[:, 0].set(0)}
    gradient = {"kernel": jnp.zeros((5, 4), jnp.bfloat16)}
    for optimizer in (optim.project_weights(), everything(params)):
        updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        made = optax.apply_updates(params, updates)["kernel"]
        assert updates["kernel"].dtype == made.dtype == jnp.bfloat16
        assert not np.asarray(made[:, 0]).any()
        assert np.isfinite(np.asarray(made, np.float32)).all()
    updates, _ = optim.project_weights().update(gradient, optim.project_weights().init(params), params)
    made = np.asarray(optax.apply_updates(params, updates)["kernel"], np.float64)
    np.testing.assert_allclose(lengths(made)[1:], 1.0, rtol=1e-2)


@pytest.mark.parametrize(
    "make",
    [
        optim.project_weights,
        optim.project_gradients,
        lambda: optim.correct_step_size({"kernel": jnp.ones((1, 4))}),
        lambda: optim.schedule_norms({"kernel": jnp.ones((1, 4))}),
    ],
)
def test_weights_are_needed(make):
    params, optimizer = {"kernel": jnp.ones((5, 4))}, make()
    with pytest.raises(ValueError, match=r": the change depends on the weights, but params is None. Pass them"):
        optimizer.update(params, optimizer.init(params))


def test_records_that_do_not_fit_are_refused():
    params, none = {"kernel": jnp.ones((5, 4)), "bias": jnp.ones(4)}, optax.MaskedNode()
    for make in (optim.correct_step_size, optim.schedule_norms):
        for norms, message in (
            ({"kernel": jnp.ones((2, 4)), "bias": jnp.ones((2, 4))}, r"norms must have the structure of the chosen"),
            (
                {"kernel": jnp.ones(4), "bias": none},
                r"norms must have shape \(records, \*units\) = \(4, 4\)",
            ),
            (
                {"kernel": jnp.ones((2, 5)), "bias": none},
                r"norms must have shape .* = \(2, 4\), got \(2, 5\)",
            ),
        ):
            optimizer = make(norms)
            with pytest.raises(ValueError, match=message):
                optimizer.update(params, optimizer.init(params), params)
        with pytest.raises(ValueError, match=r"steps_per_record must be a positive integer, got 0"):
            make({}, steps_per_record=0)
    with pytest.raises(ValueError, match=r"project_weights: every must be a positive integer, got 0"):
        optim.project_weights(every=0)


def test_a_training_step_on_a_cell(rng, key):
    cell = jn.lstm(cases.HIDDEN)
    params, xs = cell.init(key, in_features=cases.IN_FEATURES), cases.random_inputs(rng)
    gradient = jax.grad(lambda params: jnp.sum(jn.unroll(cell, params, xs).outputs))(params)
    optimizer = optax.chain(optax.sgd(1e-2, momentum=0.9), optim.project_weights())
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    made = optax.apply_updates(params, updates)
    np.testing.assert_allclose(lengths(made.recurrent), np.ones(4 * cases.HIDDEN), rtol=1e-5)
    np.testing.assert_allclose(lengths(made.kernel), np.ones(4 * cases.HIDDEN), rtol=1e-5)
