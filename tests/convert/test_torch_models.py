"""Whole models of PyTorch: every layer by name, the same outputs, and the only layer that fits without a prefix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.convert import tools

TOKENS, WIDTH, HIDDEN = 11, 3, 4


@pytest.fixture
def torch():
    return tools.peer("torch")


@pytest.fixture
def numbers(torch, rng):
    """Puts random numbers into all weights and running statistics."""

    def draw(module):
        with torch.no_grad():
            for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
                if tensor.is_floating_point():
                    drawn = torch.tensor(rng.standard_normal(tuple(tensor.shape)), dtype=tensor.dtype)
                    tensor.copy_(drawn.abs() + 0.5 if name.endswith("running_var") else drawn)
        return module.eval()

    return draw


def tagger(torch):
    """A model of its own class, with containers of all kinds, a normalized weight, and a layer used twice."""
    nn = torch.nn

    class Gain(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(2 * HIDDEN))

        def forward(self, x):
            return x * self.gain

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(TOKENS, WIDTH)
            self.encoder = nn.LSTM(WIDTH, HIDDEN, bidirectional=True)
            self.blocks = nn.ModuleList([nn.Sequential(nn.LayerNorm(2 * HIDDEN), Gain(), nn.Dropout(0.5))])
            self.heads = nn.ModuleDict(
                {"tag": nn.utils.parametrizations.weight_norm(nn.Linear(2 * HIDDEN, WIDTH)), "norm": nn.BatchNorm1d(3)}
            )
            self.start = nn.Parameter(torch.ones(WIDTH))
            self.out = nn.Linear(WIDTH, TOKENS)
            self.out.weight = self.embed.weight

        def forward(self, tokens):
            x = self.encoder(self.embed(tokens) + self.start)[0]
            for block in self.blocks:
                x = block(x)
            x = self.heads["norm"](self.heads["tag"](x).permute(1, 2, 0)).permute(2, 0, 1)
            return self.out(x)

    return Tagger()


def run_tagger(model, tokens):
    x = model["embed"]["weight"][tokens] + model[""]["start"]
    x = convert.run(model["encoder"].spec, model["encoder"].params, x).outputs
    x, _ = model["blocks.0.0"].spec(model["blocks.0.0"].params, x)
    x = x * model["blocks.0.1"]["gain"]
    x = x @ model["heads.tag"]["weight"].T + model["heads.tag"]["bias"]
    x, _ = model["heads.norm"].spec(model["heads.norm"].params, x, model["heads.norm"].stats)
    return x @ model["out"]["weight"].T + model["out"]["bias"]


def test_a_model_by_the_names_of_its_layers(torch, numbers, rng):
    module = numbers(tagger(torch))
    model = convert.torch.load(module)
    tokens = rng.integers(TOKENS, size=(5, 2))
    with torch.no_grad():
        expected = module(torch.tensor(tokens)).numpy()
    with jax.numpy_rank_promotion("allow"):
        tools.agree(run_tagger(model, tokens), expected, 1e-5)
    assert list(model) == ["", "embed", "encoder", "blocks.0.0", "blocks.0.1", "heads.tag", "heads.norm", "out"]
    assert model.kinds == {
        "": "Tagger", "embed": "Embedding", "encoder": "LSTM", "blocks.0.0": "LayerNorm", "blocks.0.1": "Gain",
        "blocks.0.2": "Dropout", "heads.tag": "Linear", "heads.norm": "BatchNorm1d", "out": "Linear",
    }  # fmt: skip
    assert model.tied == {"out.weight": "embed.weight"}
    assert any(note.startswith("heads.tag: weight is what WeightNorm makes") for note in model.notes)
    assert set(model.specs) == {"encoder", "blocks.0.0", "heads.norm"}
    assert set(model.stats) == {"heads.norm"}
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((model.params, model.stats)))


def test_the_state_dict_of_a_model_needs_specs_of_normalizers_only(torch, numbers, rng):
    module = numbers(tagger(torch))
    specs = {"blocks.0.0": jn.LayerNorm(), "heads.norm": jn.BatchNorm(ddof=1, momentum=0.9)}
    state = module.state_dict()
    model = convert.torch.load_model(state, specs)
    live = convert.torch.load_model(module)
    tools.same(model.params, live.params | {name: live.params[name] for name in model})
    tools.same(model.stats, live.stats)
    assert model.tied == live.tied
    assert model.specs == live.specs
    bare = convert.torch.load_model({name: tensor.numpy() for name, tensor in state.items()})
    assert set(bare.specs) == {"encoder"}
    assert set(bare["heads.norm"]) == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def test_a_model_goes_back(torch, numbers):
    module = numbers(tagger(torch))
    model = convert.torch.load(module)
    arrays = convert.torch.export(model.specs, model.params, model.stats)
    torch.nn.utils.parametrize.remove_parametrizations(module.heads["tag"], "weight")
    other = tagger(torch)
    torch.nn.utils.parametrize.remove_parametrizations(other.heads["tag"], "weight")
    other.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    tokens = torch.arange(10).reshape(5, 2)
    tools.agree(other.eval()(tokens).detach(), module(tokens).detach(), 1e-5)
    with pytest.raises(ValueError, match=r"params has no encoder, blocks.0.0, heads.norm; there are embed"):
        convert.torch.export(model.specs, {"embed": model.params["embed"]})


class Layout:
    """AWD-LSTMs as their authors and fastai write them: a wrapper takes the recurrent weight out of the layer."""

    @staticmethod
    def salesforce(torch):
        """The authors keep the raw weight in the layer; encoder and decoder are tied."""
        nn = torch.nn

        class WeightDrop(nn.Module):
            def __init__(self, module):
                super().__init__()
                self.module = module
                raw = module.weight_hh_l0
                del module._parameters["weight_hh_l0"]
                module.register_parameter("weight_hh_l0_raw", nn.Parameter(raw.data))

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.encoder = nn.Embedding(TOKENS, WIDTH)
                sizes = ((WIDTH, HIDDEN), (HIDDEN, WIDTH))
                self.rnns = nn.ModuleList([WeightDrop(nn.LSTM(*each)) for each in sizes])
                self.decoder = nn.Linear(WIDTH, TOKENS)
                self.decoder.weight = self.encoder.weight

        return Model(), "rnns.{}.module", "encoder", "decoder"

    @staticmethod
    def fastai(torch):
        """There the raw weight lies in the wrapper, and the layer has a copy with dropped connections."""
        nn = torch.nn

        class WeightDropout(nn.Module):
            def __init__(self, module):
                super().__init__()
                self.module = module
                self.weight_hh_l0_raw = nn.Parameter(module.weight_hh_l0.data.clone())

        class Dropped(nn.Module):
            def __init__(self, emb):
                super().__init__()
                self.emb = emb

        class Encoder(nn.Module):
            def __init__(self):
                super().__init__()
                self.encoder = nn.Embedding(TOKENS, WIDTH)
                self.encoder_dp = Dropped(self.encoder)
                sizes = ((WIDTH, HIDDEN), (HIDDEN, WIDTH))
                self.rnns = nn.ModuleList([WeightDropout(nn.LSTM(*each)) for each in sizes])

        class Decoder(nn.Module):
            def __init__(self, encoder):
                super().__init__()
                self.decoder = nn.Linear(WIDTH, TOKENS)
                self.decoder.weight = encoder.weight

        encoder = Encoder()
        model = nn.Sequential(encoder, Decoder(encoder.encoder))
        return model, "0.rnns.{}.module", "0.encoder", "1.decoder"


@pytest.mark.parametrize("live", [True, False], ids=["module", "state dict"])
@pytest.mark.parametrize("layout", [Layout.salesforce, Layout.fastai], ids=["salesforce", "fastai"])
def test_an_awd_lstm(torch, numbers, rng, layout, live):
    module, rnn, encoder, decoder = layout(torch)
    numbers(module)
    state = module.state_dict()
    model = convert.torch.load(module) if live else convert.torch.load_model(state)
    tokens = rng.integers(TOKENS, size=(5, 2))
    x, theirs = model[encoder]["weight"][tokens], state[f"{encoder}.weight"][tokens]
    for number, (inputs, outputs) in enumerate(((WIDTH, HIDDEN), (HIDDEN, WIDTH))):
        name = rnn.format(number)
        x = jn.unroll(model[name].spec, model[name].params, x).outputs
        lstm = torch.nn.LSTM(inputs, outputs)
        own = {key: state[f"{name}.{key}"] for key in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0")}
        raw = next(value for key, value in state.items() if key.startswith(name[:-7]) and key.endswith("_raw"))
        lstm.load_state_dict(own | {"weight_hh_l0": raw})
        theirs = lstm(theirs)[0]
        assert f"{name}: weight_hh_l0 is dropped in training: wrap the cell in jaxnorm.DropConnect" in model.notes
    tools.agree(x, theirs.detach(), 1e-5)
    assert model.tied[f"{decoder}.weight"] == f"{encoder}.weight"
    tools.same(model[decoder]["weight"], model[encoder]["weight"])
    assert set(model[decoder]) == {"weight", "bias"}


def test_raw_weights_of_several_layers_in_one_wrapper(torch, numbers):
    rnn = numbers(torch.nn.LSTM(WIDTH, HIDDEN, 2))
    state = {f"module.{name}": tensor for name, tensor in rnn.state_dict().items()}
    for name in ("weight_hh_l0", "weight_hh_l1"):
        state[f"{name}_raw"] = state[f"module.{name}"].clone()
        state[f"module.{name}"] = torch.zeros_like(state[f"module.{name}"])  # the copy of the last training step
    model = convert.torch.load_model(state)
    tools.same(model["module"].params, convert.torch.load(rnn).params)
    assert len(model.notes) == 2
    tools.same(convert.torch.load(state).params, model["module"].params)


def test_parametrizations_without_counterpart_keep_their_arrays(torch, numbers):
    nn = torch.nn
    with tools.its_own_rules():
        odd = nn.utils.weight_norm(nn.LSTM(3, 4), "weight_hh_l0", dim=1)
        linear = nn.utils.weight_norm(nn.Linear(3, 4), dim=1)
    module = numbers(nn.ModuleDict({"odd": linear, "rnn": nn.GRU(3, 4)}))
    for model in (convert.torch.load(module), convert.torch.load_model(module.state_dict())):
        assert set(model["odd"]) == {"bias", "weight_g", "weight_v"}
        assert (
            "odd: the arrays of its parametrization are as they are: odd.weight_g with shape (1, 3)" in model.notes[0]
        )
    spectral = numbers(nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4))))
    tools.agree(convert.torch.load(spectral)["0"]["weight"], spectral[0].weight.detach(), 1e-5)
    model = convert.torch.load(numbers(nn.ModuleDict({"rnn": odd})))
    assert {"weight_hh_l0_g", "weight_hh_l0_v", "weight_ih_l0"} <= set(model["rnn"])


def test_the_only_recurrent_layer_needs_no_prefix(torch, numbers):
    module = numbers(torch.nn.ModuleDict({"a": torch.nn.Linear(2, 3), "net": torch.nn.Sequential(torch.nn.GRU(3, 4))}))
    expected = convert.torch.load(module["net"][0]).params
    for prefix in ("", "net.", "net", "net.0."):
        found = convert.torch.load(module.state_dict(), prefix=prefix)
        tools.same(found.params, expected)
        assert ("the one layer that fits has the prefix 'net.0.'" in " ".join(found.notes)) == (prefix != "net.0.")
    tools.same(convert.torch.load(module, prefix="net.0.").params, expected)


def test_the_only_recurrent_layer_with_a_normalized_weight(torch, numbers):
    rnn = torch.nn.utils.parametrizations.weight_norm(torch.nn.LSTM(3, 4), "weight_hh_l0")
    module = numbers(torch.nn.ModuleDict({"head": torch.nn.Linear(2, 3), "rnn": rnn}))
    found = convert.torch.load(module.state_dict())
    tools.same(found.params, convert.torch.load(rnn).params)
    tools.agree(found.params.recurrent[:, 0], rnn.weight_hh_l0[:4].T.detach())
    assert any("WeightNorm" in note for note in found.notes)


def test_the_only_normalizer_of_its_kind_needs_no_prefix(torch, numbers):
    nn = torch.nn
    module = numbers(nn.ModuleDict({"a": nn.Linear(4, 4), "row": nn.LayerNorm(4), "batch": nn.BatchNorm1d(4)}))
    for spec, name in ((jn.LayerNorm(), "row"), (jn.BatchNorm(ddof=1), "batch")):
        tools.same(convert.torch.load(module.state_dict(), spec)[1:3], convert.torch.load(module[name])[1:3])


def test_layers_of_other_classes_are_not_taken_for_recurrent_ones(torch):
    nn = torch.nn

    class Cell(nn.Module):  # has the names of an LSTM cell, and normalizers beside them
        def __init__(self):
            super().__init__()
            self.weight_ih, self.weight_hh = (nn.Parameter(torch.ones(8, size)) for size in (3, 2))
            self.norm = nn.LayerNorm(8)

    module = nn.ModuleDict({"cell": Cell(), "mean": nn.BatchNorm1d(3, track_running_stats=False)})
    model = convert.torch.load(module)
    assert set(model["cell"]) == {"weight_ih", "weight_hh"}
    assert set(model.specs) == {"cell.norm"}
    assert any(note.startswith("mean: BatchNorm1d") and "no running statistics" in note for note in model.notes)
    model = convert.torch.load_model(module.state_dict())
    assert model.specs == {}
    assert any(note.startswith("cell: it has layers of its own") for note in model.notes)
    rnn = {"weight_ih_l0": np.ones((2, 3), "f"), "weight_hh_l0": np.ones((2, 2), "f")}
    model = convert.torch.load_model(rnn)
    assert set(model[""]) == set(rnn)
    assert "the names of arrays do not tell the nonlinearity of an RNN" in model.notes[0]


def test_errors_of_models_name_the_layer(torch):
    state = {"rnn.weight_ih_l0": np.ones((8, 3), "f"), "rnn.weight_hh_l0": np.ones((8, 2), "f")}
    for change, match in (
        ({"rnn.bias_ih_l0": np.ones(8, "f")}, r"rnn\.bias_hh_l0 is missing"),
        ({"rnn.weight_ih_l0": np.ones((7, 3), "f")}, r"rnn\.weight_ih_l0 must have shape"),
        ({"head.weight": np.ones(3)}, r"head\.weight is in float64"),
        ({"ids": np.array([2**40])}, r"ids has integers beyond int32"),
    ):
        with pytest.raises((TypeError, ValueError), match=match):
            convert.torch.load_model(state | change)
    with pytest.raises(ValueError, match=r"specs has norm, and there are the layers rnn"):
        convert.torch.load_model(state, {"norm": jn.LayerNorm()})
    with pytest.raises(KeyError, match="the model has no layer 'head'; there are rnn"):
        convert.torch.load_model(state)["head"]
    assert convert.torch.load_model(state | {"ids": np.array([3])})[""]["ids"].dtype == jnp.int32
