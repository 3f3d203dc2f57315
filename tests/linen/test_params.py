"""Given weights go into a linen or NNX module in one call, and come back out of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from jaxnorm import convert
from jaxnorm.cells.hooks import hooks
from tests import cases
from tests.flax.flax_tools import close
from tests.tools.peers import import_peer

XS = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 3)), jnp.float32)
LSTM = jn.lstm(4)
BOTH = jn.Directions(LSTM, jn.bn_lstm(4, max_steps=3))


def params_of(cell, size=3):
    return cases.random_cell_params(cell, np.random.default_rng(1), size)


def equal(one, other):
    """The same structure, with the same numbers."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("case", cases.NORMS, ids=str)
def test_round_trip_of_normalizers(case, rng):
    spec, shape = case.spec, case.spec.param_shape(case.shape)
    params, stats = cases.random_norm_params(case, rng), cases.random_stats(case.spec.initial_stats(shape), rng)
    told = {} if jax.tree.leaves((params, stats)) else {"num_features": shape}
    if all(jnp.ndim(leaf) == 0 for leaf in jax.tree.leaves(params)):
        told = {"num_features": shape}
    module, variables = jl.from_params(spec, params, stats, **told)
    equal(jl.to_params(module, variables), (params, stats))
    made = jx.from_params(spec, params, stats, **told)
    equal(jx.to_params(made), (params, stats))
    assert made.param_shape == shape
    fresh = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.ones(case.shape), use_running_average=True))
    assert jax.tree.structure(fresh) == jax.tree.structure(variables)


@pytest.mark.long
@pytest.mark.parametrize("case", cases.rows(cases.CELLS), ids=str)
def test_round_trip_of_cells(case, rng):
    cell = case.cell
    params, stats = cases.random_cell_params(cell, rng), cases.random_stats(cell.initial_stats(), rng)
    told = {} if hooks(cell).in_features(params) else {"in_features": 3}
    module, variables = jl.from_params(cell, params, stats, **told)
    equal(jl.to_params(module, variables), (params, stats))
    made = jx.from_params(cell, params, stats, **told)
    assert made.in_features == 3
    equal(jx.to_params(made), (params, stats))
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    fresh = jax.eval_shape(lambda: module.init(keys, XS, use_running_average=True, init_key=keys["params"]))
    assert jax.tree.structure(fresh) == jax.tree.structure(variables)


@pytest.mark.long
def test_converted_layers_in_both_directions_go_in_and_back():
    """From PyTorch into a module, with its outputs, and into PyTorch again."""
    torch = import_peer("torch")
    source = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True)
    found = convert.torch.load(source)
    want = source(torch.from_numpy(np.array(XS)))[0].detach().numpy()
    module, variables = jl.from_params(found.spec, found.params, found.stats)
    made = jx.from_params(found.spec, found.params, found.stats, return_carry=True)
    np.testing.assert_allclose(module.apply(variables, XS), want, atol=1e-5)
    np.testing.assert_allclose(nnx.jit(lambda module, xs: module(xs))(made, XS)[1], want, atol=1e-5)
    for params, stats in (jl.to_params(module, variables), jx.to_params(made)):
        equal(params, jax.tree.map(jnp.asarray, found.params))
        assert not jax.tree.leaves(stats)
        exported = convert.torch.export(found.spec, params)
        for name, array in source.state_dict().items():
            if "bias" not in name:  # the two biases become one
                np.testing.assert_array_equal(exported[name], array.numpy())


def test_converted_normalizer():
    torch = import_peer("torch")
    source = torch.nn.BatchNorm1d(3, momentum=0.5)
    source(torch.from_numpy(np.array(XS[0])))
    source.eval()
    found = convert.torch.load(source)
    want = source(torch.from_numpy(np.array(XS[0]))).detach().numpy()
    module, variables = jl.from_params(found.spec, found.params, found.stats, use_running_average=True)
    np.testing.assert_allclose(module.apply(variables, XS[0]), want, atol=1e-5)
    made = jx.from_params(found.spec, found.params, found.stats, use_running_average=True)
    np.testing.assert_allclose(made(XS[0]), want, atol=1e-5)


@pytest.mark.long
def test_statistics_before_any_data_and_options():
    params = jn.Directions(*map(params_of, BOTH))
    module, variables = jl.from_params(BOTH, params, time_major=True, use_running_average=True)
    assert module.time_major
    equal(jl.to_params(module, variables)[1].backward, BOTH.backward.initial_stats())
    made = jx.from_params(BOTH, params, time_major=True, kernel_metadata={"note": "given"}, use_running_average=True)
    assert made.backward.kernel.get_metadata("note") == "given"
    close(module.apply(variables, XS), made(XS))
    some = cases.random_stats(BOTH.backward.initial_stats(), np.random.default_rng(2))
    equal(jx.to_params(jx.from_params(BOTH, params, ((), some)))[1].backward, some)
    nnx.update(made, nnx.state(jx.from_params(BOTH, params)))
    graph, state = nnx.split(made)
    close(nnx.merge(graph, state)(XS), made(XS))


OTHER = params_of(LSTM)._replace(kernel=jnp.ones((3, 4, 5)))
NORM = jn.BatchNorm()
WRONG = {
    "shape": ((LSTM, OTHER), ValueError, r"params.kernel must have shape \(3, 4, 4\) as the spec makes it, got"),
    "structure": ((LSTM, {"kernel": 1}), TypeError, "params must be LSTMParams for LSTM, got a dict with 'kernel'"),
    "layers": (((LSTM, LSTM), (params_of(LSTM),)), ValueError, "params has 1 entries, expected one for each of the 2"),
    "inputs of a layer": (
        ((LSTM, LSTM), (params_of(LSTM), params_of(LSTM))),
        ValueError,
        r"params\[1\].kernel must have shape \(4, 4, 4\) as the spec makes it, got \(3, 4, 4\)",
    ),
    "rows": (
        (BOTH.backward, params_of(BOTH.backward), jn.bn_lstm(4, max_steps=2).initial_stats()),
        ValueError,
        r"stats.cell.count must have shape \(3,\) as the spec makes it, got \(2,\)",
    ),
    "scale and bias": (
        (NORM, jn.norms.Affine(jnp.ones(3), jnp.ones(4))),
        ValueError,
        r"params.(scale|bias) must have shape \(\d,\) as the spec makes it, got \(\d,\)",
    ),
    "no weights": ((NORM, {"scale": jnp.ones(3)}), TypeError, "params must be Affine for BatchNorm, got a dict with"),
    "statistics": (
        (NORM, NORM.init((3,)), {"mean": jnp.ones(3)}),
        TypeError,
        "stats must be Moments for BatchNorm, got a dict with 'mean'",
    ),
    "nothing": (
        (jn.LayerNorm(use_scale=False, use_bias=False), jn.norms.Affine(None, None)),
        ValueError,
        "num_features",
    ),
    "kernel": ((jn.WeightNorm(), ()), TypeError, r"spec must be a spec such as lstm\(128\), got the weight normalizer"),
    "all that was found": (
        (convert.Imported(LSTM, params_of(LSTM)), ()),
        TypeError,
        r"spec must be a spec, got Imported\. Write found\.spec, found\.params, found\.stats",
    ),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("space", [jl, jx], ids=["linen", "nnx"])
def test_what_does_not_fit_is_named(space, case):
    arguments, kind, message = WRONG[case]
    with pytest.raises(kind, match=rf"^{space.__name__}\.from_params: .*{message}"):
        space.from_params(*arguments)


def test_other_modules_have_no_params():
    with pytest.raises(TypeError, match=r"jaxnorm\.linen\.to_params: module must be a Norm, RNN or RNNCell"):
        jl.to_params(jl.Reparametrized(jl.RNN(LSTM), jn.WeightNorm()), {})
    with pytest.raises(TypeError, match=r"jaxnorm\.nnx\.to_params: module must be a Norm, RNN or RNNCell"):
        jx.to_params(nnx.Linear(3, 4, rngs=nnx.Rngs(0)))
