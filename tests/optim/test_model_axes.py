"""Over which axes the inputs of a unit lie in whole models: in Flax, in plain trees under a mask, by rule; refusals."""

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
from jaxnorm import optim
from tests import cases
from tests.optim.test_kernel_axes import INPUTS, SEQUENCE
from tests.optim.unit_vectors import close, normalized, project, unit_vectors
from tests.tools.peers import lenient


class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3,), name="window")(x)
        x = nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=8, use_bias=False, name="attention")(x)
        x = jl.RNN(jn.ln_gru(8), name="cell")(x)
        return nn.Dense(3, name="readout")(x)


AXES = {
    "window_kernel": (0, 1),
    "query_kernel": (0,),
    "key_kernel": (0,),
    "value_kernel": (0,),
    "out_kernel": (0, 1),
    "cell_kernel": (0,),
    "cell_recurrent": (0,),
    "readout_kernel": (0,),
}


def model_params(rng, key):
    x = jnp.asarray(rng.standard_normal(SEQUENCE), jnp.float32)
    with lenient():
        return cases.randomize(Model().init(key, x)["params"], rng), x


def test_a_whole_model_in_linen(rng, key):
    params, x = model_params(rng, key)
    wrapped = jl.Reparametrized(Model(), jn.weight_norms.UnitNorm())
    with lenient():
        got = wrapped.apply({"params": {"module": params}}, x)
        close(got, Model().apply({"params": normalized(params, AXES)}, x))
    close(project(params), normalized(params, AXES))


def test_what_a_model_says_is_a_rule_for_optimizers(rng, key):
    params, x = model_params(rng, key)
    with lenient():
        close(project(params, axis=jl.kernel_axes(Model(), key, x)), normalized(params, AXES))
        module = nn.Sequential([nn.DenseGeneral((2, 3), axis=(-2, -1), use_bias=False)])
        params = module.init(key, x)["params"]
        axes = jl.kernel_axes(module, key, x)
    close(project(params, axis=axes), normalized(params, {"kernel": (0, 1)}))
    cell = jn.zoo.SLSTM(4, heads=2)
    params = cases.randomize(cell.init(key, in_features=3), rng)
    for made in (project(params, axis=cell.kernel_axes), project(params)):
        close(made.recurrent, unit_vectors(params.recurrent, (1,)))
        close(made.kernel, unit_vectors(params.kernel, (0,)))
    other = {"kernel": params.kernel, "recurrent": jnp.ones((3, 5, 4, 2))}
    with pytest.raises(ValueError, match=r"project_weights: recurrent has shape \(3, 5, 4, 2\)"):
        project(other, mask=optim.named("recurrent"))


def test_masks_over_a_whole_model(rng, key):
    params, _ = model_params(rng, key)
    made = project(params, mask=optim.named("recurrent"))
    close(made, normalized(params, {"cell_recurrent": (0,)}))
    mask = {"window": True, "attention": False, "cell": False, "readout": {"kernel": True, "bias": False}}
    with pytest.raises(ValueError, match=r"project_weights: window/bias has shape \(8,\), and a vector does not say"):
        project(params, mask=mask)
    mask["window"] = {"kernel": True, "bias": False}
    close(project(params, mask=mask), normalized(params, {"window_kernel": (0, 1), "readout_kernel": (0,)}))


def test_scales_named_by_their_kernels_are_no_kernels(rng, key):
    for cell in (jn.Reparametrized(jn.lstm(4), jn.WeightNorm()), jn.zoo.NormPropLSTM(4)):
        params = cases.randomize(cell.init(key, in_features=3), rng)
        made = project(params)
        chex.assert_trees_all_equal(made.scale, params.scale)
        inside = made.cell if hasattr(made, "cell") else made
        close(np.sqrt((np.asarray(inside.recurrent, np.float64) ** 2).sum(0)), np.ones((4, 4)))
    x = jnp.asarray(rng.standard_normal(SEQUENCE), jnp.float32)
    with lenient():
        params = cases.randomize(jl.Reparametrized(Model(), jn.WeightNorm()).init(key, x)["params"], rng)
    made = project(params)
    chex.assert_trees_all_equal(made["scale"], params["scale"])
    close(made["module"], normalized(params["module"], AXES))


def test_axes_by_name_and_by_function(rng, key):
    params, x = model_params(rng, key)
    told = {"window_kernel": 0, "cell_kernel": None, "readout_kernel": (1,)}
    want = {
        **{end: axis for end, axis in AXES.items() if end not in told},
        "window_kernel": (0,),
        "readout_kernel": (1,),
    }

    def rule(path, array):
        """The same: the paths are those of the weights, the arrays have their shapes."""
        name = "_".join(path[-2:])
        assert path[-1] in ("kernel", "recurrent")
        return told[name] if name in told else AXES[name]

    for axis in (told, rule):
        close(project(params, axis=axis), normalized(params, want))
        with lenient():
            wrapped = jl.Reparametrized(Model(), jn.weight_norms.UnitNorm(), axis=axis)
            got = wrapped.apply({"params": {"module": params}}, x)
            close(got, Model().apply({"params": normalized(params, want)}, x))
            scale = jl.Reparametrized(Model(), jn.WeightNorm(), axis=axis).init(key, x)["params"]["scale"]
        assert scale["window"]["kernel"].shape == (INPUTS, 8)
        assert set(scale["cell"]) == {"recurrent"}
    records = optim.record_norms(params, axis=told)
    assert isinstance(records["cell"]["kernel"], optax.MaskedNode)
    assert records["window"]["kernel"].shape == (INPUTS, 8)
    norms = jax.tree.map(lambda lengths: 2 * lengths[None], records)
    optimizer = optim.schedule_norms(norms, axis=told)
    update, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    # Every kernel but one becomes twice as long.
    close(update["window"]["kernel"], params["window"]["kernel"])
    assert not np.asarray(update["cell"]["kernel"]).any()
    with pytest.raises(ValueError, match=r"schedule_norms: norms must have the structure of the chosen weights"):
        optim.schedule_norms(norms).update(params, optim.schedule_norms(norms).init(params), params)


def test_axes_in_nnx(rng, unhooked):
    x = jnp.asarray(rng.standard_normal(SEQUENCE), jnp.float32)
    conv = nnx.Conv(INPUTS, 4, (3,), rngs=nnx.Rngs(0))
    for axis in ({"kernel": 1}, lambda path, array: len(path), 1):
        wrapped = jx.Reparametrized(conv, jn.WeightNorm(), axis=axis)
        assert wrapped.scale.kernel.shape == (3, 4)
        with lenient():
            assert wrapped(x).shape == (2, 7, 4)
    # What a weight normalizer says itself stands.
    assert jx.Reparametrized(conv, jn.WeightNorm(2), axis=1).scale.kernel.shape == (3, INPUTS)
    with pytest.raises(ValueError, match=r"Reparametrized: axis is None for every weight"):
        jx.Reparametrized(conv, jn.WeightNorm(), axis={"kernel": None})
    for broken, error, message in (
        ({"weight": 0}, TypeError, r"Reparametrized: axis: there is no variable 'weight' here, only bias, kernel"),
        (5, ValueError, r"Reparametrized: kernel: axis=5 is out of range for an array with 3 axes"),
        (lambda path, array: "0", TypeError, r"Reparametrized: kernel: axis must be an int .*, got '0'"),
    ):
        with pytest.raises(error, match=message):
            jx.Reparametrized(conv, jn.WeightNorm(), axis=broken)
    optimizer = nnx.Optimizer(conv, optax.chain(optax.sgd(0.1), optim.project_weights()), wrt=nnx.Param)

    @nnx.jit
    def step(conv, optimizer):
        optimizer.update(conv, nnx.grad(lambda conv: jnp.sum(jnp.sin(conv(x))))(conv))

    with lenient():
        step(conv, optimizer)
    close(np.sqrt((np.asarray(conv.kernel[...], np.float64) ** 2).sum((0, 1))), np.ones(4))


# ---- what is beside a kernel, and what is refused


def test_a_bias_lies_along_the_units(rng):
    def both(kernel, bias):
        return {"layer": {"kernel": jnp.asarray(rng.standard_normal(kernel), jnp.float32), "bias": jnp.ones(bias)}}

    for kernel, bias, inputs in (
        ((3, 4, 6), (6,), (0, 1)),
        ((3, 4, 6), (4, 6), (0,)),
        ((5, 3, 4, 6), (5, 6), (1, 2)),  # layers of a scan
        ((3, 4, 2, 6), (2, 6), (0, 1)),
        ((4, 4, 4), (4,), (0, 1)),
        ((3, 4, 6), (24,), (0,)),  # gates, flat
        ((5, 3, 4, 6), (5, 24), (1,)),
        ((3, 1, 6), (6,), (0, 1)),
    ):
        params = both(kernel, bias)
        close(project(params)["layer"]["kernel"], unit_vectors(params["layer"]["kernel"], inputs))
    for kernel, bias, ways in (
        ((4, 4, 6), (4, 6), "several"),
        ((3, 4, 6), (18,), "none"),
        ((3, 4, 6), (12,), "none"),
        ((3, 2, 4, 6), (4,), "none"),
    ):
        with pytest.raises(ValueError, match=rf"project_weights: layer/kernel has shape .*{ways} of its axes"):
            project(both(kernel, bias))


def test_attention_by_its_names(rng):
    def attention(lead, heads=2):
        shapes = dict.fromkeys(("query", "key", "value"), (*lead, 6, heads, 3)) | {"out": (*lead, heads, 3, 6)}
        return {n: {"kernel": jnp.asarray(rng.standard_normal(s), jnp.float32)} for n, s in shapes.items()}

    params = attention(())
    axes = {"query_kernel": (0,), "key_kernel": (0,), "value_kernel": (0,), "out_kernel": (0, 1)}
    close(project({"encoder": params}), {"encoder": normalized(params, axes)})
    with pytest.raises(ValueError, match=r"project_weights: encoder/key/kernel has shape \(4, 6, 2, 3\)"):
        project({"encoder": attention((4,))})
    del params["value"]
    with pytest.raises(
        ValueError, match=r"project_weights: encoder/key/kernel has shape .* axis=\{'encoder_key_kernel'"
    ):
        project({"encoder": params})


def test_gates_beside_a_recurrent_kernel(rng, key):
    for cell in (jn.lstm(4), jn.ln_gru(4), jn.zoo.ligru(4)):
        params = cell.init(key, in_features=4)
        made = project({"cell": params})["cell"]
        close(made.kernel, unit_vectors(params.kernel, (0,)))
        close(made.recurrent, unit_vectors(params.recurrent, (0,)))


@pytest.mark.parametrize(
    ("shape", "reason"),
    [((3, 4, 6), "three axes do not say"), ((4,), "a vector does not say"), ((), "a vector does not say")],
)
def test_what_is_not_certain_is_refused_with_its_path(shape, reason):
    params = {"encoder": {"layer_0": {"kernel": jnp.ones(shape)}}}
    message = rf": encoder/layer_0/kernel has shape .*{reason}.*axis=\{{'encoder_layer_0_kernel'"
    norms = {"encoder": {"layer_0": {"kernel": jnp.ones((1, 6))}}}
    for make in (
        optim.project_weights,
        optim.project_gradients,
        lambda: optim.correct_step_size(norms),
        lambda: optim.schedule_norms(norms),
    ):
        with pytest.raises(ValueError, match=message):
            make().init(params)
    with pytest.raises(ValueError, match="record_norms" + message):
        optim.record_norms(params)
