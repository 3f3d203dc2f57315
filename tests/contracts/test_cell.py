"""The contract of all cells, over every row of the table. The checks themselves are in ``cell_checks.py``."""

import dataclasses
import pickle
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxnorm as jn
from jaxnorm.cells.wrappers.base import unwrap
from tests import cases
from tests.contracts import cell_checks, method_checks

pytestmark = pytest.mark.long

every_cell = pytest.mark.parametrize("case", cases.rows(cases.CELLS), ids=str)
specified_cells = pytest.mark.parametrize("case", cases.rows(cases.SPECIFIED), ids=str)
batch_cells = pytest.mark.parametrize("case", cases.rows(c for c in cases.CELLS if c.batch_statistics), ids=str)


@every_cell
def test_engine_equals_plain_loop_with_masks_resets_and_gradients(case, x64):
    # The engine is compiled once for all four.
    cell_checks.check_loop(case.cell)
    cell_checks.check_padding(case.cell)
    cell_checks.check_reset(case.cell)
    cell_checks.check_rows(case.cell, batch_statistics=case.batch_statistics)


@every_cell
def test_pieces_equal_whole(case, x64):
    cell_checks.check_split(case.cell)


@every_cell
def test_reverse_is_flip_in_any_layout(case, x64):
    cell_checks.check_reverse_and_layout(case.cell)


@pytest.mark.parametrize(
    "case", cases.rows(case for case in cases.CELLS if case.batch_statistics or case.name == "ln_gru"), ids=str
)
def test_reverse_with_lengths_turns_each_example_within_itself(case, x64):
    cell_checks.check_lengths_reversed(case.cell)


WRAPPED = (
    jn.Reparametrized(jn.ln_lstm(4), jn.WeightNorm()),
    jn.Reparametrized(jn.zoo.SLSTM(4, heads=2), jn.weight_norms.CenteredWeightNorm(learn_scale=True)),
    jn.zoo.bounded_weight_norm_lstm(4),
    jn.VariationalDropout(jn.ln_lstm(4), rate=0.4, input_rate=0.3),
    jn.VariationalDropout(jn.ln_gru(4), rate=0.4, input_rate=0.3, tied=False),
    jn.DropConnect(jn.Zoneout(jn.bn_lstm(4, max_steps=3), rate=0.3), rate=0.4),
    jn.RecurrentDropout(jn.VariationalDropout(jn.Reparametrized(jn.gru(4), jn.WeightNorm()), rate=0.4), rate=0.3),
)
"""Wrappers in training, with masks; those of the table draw none."""

wrapped_cells = pytest.mark.parametrize("cell", WRAPPED, ids=lambda cell: repr(cell)[:60])


@specified_cells
def test_vectors_are_flat_and_kernels_are_not(case):
    method_checks.check_layout(case.cell, case.vector_sizes)


def test_vectors_by_gate_are_refused_with_a_way_out(rng):
    """Weights and statistics in which gates are an axis of their own."""
    cell = jn.bn_lstm(4, max_steps=2)
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng)
    by_gate = params._replace(bias=params.bias.reshape(4, 4))
    with pytest.raises(ValueError, match=r"params\.bias must have shape \(16,\) .* got \(4, 4\)\. .*: reshape\(-1\)"):
        jn.unroll(cell, by_gate, xs)
    stats = cell.initial_stats()
    mean, var, count = stats.input
    stats = stats._replace(input=jn.Moments(mean.reshape(2, 4, 4), var.reshape(2, 4, 4), count))
    with pytest.raises(ValueError, match=r"stats\.input\.mean .* got \(2, 4, 4\)\. .*: reshape\(rows, -1\)"):
        jn.unroll(cell, params, xs, stats=stats)
    with pytest.raises(ValueError, match=r"export: params\.bias must have shape .*: reshape\(-1\)"):
        jn.convert.torch.export(jn.lstm(4), jn.lstm(4).init(jax.random.key(0), 3)._replace(bias=by_gate.bias))


@specified_cells
def test_projections_are_linear(case, x64):
    method_checks.check_linear(case.cell)


@every_cell
def test_methods_take_any_batch_shape(case, x64):
    method_checks.check_batch_shapes(case.cell)


@wrapped_cells
def test_methods_of_wrappers_in_training(cell, key, x64):
    method_checks.check_layout(cell)
    method_checks.check_linear(cell, key)
    method_checks.check_batch_shapes(cell, key)


METHODS = {
    "scan": {"method": "scan"},
    "chunks of 1, carries": {"chunk": 1, "save": "carries"},
    "chunks of 2, products": {"chunk": 2, "save": "products"},
    "chunks of 3, one carry each": {"chunk": 3, "save": "chunks"},
}


@pytest.mark.parametrize("name", ["ln_gru", "bn_lstm", "ln_lstm_per_gate_learned_carry"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_the_contract(method, name, x64):
    """The other tests run what comes without a word: a single chunk, for sequences as short as theirs."""
    (case,) = (case for case in cases.CELLS if case.name == name)
    unroll = partial(jn.unroll, **METHODS[method])
    cell_checks.check_method(case.cell, unroll, batch_statistics=case.batch_statistics)


@pytest.mark.heavy
@every_cell
@pytest.mark.parametrize("save", ["products", "carries", "chunks"])
def test_whatever_is_saved_the_gradients_are_those_of_the_loop(save, case, x64):
    cell_checks.check_loop(case.cell, partial(jn.unroll, chunk=3, save=save))


@every_cell
def test_vmap_over_examples_is_a_batch(case, x64):
    cell_checks.check_vmap(case.cell)


@every_cell
def test_one_step_without_batch_axis_and_no_step(case, x64):
    cell_checks.check_short(case.cell)


@every_cell
def test_one_scan_with_as_few_matrix_products_as_can_be(case, x64):
    cell_checks.check_program(case.cell, products=case.products_in_loop, before=case.products_before)


@batch_cells
def test_given_statistics_pieces_and_reverse(case, x64, rng):
    stats = cases.random_stats(case.cell.initial_stats(), rng)
    cell_checks.check_split(case.cell, stats=stats)
    cell_checks.check_reverse_and_layout(case.cell, stats=stats)


@specified_cells
def test_dtypes_and_structures(case, rng):
    """Outputs in the compute dtype, c in at least float32, the carry comes back with the structure it had."""
    for cell, xs_dtype, outputs, state in (
        (case.cell, jnp.float32, jnp.float32, jnp.float32),
        (cases.with_fields(case.cell, dtype=jnp.bfloat16), jnp.float32, jnp.bfloat16, jnp.float32),
        (cases.with_fields(case.cell, param_dtype=jnp.bfloat16), jnp.bfloat16, jnp.bfloat16, jnp.float32),
        (cases.with_fields(case.cell, param_dtype=jnp.bfloat16), jnp.float32, jnp.float32, jnp.float32),
        (
            cases.with_fields(case.cell, dtype=jnp.float16, carry_dtype=jnp.float16),
            jnp.float32,
            jnp.float16,
            jnp.float16,
        ),
    ):
        xs = jax.ShapeDtypeStruct((2, 3, cases.IN_FEATURES), xs_dtype)
        params = jax.eval_shape(lambda k, cell=cell: cell.init(k, cases.IN_FEATURES), jax.random.key(0))
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(unwrap(cell).param_dtype)}
        first = jax.eval_shape(lambda p, x, cell=cell: jn.unroll(cell, p, x), params, xs)
        again = jax.eval_shape(lambda p, x, c, cell=cell: jn.unroll(cell, p, x, carry=c), params, xs, first.carry)
        assert again == first
        assert first.outputs.dtype == outputs
        assert not hasattr(first.carry, "c") or first.carry.c.dtype == state
        wide = "h" in unwrap(cell).float32_carry
        assert first.carry.h.dtype == (state if wide else outputs)
        assert {leaf.dtype for leaf in jax.tree.leaves(first.moments)} <= {jnp.dtype(jnp.float32)}
        fresh = jax.eval_shape(
            lambda p, cell=cell, dtype=outputs: cell.initial_carry((3,), params=p, dtype=dtype), params
        )
        chex.assert_trees_all_equal_dtypes(fresh, first.carry)


@every_cell
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_a_scan_over_pieces_begins_with_the_initial_carry(case, dtype, x64):
    """The carry that comes out has the dtypes of the one that went in, also where only the weights say which."""
    shapes = jax.eval_shape(lambda key: case.cell.init(key, cases.IN_FEATURES), jax.random.key(0))
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), shapes)

    def run(params, xs):
        def piece(carry, x):
            out = jn.unroll(case.cell, params, x[None], carry=carry)
            return out.carry, out.outputs[0]

        return jax.lax.scan(piece, case.cell.initial_carry((2,), params=params), xs)

    _, outputs = jax.eval_shape(run, params, jax.ShapeDtypeStruct((5, 2, cases.IN_FEATURES), dtype))
    assert outputs.shape[:2] == (5, 2)
    assert outputs.dtype == dtype


@every_cell
def test_specs_are_values(case):
    cell = case.cell
    copy = dataclasses.replace(cell)
    assert copy is not cell
    assert copy == cell
    assert hash(copy) == hash(cell)
    assert pickle.loads(pickle.dumps(cell)) == cell
    assert isinstance(cell, jn.Cell)
    assert type(cell).__name__ in repr(cell)
    size = "out_features" if isinstance(cell, jn.FunctionCell) else "hidden_features"
    assert cases.with_fields(cell, **{size: 2 * cell.hidden_features}) != cell
    with pytest.raises(dataclasses.FrozenInstanceError):
        cell.hidden_features = 5
    traces = []
    run = jax.jit(lambda spec, x: (traces.append(spec), x)[1], static_argnums=0)
    run(cell, jnp.zeros(()))
    run(copy, jnp.ones(()))
    run(pickle.loads(pickle.dumps(cell)), jnp.ones(()))
    assert traces == [cell]


def test_equal_specs_are_compiled_once(rng):
    from jaxnorm.engine.unroll import _unroll

    params = cases.random_cell_params(jn.ln_lstm(4), rng)
    xs = cases.random_inputs(rng)
    jn.unroll(jn.ln_lstm(4), params, xs)
    before = _unroll._cache_size()
    jn.unroll(jn.LSTM(4, norm=jn.LayerNorm(), forget_bias=0.0), params, xs + 1.0)
    assert _unroll._cache_size() == before


@batch_cells
def test_fold_keeps_structure_and_counts_real_rows(case, rng):
    cell = case.cell
    params = cases.random_cell_params(cell, rng)
    xs = cases.random_inputs(rng, steps=4, batch=(3,))
    out = jn.unroll(cell, params, xs, lengths=jnp.array([4, 2, 1]))
    stats = cell.initial_stats()
    folded = cell.update_running(stats, out.moments)
    chex.assert_trees_all_equal_structs(folded, stats)
    rows = [3.0, 2.0, 1.0 + 1.0] if cell.max_steps == 3 else [7.0]
    for site in folded:
        if site != ():
            np.testing.assert_array_equal(site.count, rows)


@pytest.mark.parametrize("name", ["ln_lstm", "bn_lstm"])
def test_gradients_against_finite_differences(name, x64):
    cell = {"ln_lstm": jn.ln_lstm(2), "bn_lstm": jn.bn_lstm(2, max_steps=2, scale=0.5)}[name]
    rng = np.random.default_rng(3)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, 3, (4,), jnp.float64)

    @jax.jit
    def outputs(params, xs):
        return jn.unroll(cell, params, xs).outputs

    check_grads(outputs, (params, xs), order=1, modes=["rev"], eps=1e-5, rtol=1e-5, atol=1e-6)


def test_identity_everywhere_is_the_plain_cell():
    assert jn.ln_lstm(4, norm=jn.Identity(), forget_bias=1.0) == jn.lstm(4)
    assert jn.LSTM(4, norm=jn.CellNorms()) == jn.LSTM(4, norm=jn.CellNorms(input=jn.Identity(), cell=jn.Identity()))
