"""Layers and directions in one linen ``RNN``: each cell is an ``unroll`` of its own."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
import jaxnorm.linen as jl
from jaxnorm._shared.names import to_names
from tests import cases
from tests.flax.flax_tools import close
from tests.tools.annotations import no_annotation_checks

pytestmark = pytest.mark.long

BATCH, STEPS = 2, 4
LENGTHS = jnp.array([4, 2])
CELLS = (jn.ln_lstm(4), jn.Directions(jn.bn_lstm(2, max_steps=3), jn.gru(3)), jn.elman(4))
SIZES = (3, jn.Directions(4, 4), 5)
"""The inputs of each cell; both directions together give 2 + 3 features."""


def names(tree):
    """Nested dicts under the names of the module."""
    first, both, last = tree
    directions = {name: to_names(entry) for name, entry in both._asdict().items()}
    return {"layers_0": to_names(first), "layers_1": directions, "layers_2": to_names(last)}


def weights(rng):
    first, both, last = CELLS
    return (
        cases.random_cell_params(first, rng, SIZES[0]),
        jn.Directions(*(cases.random_cell_params(cell, rng, 4) for cell in both)),
        cases.random_cell_params(last, rng, SIZES[2]),
    )


def one_by_one(params, xs, stats=None, carry=(None, (None, None), None), **options):
    """The equations of the module: four calls of ``unroll``."""
    first, (forward, backward), last = CELLS
    a = jn.unroll(first, params[0], xs, carry=carry[0], **options)
    b = jn.unroll(forward, params[1].forward, a.outputs, carry=carry[1][0], stats=stats, **options)
    c = jn.unroll(backward, params[1].backward, a.outputs, carry=carry[1][1], reverse=True, **options)
    d = jn.unroll(last, params[2], jnp.concatenate([b.outputs, c.outputs], -1), carry=carry[2], **options)
    return (a.carry, (b.carry, c.carry), d.carry), d.outputs, b.moments


def test_the_case_of_two_layers(key):
    ys, variables = jl.RNN((jn.lstm(4), jn.lstm(2))).init_with_output(key, jnp.ones((2, 5, 3)))
    assert ys.shape == (2, 5, 2)
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes == {
        "layers_0": {"kernel": (3, 4, 4), "recurrent": (4, 4, 4), "bias": (16,)},
        "layers_1": {"kernel": (4, 4, 2), "recurrent": (2, 4, 2), "bias": (8,)},
    }
    assert not np.allclose(*(variables["params"][name]["recurrent"][:2, 0, :2] for name in ("layers_0", "layers_1")))


def test_layers_and_directions_are_unrolls(rng):
    """Values, carries and running statistics, in training with lengths and in inference with a carry and a mask."""
    params, xs = weights(rng), cases.random_inputs(rng, STEPS, (BATCH,))
    running = cases.random_stats(CELLS[1].forward.initial_stats(), rng)
    module = jl.RNN(CELLS, return_carry=True)
    variables = {"params": names(params), "batch_stats": {"layers_1": {"forward": to_names({"norm": running})}}}
    mask = jnp.asarray(rng.uniform(size=(STEPS, BATCH)) < 0.7)

    @jax.jit
    def both(xs):
        trained, updates = module.apply(
            variables, xs.swapaxes(0, 1), seq_lengths=LENGTHS, use_running_average=False, mutable=["batch_stats"]
        )
        carry, ys, moments = one_by_one(params, xs, lengths=LENGTHS)
        stats = CELLS[1].forward.update_running(running, moments)
        expected = (carry, ys.swapaxes(0, 1)), {"batch_stats": {"layers_1": {"forward": to_names({"norm": stats})}}}
        call = {"mask": mask, "time_major": True, "use_running_average": True}
        again = module.apply(variables, xs, initial_carry=trained[0], **call)
        return (trained, updates), expected, again, one_by_one(params, xs, running, carry, where=mask)[:2]

    got, expected, again, expected_again = both(xs)
    for one, other in ((got, expected), (again, expected_again)):
        close(jax.tree.leaves(one), jax.tree.leaves(other))
    assert isinstance(got[0][0][1], jn.Directions)


def test_directions_alone_with_resets_and_another_merge(rng):
    cells = jn.Directions(jn.lstm(4), jn.lstm(4))
    params = jn.Directions(*(cases.random_cell_params(cell, rng) for cell in cells))
    xs = cases.random_inputs(rng, STEPS, (BATCH,))
    reset = jnp.zeros((STEPS, BATCH), bool).at[2, 0].set(True)
    ends = jnp.zeros((STEPS, BATCH), bool).at[1, 0].set(True)
    variables = {"params": {name: to_names(entry) for name, entry in params._asdict().items()}}
    got = jl.RNN(cells, time_major=True, merge_fn=jnp.add).apply(variables, xs, reset=reset)
    forward = jn.unroll(cells.forward, params.forward, xs, reset=reset).outputs
    backward = jn.unroll(cells.backward, params.backward, xs, reset=ends, reverse=True).outputs
    close(got, forward + backward)
    summed = jl.RNN((cells, jn.gru(2)), merge_fn=jnp.add)
    shapes = jax.eval_shape(summed.init, jax.random.key(0), jnp.ones((2, 5, 3)))
    assert shapes["params"]["layers_1"]["kernel"].shape == (4, 3, 2)


def test_it_is_flax_bidirectional(rng):
    """The same weights in Flax's own pair of modules, around ours."""
    cells = jn.Directions(jn.ln_lstm(4), jn.ln_gru(4))
    weights = [to_names(cases.random_cell_params(cell, rng)) for cell in cells]
    xs = cases.random_inputs(rng, STEPS, (BATCH,)).swapaxes(0, 1)
    ours = jl.RNN(cells).apply(
        {"params": dict(zip(("forward", "backward"), weights, strict=True))}, xs, seq_lengths=LENGTHS, return_carry=True
    )
    pair = nn.Bidirectional(*map(jl.RNN, cells), return_carry=True)
    theirs = pair.apply(
        {"params": dict(zip(("forward_rnn", "backward_rnn"), weights, strict=True))}, xs, seq_lengths=LENGTHS
    )
    close(jax.tree.leaves(ours), jax.tree.leaves(theirs))


def test_reverse_of_layers(rng):
    cells = (jn.lstm(4), jn.lstm(4))
    params = [cases.random_cell_params(cell, rng, size) for cell, size in zip(cells, (3, 4), strict=True)]
    xs = cases.random_inputs(rng, STEPS, (BATCH,))
    variables = {"params": {f"layers_{k}": to_names(entry) for k, entry in enumerate(params)}}
    whole = jn.unroll(cells[0], params[0], xs, reverse=True).outputs
    whole = jn.unroll(cells[1], params[1], whole, reverse=True).outputs
    module = jl.RNN(cells, time_major=True, reverse=True)
    close(module.apply(variables, xs, keep_order=True), whole)
    close(module.apply(variables, xs), whole[::-1])
    with pytest.raises(TypeError, match=r"bidirectional: reverse is not an option here. Swap the two cells"):
        jl.RNN((cells[0], jn.Directions(*cells)), reverse=True).init(jax.random.key(0), xs)


def test_each_layer_draws_masks_of_its_own(rng, key):
    """Two layers with the same weights and inputs that are outputs again would show the same masks."""
    cell = jn.VariationalDropout(jn.lstm(4), input_rate=0.5)
    module, xs = jl.RNN(jn.Directions(cell, cell)), jnp.ones((1, 1, 64))
    params = to_names(cases.random_cell_params(cell, rng, 64))
    variables = {"params": {"forward": params, "backward": params}}
    one, other = jnp.split(module.apply(variables, xs, rngs={"dropout": key})[0, 0], 2)
    assert float(jnp.abs(one - other).max()) > 1e-3
    one, other = jnp.split(module.apply(variables, xs, deterministic=True)[0, 0], 2)
    close(one, other)
    noisy = jn.lstm(4, initial_noise=0.1)
    variables = {"params": dict.fromkeys(("forward", "backward"), to_names(cases.random_cell_params(noisy, rng)))}
    one, other = jnp.split(jl.RNN(jn.Directions(noisy, noisy)).apply(variables, xs[..., :3], init_key=key)[0, 0], 2)
    assert float(jnp.abs(one - other).max()) > 1e-3
    both = jl.RNN((noisy, jn.Zoneout(jn.lstm(4), rate=0.5)))  # a key for each purpose
    variables = jax.jit(both.init)({"params": key, "dropout": key}, xs, init_key=key)
    both.apply(variables, xs, init_key=key, rngs={"dropout": key})


def test_partitioning_and_kernel_axes(key):
    cells, xs = (jn.lstm(4), jn.Directions(jn.ln_lstm(4), jn.zoo.IndRNN(4))), jnp.ones((2, 5, 3))
    spread = {"layers_1_forward_kernel": (None, None, "model"), "recurrent": (None, None, "model")}
    with pytest.raises(ValueError, match="RNN: partitioning spreads layers_1_backward_recurrent, of shape"):
        jl.RNN(cells, partitioning=spread).init(key, xs)
    spread = {"layers_1_forward_kernel": (None, None, "model")}
    variables = jax.eval_shape(jl.RNN(cells, partitioning=spread).init, key, xs)
    specs = nn.get_partition_spec(variables)["params"]
    assert specs["layers_1"]["forward"]["kernel"] == jax.sharding.PartitionSpec(None, None, "model")
    assert not isinstance(variables["params"]["layers_0"]["kernel"], nn.Partitioned)
    axes = jl.kernel_axes(jl.RNN((cells[0], jn.Directions(cells[0], cells[0]))), key, xs)
    weights = ("layers_0", "layers_1_forward", "layers_1_backward")
    assert axes == {f"{place}_{name}": 0 for place in weights for name in ("kernel", "recurrent")}


def test_population_statistics_of_layers(rng, key):
    """Layer after layer gets its own; without batch statistics it keeps nothing."""
    norm = jn.BatchNorm(momentum=0.0, scale_init=0.1)  # running statistics are those of the last batch
    cells = (jn.LSTM(2, norm=norm, max_steps=3), jn.lstm(2), jn.GRU(2, norm=norm))
    module, batches = jl.RNN(cells), [cases.random_inputs(rng, 3, (4,)).swapaxes(0, 1) for _ in range(2)]
    variables = jax.jit(lambda key: module.init(key, batches[0], use_running_average=True))(key)
    got = jl.population(module, variables, batches, ddof=0, use_running_average=False)["batch_stats"]

    @jax.jit
    def measure(xs):
        return module.apply(variables, xs, use_running_average=False, mutable=["batch_stats"])[1]["batch_stats"]

    one, other = map(measure, batches)
    assert set(got) == set(one) == {"layers_0", "layers_2"}
    for layer, sites in (("layers_0", ("input", "recurrent", "cell")), ("layers_2", ("input", "recurrent"))):
        for site in sites:
            own = (stats[layer]["norm"][site] for stats in (got, one, other))
            mean, first, second = (stats["mean"] for stats in own)
            np.testing.assert_allclose(mean, (first + second) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ((), r"RNN: cell must be a cell spec such as ln_lstm\(128\), got a tuple with 0 entries"),
        ((jn.lstm(4), jn.LayerNorm()), r"RNN: cell\[1\] must be a cell spec.*A normalizer goes into a cell"),
        ((jn.Directions(jn.lstm(4), jn.lstm), 3), r"RNN: cell\[0\].backward must be a cell spec"),
        (((jn.lstm(4),),), r"RNN: cell\[0\] must be a cell spec"),
    ],
)
def test_messages_about_the_spec(cells, message):
    with no_annotation_checks(), pytest.raises(TypeError, match=message):
        jl.RNN(cells)


def test_messages_about_the_carry(key):
    module, z = jl.RNN((jn.lstm(4), jn.Directions(jn.lstm(4), jn.lstm(4)))), jnp.zeros((2, 4))
    carry = jn.LSTMCarry(z, z)
    for wrong, kind, message in (
        (carry, TypeError, "RNN: initial_carry must be a list or tuple with one entry for each of the 2 cells"),
        ((carry,), ValueError, "RNN: initial_carry has 1 entries"),
        (
            (carry, carry),
            TypeError,
            r"RNN: initial_carry\[1\] must be a list or tuple with one entry for each of the 2",
        ),
        ((carry, (carry, jn.LSTMCarry(z, z[:1]))), ValueError, r"RNN: initial_carry\[1\]\[1\].h must have shape"),
    ):
        with pytest.raises(kind, match=message):
            module.init(key, jnp.ones((2, 5, 3)), initial_carry=wrong)


def test_directions_are_no_layers():
    """As tuples both would be equal, and caches would take one for the other."""
    pair = (jn.lstm(4), jn.lstm(4))
    assert jn.Directions(*pair) != pair
    assert jl.RNN(jn.Directions(*pair)) != jl.RNN(pair)
    assert jn.Directions(*pair) == jn.Directions(*pair)
    assert len({pair, jn.Directions(*pair)}) == 2
    with pytest.raises(TypeError, match="stack: cells must have one entry for each layer, got Directions"):
        jn.stack(jn.Directions(*pair), (), jnp.ones((5, 2, 3)))


def test_connections_that_bypass_layers(rng, key):
    """The core's functions, with the sizes that they need."""
    cells, xs = (jn.lstm(3), jn.Directions(jn.gru(1), jn.gru(2)), jn.lstm(3)), cases.random_inputs(rng, STEPS, (BATCH,))
    for function, inputs, outputs in (
        (jn.residual_stack, (3, 3, 3), 3),
        (partial(jn.residual_stack, first=0), (3, 3, 3), 3),
        (jn.skip_stack, (3, 6, 6), 9),
        (partial(jn.skip_stack, input_to_all=False, all_to_output=False), (3, 3, 3), 3),
    ):
        module = jl.RNN(cells, stack=function, time_major=True)
        shapes = jax.eval_shape(module.init, key, xs)["params"]
        layers = (shapes["layers_0"], shapes["layers_1"]["backward"], shapes["layers_2"])
        assert tuple(layer["kernel"].shape[0] for layer in layers) == inputs
        variables = {"params": jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape), a.dtype), shapes)}
        params, _ = jl.to_params(module, variables)
        ys = module.apply(variables, xs, seq_lengths=LENGTHS)
        assert ys.shape[-1] == outputs
        close(ys, function(cells, params, xs, lengths=LENGTHS).outputs)
        equal = jl.from_params(cells, params, stack=function)[1]
        assert jax.tree.structure(equal) == jax.tree.structure(variables)
    with pytest.raises(ValueError, match="RNN: stack connects layers, but cell is a single one"):
        jl.RNN(cells[0], stack=jn.skip_stack)
    with pytest.raises(ValueError, match="RNN: merge_fn merges both directions, but cell has no Directions"):
        jl.RNN(cells[:1], merge_fn=jnp.add)
    with no_annotation_checks(), pytest.raises(TypeError, match="RNN: stack must be a function, got the string 'skip'"):
        jl.RNN(cells, stack="skip")
