"""Residual and skip stacks are calls of ``unroll`` with sums and features side by side between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.contracts.cell_checks import assert_close

pytestmark = pytest.mark.long

LENGTHS = jnp.array([4, 2])


def three(rng, sizes):
    cells = (jn.ln_lstm(3), jn.ln_gru(3), jn.ln_lstm(3))
    return cells, [cases.random_cell_params(cell, rng, size) for cell, size in zip(cells, sizes, strict=True)]


@pytest.mark.parametrize("first", [0, 1, 3])
def test_residual_stack_adds_what_a_layer_got(first, rng):
    cells, params = three(rng, (3, 3, 3))
    xs = cases.random_inputs(rng, 4, (2,))
    padded = xs.at[2:, 1].set(jnp.nan)
    options = {"lengths": LENGTHS, "where": jnp.ones((2, 4), bool).at[0, 1].set(False)} if first == 0 else {}
    given = (padded if first == 0 else xs).swapaxes(0, 1)
    got = jn.residual_stack(cells, params, given, first=first, time_axis=-2, **options)
    x = jnp.where(jnp.isnan(padded), 0.0, xs) if first == 0 else xs
    x = x.swapaxes(0, 1)
    if first == 0:
        x = x.at[0, 1].set(0.0)
    carries = []
    for layer, (cell, weights) in enumerate(zip(cells, params, strict=True)):
        out = jn.unroll(cell, weights, x, time_axis=1, **options)
        x = out.outputs + x if layer >= first else out.outputs
        carries.append(out.carry)
    assert_close((got.outputs, got.carry), (x, tuple(carries)), 1e-6)
    if first == 0:
        assert not np.any(got.outputs[1, 2:])
        assert not np.any(got.outputs[0, 1])


@pytest.mark.parametrize(("input_to_all", "all_to_output"), [(True, True), (False, True), (True, False)])
def test_skip_stack_shows_the_input_to_all_and_all_to_the_output(input_to_all, all_to_output, rng, key):
    more = 2 * cases.IN_FEATURES if input_to_all else 3
    cells, params = three(rng, (3, more, more))
    cells = tuple(jn.Zoneout(cell, rate=0.5) for cell in cells)
    xs = cases.random_inputs(rng, 4, (2,)).at[2:, 1].set(jnp.nan)
    options = {"lengths": LENGTHS}
    got = jn.skip_stack(cells, params, xs, input_to_all=input_to_all, all_to_output=all_to_output, key=key, **options)
    outputs, x = [], xs
    for cell, weights, cell_key in zip(cells, params, jax.random.split(key, 3), strict=True):
        outputs.append(jn.unroll(cell, weights, x, key=cell_key, **options).outputs)
        x = jnp.concatenate([outputs[-1], xs], axis=-1) if input_to_all else outputs[-1]
    expected = jnp.concatenate(outputs, axis=-1) if all_to_output else outputs[-1]
    np.testing.assert_allclose(got.outputs, expected, atol=1e-6)
    assert len(got.carry) == 3


def test_errors_name_the_layer(rng):
    cells, params = three(rng, (5, 3, 3))
    xs = jnp.zeros((2, 1, 5))
    with pytest.raises(ValueError, match=r"residual_stack: layer 0 has 5 features in and 3 out.* first be a later"):
        jn.residual_stack(cells, params, xs, first=0)
    with pytest.raises(ValueError, match=r"residual_stack: first must be a layer from 0 to 3, got 4"):
        jn.residual_stack(cells, params, xs, first=4)
    with pytest.raises(ValueError, match=r"skip_stack: params has 2 entries, expected one for each of the 3 cells"):
        jn.skip_stack(cells, params[:2], xs)
    with pytest.raises(ValueError, match=r"residual_stack: cells is empty"):
        jn.residual_stack((), (), xs, first=0)
