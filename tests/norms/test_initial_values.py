"""Initializers in place of numbers as initial scale and bias: alone, in cells, and in Flax modules."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from jaxnorm.cells.cell_base import CellBase
from jaxnorm.engine.unroll import _unroll
from tests import cases
from tests.tools.annotations import no_annotation_checks

NORMAL = jax.nn.initializers.normal(1.0)
KEY = jax.random.key(3)


def start_fields():
    """Every normalizer with each of its fields of initial values, where the field is used."""
    for case in cases.NORMS:
        for field in dataclasses.fields(case.spec):
            name = field.name.removesuffix("_init")
            weights = getattr(getattr(case.spec, "params_type", None), "_fields", ())
            if field.name.endswith("_init") and name in weights and getattr(case.spec, f"use_{name}", True):
                yield pytest.param(case, name, id=f"{case.name} {name}")


@pytest.mark.parametrize(("case", "name"), list(start_fields()))
def test_an_initializer_draws_a_weight(case, name):
    spec = dataclasses.replace(case.spec, **{f"{name}_init": NORMAL})
    shape = spec.param_shape(case.shape)
    plain, params = case.spec.init(shape), spec.init(shape, key=KEY)
    drawn = getattr(params, name)
    assert drawn.shape == getattr(plain, name).shape
    assert drawn.dtype == getattr(plain, name).dtype
    assert len(np.unique(drawn)) == drawn.size
    assert not np.array_equal(drawn, getattr(spec.init(shape, key=jax.random.key(4)), name))
    np.testing.assert_array_equal(drawn, getattr(spec.init(shape, key=KEY), name))
    for other in set(params._fields) - {name}:  # numbers stay as they are
        jax.tree.map(np.testing.assert_array_equal, getattr(params, other), getattr(plain, other))


def test_scale_and_bias_are_drawn_apart():
    params = jn.LayerNorm(scale_init=NORMAL, bias_init=NORMAL).init((4,), key=KEY)
    assert len(np.unique([params.scale, params.bias])) == 8


def test_without_a_key_the_documented_one_draws():
    spec = jn.LayerNorm(scale_init=jax.nn.initializers.normal())
    np.testing.assert_array_equal(spec.init((3,)).scale, spec.init((3,), key=jax.random.key(0)).scale)
    constant = jn.RMSNorm(scale_init=jax.nn.initializers.constant(0.5))
    np.testing.assert_array_equal(constant.init((3,)).scale, 0.5)
    assert jn.LayerNorm(scale_init=jax.nn.initializers.ones).init((3,), jnp.bfloat16).scale.dtype == jnp.bfloat16


@pytest.mark.parametrize("preset", [jn.ln_lstm, jn.ln_gru, jn.ln_rnn, jn.rms_lstm, jn.rms_gru])
def test_a_preset_draws_the_gains_of_all_sites_apart(preset):
    cell = preset(4, scale=NORMAL)
    scales = [np.ravel(site.scale) for site in cell.init(KEY, 3).norm if site != ()]
    numbers = np.concatenate(scales)
    assert len(np.unique(numbers)) == numbers.size
    tenths = [site.scale for site in preset(4, scale=0.1).init(KEY, 3).norm if site != ()]
    np.testing.assert_array_equal(np.concatenate(tenths), np.float32(0.1))


def normalized_cells():
    """One normalized cell of each kind."""
    kinds = (jn.LayerNorm, jn.RMSNorm, jn.BatchNorm)
    found = {
        type(case.cell): case
        for case in cases.CELLS
        if isinstance(case.cell, CellBase) and any(isinstance(norm, kinds) for norm in case.cell.sites)
    }
    return list(found.values())


@pytest.mark.parametrize("case", normalized_cells(), ids=str)
def test_every_cell_hands_keys_to_its_normalizers(case):
    sites = case.cell.sites._replace(**{
        name: dataclasses.replace(norm, scale_init=NORMAL)
        for name, norm in case.cell.sites._asdict().items()
        if isinstance(norm, jn.LayerNorm | jn.RMSNorm | jn.BatchNorm) and norm.use_scale
    })  # fmt: skip
    params = dataclasses.replace(case.cell, norm=sites).init(KEY, cases.IN_FEATURES)
    drawn = [
        np.ravel(getattr(params.norm, name).scale)
        for name, norm in sites._asdict().items()
        if getattr(norm, "scale_init", None) is NORMAL and getattr(params.norm, name) != ()
    ]
    numbers = np.concatenate(drawn)
    assert len(np.unique(numbers)) == numbers.size


def test_the_loop_compiles_once_for_initializers_made_in_place():
    params, xs = jn.ln_lstm(4).init(KEY, 3), jnp.ones((3, 2, 3))
    _unroll.clear_cache()
    for k in range(3):
        jn.unroll(jn.ln_lstm(4, scale=jax.nn.initializers.normal(0.1 * k)), params, xs)
        jn.unroll(jn.ln_lstm(4, scale=0.1 * k), params, xs)
    assert _unroll._cache_size() == 1


def test_flax_modules_hand_on_keys():
    spec, x = jn.LayerNorm(scale_init=NORMAL), jnp.ones((2, 4))
    scales = [jl.Norm(spec).init(jax.random.key(k), x)["params"]["scale"] for k in (0, 1)]
    scales += [jx.Norm(spec, 4, rngs=nnx.Rngs(k)).scale[...] for k in (0, 1)]
    rngs = nnx.Rngs(5)
    scales += [jx.Norm(spec, 4, rngs=rngs).scale[...] for _ in range(2)]
    assert len(np.unique(scales)) == 24
    np.testing.assert_array_equal(jx.Norm(spec, 4).scale[...], spec.init((4,)).scale)
    states = [nnx.state(jx.RNN(jn.ln_lstm(4, scale=NORMAL), 3, rngs=nnx.Rngs(k))) for k in (0, 1)]
    gains = [leaf[...] for state in states for path, leaf in nnx.to_flat_state(state) if path[-1] == "scale"]
    assert len(np.unique(np.concatenate(gains))) == 2 * 9 * 4


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (
            jax.nn.initializers.normal,
            r"LayerNorm: scale_init must be an initializer.*Write .*normal\(\)",
        ),
        ("ones", "LayerNorm: scale_init must be an initializer.*got the string 'ones'"),
        (np.ones(3), "LayerNorm: scale_init must be a number or an initializer, got an array"),
        (True, "LayerNorm: scale_init must be a number or an initializer, got the number True"),
    ],
)
def test_what_is_neither_number_nor_initializer_is_named(value, match):
    with no_annotation_checks(), pytest.raises(TypeError, match=match):
        jn.LayerNorm(scale_init=value)


def test_a_key_must_be_a_key():
    with no_annotation_checks(), pytest.raises(TypeError, match=r"LayerNorm.init: key must be a key such as"):
        jn.LayerNorm().init((3,), key=3)


def test_an_axis_of_features_is_told_from_an_axis_that_is_averaged():
    """``axis=-1`` in Flax and Keras names the features."""
    spec, x = jn.BatchNorm(-1), jnp.ones((2, 5, 4))
    message = r"axis=-1 names the axes that are reduced, and scale has the shape .* reduce the others: axis=\(0, 1\)"
    with pytest.raises(ValueError, match=message):
        spec(spec.init((4,)), x)
    with pytest.raises(ValueError, match=r"axis=-1 names the axes that are reduced, and scale has the shape"):
        spec(spec.init((4,)), x, spec.initial_stats((4,)))
    with pytest.raises(ValueError, match=r"Pass num_features=\(2, 5\) to the constructor, or another axis"):
        jx.Norm(jn.BatchNorm(feature_axis=(0, 1)), 4)(x)
