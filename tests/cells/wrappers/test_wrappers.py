"""What all wrappers have in common: methods, chunks, keys, nesting, weights, switching, errors."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm.cells.hooks import hooks
from jaxnorm.cells.wrappers import base
from tests import cases
from tests.cells.wrappers import mask_tools
from tests.cells.wrappers.mask_tools import BATCH, HIDDEN
from tests.contracts.cell_checks import assert_close

pytestmark = pytest.mark.long

WRAPPED = {
    "all four": jn.Zoneout(
        jn.RecurrentDropout(
            jn.DropConnect(
                jn.VariationalDropout(jn.ln_lstm(HIDDEN, learn_carry=True), rate=0.3, input_rate=0.2), rate=0.4
            ),
            rate=0.3,
        ),
        rate=0.2,
        cell_rate=0.5,
    ),
    "untied outside": jn.VariationalDropout(
        jn.RecurrentDropout(
            jn.Zoneout(jn.VariationalDropout(jn.ln_gru(HIDDEN), input_rate=0.3), rate=0.2), rate=0.3, per="sequence"
        ),
        rate=0.3,
        input_rate=0.4,
        tied=False,
    ),
    "batch norm": jn.DropConnect(
        jn.VariationalDropout(jn.Zoneout(jn.bn_lstm(HIDDEN, max_steps=3), rate=0.3), rate=0.4, tied=False), rate=0.2
    ),
    "simple": jn.Zoneout(jn.DropConnect(jn.VariationalDropout(jn.ln_rnn(HIDDEN), rate=0.3), rate=0.3), rate=0.3),
}
every = pytest.mark.parametrize("name", WRAPPED)


def values_and_gradients(cell, params, xs, key, **options):
    def loss(params, xs):
        out = jn.unroll(cell, params, xs, key=key, **options)
        return jnp.sum(jnp.sin(out.outputs)) + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(out.moments)), out

    (_, out), gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(params, xs)
    return out, gradients


@every
def test_methods_and_chunks_draw_the_same_masks(name, x64, rng):
    """Also in the derivative, which draws those of many steps at once; with a generator for which that matters."""
    cell = WRAPPED[name]
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, 5, (BATCH,), jnp.float64)
    key = jax.random.key(3, impl="rbg" if name == "all four" else None)
    expected = values_and_gradients(cell, params, xs, key, method="scan")
    assert all(np.any(leaf) for leaf in jax.tree.leaves(expected[1][0].recurrent))
    chunks = {"chunk": 3, "save": "chunks"} if name == "all four" else {"chunk": 2}
    assert_close(values_and_gradients(cell, params, xs, key, **chunks), expected)


@every
def test_weights_are_those_of_the_cell_inside(name, rng, key):
    cell = WRAPPED[name]
    inner = base.unwrap(cell)
    shapes = jax.eval_shape(lambda key: (cell.init(key, 3), inner.init(key, 3)), key)
    chex.assert_trees_all_equal_structs(*shapes)
    assert (cell.hidden_features, cell.out_features, cell.max_steps) == (HIDDEN, HIDDEN, inner.max_steps)
    assert_close(cell.initial_stats(), inner.initial_stats())
    assert cell.needs_key
    assert not jn.deterministic(cell).needs_key
    assert jn.deterministic(jn.deterministic(cell), value=False) == cell
    assert isinstance(cell, jn.Cell)
    assert hash(cell) == hash(jn.deterministic(jn.deterministic(cell), value=False))


def test_learned_carry_goes_through_every_wrapper(rng, key):
    """It is where the sequence begins, and where resets begin anew; its gradient is that of the cell alone."""
    inner = jn.ln_lstm(HIDDEN, learn_carry=True)
    params, xs = cases.random_cell_params(inner, rng), cases.random_inputs(rng, 3, (BATCH,))
    cell = WRAPPED["all four"]
    begin = cell.initial_carry((BATCH,), params=params)
    assert_close(begin, inner.initial_carry((BATCH,), params=params))
    still = jn.Zoneout(inner, rate=1.0, cell_rate=1.0)
    kept = jn.unroll(
        still, params, xs, key=key, reset=jnp.ones(xs.shape[:-1], bool), carry=jax.tree.map(jnp.zeros_like, begin)
    )
    assert_close(kept.carry, begin)
    slopes = [
        values_and_gradients(jn.deterministic(wrapped), params, xs, None)[1][0].carry
        for wrapped in (inner, jn.DropConnect(jn.VariationalDropout(inner, rate=0.5), rate=0.5))
    ]
    assert np.any(slopes[0].c)
    assert_close(slopes[1], slopes[0], 1e-6)


def test_each_level_draws_from_its_own_stream(rng, key):
    """Two zoneouts of one half keep three quarters; with one stream for both it would be one half."""
    inner = jn.gru(40)
    cell = jn.Zoneout(jn.Zoneout(inner, rate=0.5), rate=0.5)
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng, 1, (40,))
    out = jn.unroll(cell, params, xs, key=key)
    assert 0.70 < float(jnp.mean(out.carry.h == 0.0)) < 0.80
    other = jn.unroll(cell, params, xs, key=jax.random.key(5))
    assert jnp.any((out.carry.h == 0.0) != (other.carry.h == 0.0))
    again = jn.unroll(cell, params, xs, key=key)
    np.testing.assert_array_equal(out.outputs, again.outputs)


def test_keys_of_every_kind(rng):
    """An old-style key is the same as the new one; another generator works, too."""
    cell = jn.Zoneout(jn.gru(HIDDEN), rate=0.5)
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng, 3, (BATCH,))
    new, old = (jn.unroll(cell, params, xs, key=k).outputs for k in (jax.random.key(3), jax.random.PRNGKey(3)))
    np.testing.assert_array_equal(new, old)
    other = jn.unroll(cell, params, xs, key=jax.random.key(3, impl="unsafe_rbg")).outputs
    assert jnp.any(other != new)


def test_padding_and_resets_with_masks(rng, key):
    """A masked step keeps the state as it is, NaN in it reaches nothing, and a reset begins anew."""
    cell = WRAPPED["all four"]
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng, 4, (2,))
    lengths = jnp.array([4, 2])
    padded = xs.at[2:, 1].set(jnp.nan)
    out, gradients = values_and_gradients(cell, params, padded, key, lengths=lengths)
    short = jn.unroll(cell, params, xs[:2], key=key)
    np.testing.assert_allclose(out.carry.c[1], short.carry.c[1], atol=1e-6)
    assert not np.any(out.outputs[2:, 1])
    chex.assert_tree_all_finite(gradients)
    assert_close(values_and_gradients(cell, params, xs, key, lengths=lengths)[1], gradients, 1e-6)


PLAIN = [case for case in cases.CELLS if not isinstance(case.cell, base.StochasticWrapper)]


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_every_cell_can_be_wrapped(case, key):
    """Gradients of the chunked method in training; what a cell has not is refused with a word."""
    inner, count = case.cell, 3
    recurrent = not isinstance(inner, jn.zoo.MinGRU | jn.zoo.MinLSTM | jn.zoo.RGLRU | jn.FunctionCell)
    cell = jn.Zoneout(inner, rate=0.2)
    if recurrent:
        cell = jn.VariationalDropout(jn.DropConnect(cell, rate=0.5), rate=0.5, input_rate=0.2)
    params = jax.eval_shape(lambda key: cell.init(key, count), key)
    xs = jax.ShapeDtypeStruct((4, 2, count), jnp.float32)

    def slope(cell, params, xs):
        return jax.grad(lambda params: jnp.sum(jn.unroll(cell, params, xs, key=key, chunk=2).outputs))(params)

    got = jax.eval_shape(lambda params, xs: slope(cell, params, xs), params, xs)
    chex.assert_trees_all_equal_structs(got, params)
    if not recurrent:
        for one in (jn.DropConnect(inner, rate=0.5), jn.VariationalDropout(inner, rate=0.5)):
            with pytest.raises(ValueError, match="has no"):
                jax.eval_shape(lambda params, xs, one=one: slope(one, params, xs), params, xs)


@pytest.mark.parametrize("case", [c for c in PLAIN if hooks(c.cell).supports_candidate_scale], ids=str)
def test_the_new_state_is_affine_in_what_scales_the_candidate(case, x64, rng):
    """All candidates dropped, half of each and none: the state in the middle is the middle of the others."""
    params, xs, carry = mask_tools.example(case.cell, rng)
    if isinstance(carry, jn.CountedCarry):
        carry = carry._replace(step=jnp.zeros((BATCH,), jnp.int32))

    @jax.jit
    def states(params):
        cells = [jn.RecurrentDropout(case.cell, rate=rate, deterministic=True) for rate in (0.0, 0.5, 1.0)]
        carries = [jn.unroll(cell, params, xs[:1], carry=carry).carry for cell in cells]
        return [getattr(after, "c", after.h) for after in carries]

    whole, half, none = states(params)
    assert np.abs(whole - none).max() > 1e-3
    if getattr(case.cell, "cell_clip", None) is None and getattr(case.cell, "carried_cell", "raw") == "raw":
        np.testing.assert_allclose(half, (whole + none) / 2, rtol=1e-9, atol=1e-12)


def test_around_and_inside_of_reparametrized_cells(rng, key):
    """Weight normalization first, then the mask."""
    weight_norm = {"recurrent": jn.WeightNorm()}
    cell = jn.Zoneout(jn.Reparametrized(jn.DropConnect(jn.lstm(HIDDEN), rate=0.4), weight_norm), rate=0.3)
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng, 3, (BATCH,))
    kernel = jn.weight_norm(params.cell.recurrent, params.scale["recurrent"].reshape(4, HIDDEN), axis=0)
    plain = jn.Zoneout(jn.Zoneout(jn.DropConnect(jn.lstm(HIDDEN), rate=0.4)), rate=0.3)
    assert cell.needs_key
    assert not jn.deterministic(cell).needs_key
    test = jn.unroll(jn.deterministic(cell), params, xs).outputs
    expected = jn.unroll(jn.deterministic(plain), params.cell._replace(recurrent=kernel), xs).outputs
    np.testing.assert_allclose(test, expected, atol=1e-6)
    assert jnp.any(jn.unroll(cell, params, xs, key=key).outputs != test)
    outside = jn.DropConnect(jn.Reparametrized(jn.lstm(HIDDEN), weight_norm), rate=0.4)
    with pytest.raises(ValueError, match=r"Reparametrized has no weight 'recurrent'.* inside of Reparametrized"):
        jn.unroll(outside, params, xs, key=key)
    jn.RecurrentDropout(jn.Reparametrized(jn.gru(HIDDEN), weight_norm), rate=0.4)


@pytest.mark.parametrize(
    "cell",
    [
        jn.Zoneout(jn.gru(HIDDEN), rate=0.25),
        jn.RecurrentDropout(jn.gru(HIDDEN), rate=0.25),
        jn.VariationalDropout(jn.gru(HIDDEN), rate=0.25, tied=False),
        jn.DropConnect(jn.gru(HIDDEN), rate=0.25),
    ],
    ids=lambda cell: type(cell).__name__,
)
def test_without_a_key(cell, rng):
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng, 2, (BATCH,))
    message = rf"{type(cell).__name__}: rate=0.25 needs randomness, but key is None.*deterministic\(cell\) for evalu"
    with pytest.raises(ValueError, match=message):
        jn.unroll(cell, params, xs)
    with pytest.raises(ValueError, match=message):
        jn.unroll(jn.Zoneout(cell, deterministic=True), params, xs)


@dataclasses.dataclass(frozen=True)
class Joint(base.CellWrapper):
    """A cell whose gates share one kernel."""

    supports_gate_masks = False


def test_cells_without_a_kernel_for_each_gate_refuse_untied_masks(key, rng):
    cell = jn.VariationalDropout(Joint(jn.gru(HIDDEN)), rate=0.5, tied=False)
    params = cases.random_cell_params(cell, rng)
    with pytest.raises(ValueError, match=r"tied=False needs the kernels of all gates side by side.* GRU does not"):
        cell.prepare(params, batch_shape=(BATCH,), key=key)


def test_masks_of_inputs_need_a_kernel(key):
    cell = jn.VariationalDropout(jn.gru(HIDDEN), input_rate=0.5)
    with pytest.raises(ValueError, match=r"VariationalDropout: GRU has no kernel whose input .* Leave input_rate out"):
        cell.prepare((), batch_shape=(BATCH,), key=key)


@every
def test_hooks_are_those_of_the_cell_inside(name):
    """Each wrapper hands each hook on, whatever it says."""
    cell = WRAPPED[name]

    @dataclasses.dataclass(frozen=True)
    class Other(base.CellWrapper):
        feature_axes = 3
        kernel_axes = {"kernel": 7}  # noqa: RUF012
        gate_count = 5
        supports_candidate_scale = True
        supports_gate_masks = False
        multiplies_state = False
        needs_key = True

        def in_features(self, params):
            return 11

    hook_names = [hook for hook in vars(Other) if hook in dir(base.CellHooks) and not hook.startswith("_")]
    assert len(hook_names) == 8, "a hook is missing here"
    changed = base.map_inner(cell, Other)
    for hook in hook_names:
        inner, outer = (getattr(spec, hook) for spec in (Other(base.unwrap(cell)), changed))
        assert outer(None) == inner(None) if callable(inner) else outer == inner, hook


@dataclasses.dataclass(frozen=True)
class Own:
    """A user's wrapper that derives from nothing here."""

    cell: jn.Cell

    def __getattr__(self, name):
        if name.startswith("_") or name == "cell":
            raise AttributeError(name)
        return getattr(self.cell, name)


@pytest.mark.usefixtures("unhooked")  # checks of annotations do not see what __getattr__ hands on
def test_wrappers_that_only_follow_the_protocol(key, rng):
    """They are unwrapped and switched like the others, and wrappers around them work."""
    inner = jn.Zoneout(jn.ln_gru(HIDDEN), rate=0.3)
    cell = jn.VariationalDropout(Own(inner), rate=0.5, input_rate=0.5)
    assert base.unwrap(cell) == jn.ln_gru(HIDDEN)
    assert jn.deterministic(cell).cell == Own(jn.deterministic(inner))
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng, 3, (BATCH,))
    expected = jn.unroll(jn.VariationalDropout(inner, rate=0.5, input_rate=0.5), params, xs, key=key)
    np.testing.assert_array_equal(jn.unroll(cell, params, xs, key=key).outputs, expected.outputs)
    with pytest.raises(ValueError, match=r"GRU does not have them so"):
        jn.unroll(jn.VariationalDropout(Own(inner), rate=0.5, tied=False), params, xs, key=key)
