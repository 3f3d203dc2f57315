"""Weight and spectral normalization from and to PyTorch: kernels, names of both styles, recurrent layers, refusals."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.convert import tools
from tests.convert.tools import FEATURES, HIDDEN
from tests.tools.peers import lenient

pytestmark = pytest.mark.long


def normalized(torch, layer, kind, hook, name="weight", **options):
    """A layer with one normalized weight, random g and v."""
    with lenient():
        utils = torch.nn.utils if hook else torch.nn.utils.parametrizations
        layer = getattr(utils, kind)(layer, name, **options)
    with torch.no_grad():
        for key, value in layer.named_parameters():
            if key.endswith(("_g", "original0")):
                value.copy_(torch.rand_like(value) + 0.5)
        return layer.eval()


LAYERS = {
    "linear": (lambda nn: nn.Linear(3, 4), {}, (2, 3)),
    "convolution, 1 axis": (lambda nn: nn.Conv1d(3, 4, 2), {}, (2, 3, 5)),
    "convolution, 2 axes": (lambda nn: nn.Conv2d(3, 4, (2, 3)), {}, (2, 3, 5, 5)),
}


def ours(kernel):
    """A kernel in the layout of PyTorch."""
    return np.moveaxis(np.asarray(kernel), (-1, -2), (0, 1))


@pytest.mark.parametrize("hook", [False, True])
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
@pytest.mark.parametrize(("make", "options", "shape"), LAYERS.values(), ids=LAYERS)
def test_there_and_back(torch, make, options, shape, kind, hook):
    torch.manual_seed(3)
    layer = normalized(torch, make(torch.nn), kind, hook, **options)
    with torch.no_grad(), lenient():
        layer(torch.ones(shape))  # the old hooks make the weight when they are called
    found = convert.torch.load_kernel(layer)
    assert isinstance(found.spec, jn.WeightNorm if kind == "weight_norm" else jn.SpectralNorm)
    tools.agree(ours(found.spec(found.params, found.stats)), layer.weight.detach())
    exported = convert.torch.export_kernel(found.spec, found.params, found.stats, hook=hook)
    state = {name: tensor.numpy() for name, tensor in layer.state_dict().items() if name != "bias"}
    tools.same(exported, {name: state[name] for name in exported})
    assert set(exported) == set(state)


@pytest.mark.parametrize("hook", [False, True])
def test_a_live_module_tells_the_options_of_its_spectral_normalization(torch, hook):
    layer = normalized(torch, torch.nn.Conv1d(3, 4, 2), "spectral_norm", hook, n_power_iterations=3, eps=1e-6)
    assert convert.torch.load_kernel(layer).spec == jn.SpectralNorm((0, 1), iterations=3, epsilon=1e-6)
    told = jn.SpectralNorm((0, 1), iterations=2)
    assert convert.torch.load_kernel(layer.state_dict(), told).spec == told
    transposed = normalized(torch, torch.nn.ConvTranspose1d(3, 3, 1), "spectral_norm", hook)
    with pytest.raises(ValueError, match="spectral normalization with dim=1 cannot be represented"):
        convert.torch.load_kernel(transposed)


def test_one_length_for_all(torch):
    layer = normalized(torch, torch.nn.Linear(3, 4), "weight_norm", True, dim=None)
    with torch.no_grad():
        layer(torch.ones(2, 3))
    found = convert.torch.load_kernel(layer)
    tools.agree(ours(found.spec(found.params)), layer.weight.detach())
    assert convert.torch.export_kernel(found.spec, found.params, hook=True)["weight_g"].shape == ()


@pytest.mark.parametrize("hook", [False, True])
def test_a_recurrent_layer_has_the_kernel_that_is_made(torch, rng, hook):
    torch.manual_seed(3)
    module = normalized(torch, torch.nn.LSTM(FEATURES, HIDDEN), "weight_norm", hook, "weight_hh_l0")
    xs = tools.random_inputs(rng)
    with torch.no_grad(), lenient():
        expected = module(torch.tensor(xs))[0].numpy()
    found = convert.torch.load(module)
    assert "weight_hh_l0 is what WeightNorm makes" in found.notes[-1]
    tools.agree(jn.unroll(found.spec, found.params, jnp.asarray(xs)).outputs, expected)
    kernel = convert.torch.load_kernel(module.state_dict(), name="weight_hh_l0", gates=4)
    assert kernel.params.scale.shape == (4, HIDDEN)
    tools.agree(kernel.spec(kernel.params), found.params.recurrent)
    exported = convert.torch.export_kernel(kernel.spec, kernel.params, name="weight_hh_l0", hook=hook)
    tools.same(exported, {name: module.state_dict()[name].numpy() for name in exported})


def test_what_has_no_counterpart_is_refused(torch):
    layer = normalized(torch, torch.nn.Linear(3, 4), "weight_norm", True, dim=1)
    with pytest.raises(ValueError, match=r"weight_g with shape \(1, 3\) cannot be represented: units lie along axis 0"):
        convert.torch.load_kernel(layer)
    with pytest.raises(ValueError, match="weight is not normalized; there are weight, bias"):
        convert.torch.load_kernel(torch.nn.Linear(3, 4))
    with pytest.raises(ValueError, match="spec is SpectralNorm"):
        convert.torch.load_kernel(normalized(torch, torch.nn.Linear(3, 4), "weight_norm", True), jn.SpectralNorm())
    for spec in (jn.WeightNorm(1), jn.SpectralNorm(use_scale=True), jn.weight_norms.UnitNorm()):
        params = jn.KernelParams(jnp.ones((3, 4)), jnp.ones(3))
        with pytest.raises(ValueError, match="cannot be represented"):
            convert.torch.export_kernel(spec, params, jn.weight_norms.SpectralState(jnp.ones(4), jnp.ones(3)))
