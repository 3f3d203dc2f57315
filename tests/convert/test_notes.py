"""Notes say what to do where a port would go wrong in silence: carries, redundant biases, momentum, masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import jaxnorm as jn
from jaxnorm import convert
from tests.convert import tools
from tests.tools.peers import import_peer, lenient

HIDDEN, FEATURES, BATCH, STEPS = tools.HIDDEN, tools.FEATURES, tools.BATCH, tools.STEPS


def drawn(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def of_torch(rng, gates, **more):
    sizes = {"weight_ih_l0": (FEATURES,), "weight_hh_l0": (HIDDEN,), "bias_ih_l0": (), "bias_hh_l0": ()}
    return {name: drawn(rng, gates * HIDDEN, *rest) for name, rest in sizes.items()} | more


def carries(notes):
    return [note for note in notes if "carry: pass {'h': h, 'c': c}" in note]


def test_the_carry_of_an_lstm_of_torch_goes_in_by_the_line_of_the_note(torch, rng):
    module = torch.nn.LSTM(FEATURES, HIDDEN)
    found = convert.torch.load(module)
    (note,) = carries(found.notes)
    assert "PyTorch is (h, c), ours (c, h)" in note
    xs, h, c = drawn(rng, STEPS, BATCH, FEATURES), drawn(rng, 1, BATCH, HIDDEN), drawn(rng, 1, BATCH, HIDDEN)
    expected, _ = module(*(torch.tensor(xs), tuple(map(torch.tensor, (h, c)))))
    ours = jn.unroll(found.spec, found.params, jnp.asarray(xs), carry={"h": h[0], "c": c[0]})
    tools.agree(ours.outputs, expected.detach())


def test_notes_on_carries_come_where_the_tuple_begins_with_h(rng):
    assert len(carries(convert.torch.load(of_torch(rng, 4)).notes)) == 1
    projected = of_torch(rng, 4) | {"weight_hh_l0": drawn(rng, 4 * HIDDEN, 2), "weight_hr_l0": drawn(rng, 2, HIDDEN)}
    assert len(carries(convert.torch.load(projected).notes)) == 1
    assert carries(convert.torch.load(of_torch(rng, 3)).notes) == []
    model = convert.torch.load_model({f"rnn.{name}": array for name, array in of_torch(rng, 4).items()})
    assert carries(model.notes)[0].startswith("rnn: carry")
    keras = {"kernel": drawn(rng, 3, 4 * HIDDEN), "recurrent_kernel": drawn(rng, HIDDEN, 4 * HIDDEN)}
    assert "Keras" in carries(convert.keras.load(keras).notes)[0]
    eqx = import_peer("equinox")
    assert "Equinox" in carries(convert.equinox.load(eqx.nn.LSTMCell(2, 3, key=jax.random.key(0))).notes)[0]
    for library, cell in ((convert.haste, jn.zoo.haste_ln_lstm(4)), (convert.tfa, jn.zoo.tfa_ln_lstm(4))):
        arrays = library.export(cell, tools.random_params(cell, rng))
        assert len(carries(library.load(arrays).notes)) == 1


def test_a_gru_of_flax_trains_as_there_by_the_line_of_the_note(rng):
    module = linen.RNN(linen.GRUCell(HIDDEN), time_major=True)
    xs = jnp.asarray(drawn(rng, STEPS, BATCH, FEATURES))
    variables = tools.random_like(module.init(jax.random.key(0), xs), rng)
    theirs = jax.grad(lambda own: jnp.sum(jnp.sin(module.apply(own, xs))))(variables)
    theirs = jax.tree.map(lambda w, g: w - g, variables, theirs)
    found = convert.linen.load(variables, module)
    (line,) = [note.rpartition("their gradient: ")[2] for note in found.notes if note.startswith("recurrent_bias")]
    grads = jax.grad(lambda own: jnp.sum(jnp.sin(jn.unroll(found.spec, own, xs).outputs)))(found.params)
    trained = jax.tree.map(lambda w, g: w - g, found.params, eval(line, {"grads": grads}))
    ours = convert.linen.export(found.spec, trained)["params"]
    jax.tree.map(lambda a, b: tools.agree(a, b, 1e-5), ours, theirs["params"]["cell"])


@pytest.mark.parametrize("bias", [True, False])
def test_notes_on_recurrent_biases_count_what_is_not_in_the_source(bias, rng):
    from flax import nnx

    own, *_ = convert.nnx.load(nnx.GRUCell(FEATURES, HIDDEN, rngs=nnx.Rngs(0))).notes
    assert f"its first {3 * HIDDEN} entries" in own
    eqx = import_peer("equinox")
    notes = convert.equinox.load(eqx.nn.GRUCell(2, 3, use_bias=bias, key=jax.random.key(0))).notes
    assert ["its first 6 entries" in note for note in notes] == [True] * bias


def bn_state(rng):
    names = ("weight", "bias", "running_mean", "running_var")
    batches = {"bn.num_batches_tracked": np.asarray(7), "head.weight": drawn(rng, 2, 3)}
    return {f"bn.{name}": np.abs(drawn(rng, 3)) for name in names} | batches


def test_a_batch_norm_of_a_state_dict_is_noted(rng):
    state = bn_state(rng)
    (note,) = convert.torch.load_model(state, {"bn": jn.BatchNorm()}).notes
    assert "momentum=0.99, ddof=0 are those of spec" in note
    assert "momentum=0.9, ddof=1" in note
    assert convert.torch.load_model(state, {"bn": jn.BatchNorm(momentum=0.9, ddof=1)}).notes == ()
    (note,) = convert.torch.load_model(state).notes
    assert note.startswith("bn: a BatchNorm by its names")
    line = note.partition("Pass specs=")[2].rpartition(", PyTorch's defaults")[0]
    model = convert.torch.load_model(state, eval(line, {"jaxnorm": jn}))
    assert isinstance(model.specs["bn"], jn.BatchNorm)
    assert model.notes == ()


def test_integers_of_a_model_are_where_grad_does_not_look(rng):
    state = bn_state(rng)
    model = convert.torch.load_model(state)
    grads = jax.grad(lambda params: sum(jnp.sum(leaf) for leaf in jax.tree.leaves(params)))(model.params)
    assert set(grads["bn"]) == {"weight", "bias", "running_mean", "running_var"}
    assert model.stats == {"bn": {"num_batches_tracked": 7}}
    assert int(model["bn"]["num_batches_tracked"]) == 7
    again = convert.torch.export(model.specs, model.params, model.stats)
    assert set(again) == set(state)
    assert int(again["bn.num_batches_tracked"]) == 7


def test_specs_of_a_model_are_static_arguments(rng):
    state = {f"rnn.{name}": array for name, array in of_torch(rng, 3).items()}
    model, other = convert.torch.load_model(state), convert.torch.load_model(dict(state))
    assert model.specs == {"rnn": jn.gru(HIDDEN)} == other.specs
    assert hash(model.specs) == hash(other.specs)
    assert list(model.specs) == ["rnn"]
    assert len(model.specs) == 1

    def run(specs, params, xs):
        return jn.unroll(specs["rnn"], params["rnn"], xs).outputs

    xs = jnp.asarray(drawn(rng, STEPS, BATCH, FEATURES))
    jitted = jax.jit(run, static_argnums=0)
    tools.agree(jitted(model.specs, model.params, xs), run(model.specs, model.params, xs))
    assert jitted(other.specs, model.params, xs).shape == (STEPS, BATCH, HIDDEN)
    assert jitted._cache_size() == 1


@pytest.mark.parametrize("name", ["LSTM", "RNN", "zeros", "Bidirectional"])
def test_masks_of_keras_by_the_line_of_the_note(keras, rng, name):
    layers = keras.layers
    layer = {
        "LSTM": lambda: layers.LSTM(HIDDEN, return_sequences=True),
        "RNN": lambda: layers.RNN(layers.GRUCell(HIDDEN), return_sequences=True),
        "zeros": lambda: layers.GRU(HIDDEN, return_sequences=True, zero_output_for_mask=True),
        "Bidirectional": lambda: layers.Bidirectional(layers.GRU(HIDDEN, return_sequences=True)),
    }[name]()
    xs = drawn(rng, BATCH, STEPS, FEATURES)
    mask = np.array([[True, False, True, False], [False, True, True, True]])
    with lenient():
        expected = np.asarray(layer(xs, mask=mask))
    found = convert.keras.load(layer)
    holds = any("masked_outputs='hold'" in note for note in found.notes)
    assert holds == (name in ("LSTM", "RNN"))
    options = {"masked_outputs": "hold"} if holds else {}
    ours = convert.run(found.spec, found.params, jnp.asarray(xs), time_axis=1, where=jnp.asarray(mask), **options)
    tools.agree(ours.outputs, expected)


def test_lists_of_names_of_haiku(rng):
    cells = (jn.lstm(3), jn.lstm(4))
    params = tuple(tools.random_params(cell, rng, size) for cell, size in zip(cells, (2, 3), strict=True))
    arrays, _ = convert.haiku.export(cells, params, name=["low", "high"])
    assert set(arrays) == {"low/linear", "high/linear"}
    found, same = (convert.haiku.load(arrays, name=names) for names in (["low", "high"], ("low", "high")))
    assert found.spec == same.spec
    tools.same(found.params, same.params)
    with pytest.raises(TypeError, match="name must be one name for each of the 2 cells, got 'low'"):
        convert.haiku.export(cells, params, name="low")


def test_a_checkpoint_of_linen_says_which_part_to_pass(rng):
    params = {"norm": {"scale": drawn(rng, 3)}}
    whole = {"params": {"params": params}, "opt_state": {}, "step": 3}
    with pytest.raises(ValueError, match=r"opt_state, step not understood.*: variables\['params'\]\.$"):
        convert.linen.load_model(whole)
    assert set(convert.linen.load_model(whole["params"]).params) == {"norm"}
    with pytest.raises(ValueError, match=r"only: \{'params': variables\['params'\]\}\.$"):
        convert.linen.load_model({"params": params, "opt_state": {}})
