"""Keywords of other libraries are answered with ours; signatures stay as they are."""

import copy
import inspect
import pickle
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from jaxnorm._base import foreign_keywords, norm_keywords
from jaxnorm._base.keywords import AnswersKeywords, answers_keywords
from tests.tools.annotations import no_annotation_checks
from tests.tools.peers import import_peer

CELL, XS, KEY = jn.lstm(4), jnp.ones((5, 2, 3)), jax.random.key(0)
P = CELL.init(KEY, 3)
NORM = jn.LayerNorm().init((3,))
LINEN, NNX = jl.RNN(CELL), jx.RNN(CELL, 3, rngs=nnx.Rngs(0))

ENTRANCES = {
    "unroll": lambda **o: jn.unroll(CELL, P, XS, **o),
    "unroll_sum": lambda **o: jn.unroll_sum(CELL, P, XS, lambda head, y, target: y, None, **o),
    "stack": lambda **o: jn.stack([CELL], [P], XS, **o),
    "bidirectional": lambda **o: jn.bidirectional([CELL, CELL], [P, P], XS, **o),
    "LSTM": lambda **o: jn.LSTM(4, **o),
    "GRU": lambda **o: jn.GRU(4, **o),
    "ln_lstm": lambda **o: jn.ln_lstm(4, **o),
    "Zoneout": lambda **o: jn.Zoneout(CELL, **o),
    "gru": lambda **o: jn.gru(**o),
    "dreamer_gru": lambda **o: jn.zoo.dreamer_gru(**o),
    "step": lambda **o: jn.step(CELL, P, None, XS[0], **o),
    "LayerNorm": lambda **o: jn.LayerNorm(**o),
    "LayerNorm call": lambda **o: jn.LayerNorm()(NORM, XS[0], **o),
    "GroupNorm": lambda **o: jn.GroupNorm(**o),
    "batch_norm": lambda **o: jn.batch_norm(XS, **o),
    "SpectralNorm": lambda **o: jn.SpectralNorm(**o),
    "weight_norm": lambda **o: jn.weight_norm(XS[0], **o),
    "ScaleNorm": lambda **o: jn.zoo.ScaleNorm(**o),
    "FunctionCell": lambda **o: jn.FunctionCell(lambda params, carry, x: (carry, x), 0.0, **o),
    "linen.RNN": lambda **o: jl.RNN(CELL, **o),
    "linen.RNN call": lambda **o: LINEN.init(KEY, XS, **o),
    "linen.RNNCell": lambda **o: jl.RNNCell(CELL, **o),
    "nnx.RNN": lambda **o: jx.RNN(CELL, 3, rngs=nnx.Rngs(0), **o),
    "nnx.RNN call": lambda **o: NNX(XS, **o),
}

ANSWERS = {
    ("unroll", "unroll"): "The loop is not unrolled",
    ("unroll_sum", "labels"): "Pass targets=",
    ("unroll_sum", "masked_outputs"): "A masked step adds nothing",
    ("unroll_sum", "seq_lengths"): "Pass lengths=",
    ("unroll", "length"): "lengths=... is that of each example",
    ("unroll", "mask"): "Pass where=",
    ("unroll", "seq_lengths"): "Pass lengths=",
    ("unroll", "initial_carry"): "Pass carry=",
    ("unroll", "initial_state"): "Pass carry=",
    ("unroll", "time_major"): "Pass time_axis",
    ("unroll", "batch_first"): "Pass time_axis",
    ("unroll", "return_carry"): "unroll(...).carry",
    ("unroll", "return_sequences"): "unroll(...).outputs",
    ("unroll", "return_all_states"): "return_carries=True",
    ("unroll", "go_backwards"): "Pass reverse=True",
    ("unroll", "variable_axes"): "lifted scans of Flax",
    ("unroll", "split_rngs"): "lifted scans of Flax",
    ("unroll", "stateful"): "Pass carry=before.carry",
    ("unroll", "zero_output_for_mask"): "masked steps are zeros",
    ("unroll", "dropout"): "VariationalDropout(cell",
    ("unroll", "num_layers"): "Call jaxnorm.stack",
    ("unroll", "bidirectional"): "Call jaxnorm.bidirectional",
    ("unroll", "training"): "jaxnorm.deterministic(cell)",
    ("unroll", "lenghts"): "Did you mean lengths?",
    ("unroll", "nonsense"): "It takes cell, params, xs, carry, lengths",
    ("stack", "return_sequences"): "unroll(...).outputs",
    ("bidirectional", "mask"): "Pass where=",
    ("LSTM", "recurrent_dropout"): "RecurrentDropout(cell, rate=0.1)",
    ("LSTM", "units"): "Pass hidden_features",
    ("LSTM", "batch_first"): "Pass time_axis=1 to unroll",
    ("LSTM", "unit_forget_bias"): "Pass forget_bias=1.0",
    ("GRU", "reset_after"): 'Pass reset="recurrent"',
    ("GRU", "kernel_initializer"): "Pass kernel_init",
    ("ln_lstm", "num_layers"): "jaxnorm.stack(cells",
    ("ln_lstm", "bidirectional"): "jaxnorm.bidirectional(cells",
    ("ln_lstm", "eps"): "norm=LayerNorm(epsilon=",
    ("Zoneout", "hidden_size"): "Pass it to the cell inside",
    ("FunctionCell", "initial_carry"): "Pass carry_init",
    ("FunctionCell", "init"): "Pass params_init",
    ("unroll", "residual"): "Call jaxnorm.residual_stack(cells, params, xs)",
    ("stack", "residual_connections"): "Call jaxnorm.residual_stack(cells, params, xs)",
    ("ln_lstm", "residual"): "jaxnorm.residual_stack(cells, params, xs)",
    ("Zoneout", "residual"): "jaxnorm.residual_stack(cells, params, xs)",
    ("linen.RNN", "residual"): "Pass stack=jaxnorm.residual_stack",
    ("nnx.RNN", "residual"): "Pass stack=jaxnorm.residual_stack",
    ("nnx.RNN call", "residual"): "Pass stack=jaxnorm.residual_stack",
    ("gru", "units"): "Pass hidden_features",
    ("dreamer_gru", "num_units"): "Pass hidden_features",
    ("step", "mask"): "Pass where=",
    ("LayerNorm", "eps"): "Pass epsilon",
    ("LayerNorm", "normalized_shape"): "norm.init((features,))",
    ("LayerNorm call", "mask"): "Pass where=",
    ("GroupNorm", "num_channels"): "norm.init((features,))",
    ("batch_norm", "running_mean"): "jaxnorm.Moments(mean, var, count)",
    ("SpectralNorm", "n_power_iterations"): "Pass iterations",
    ("weight_norm", "dim"): "Pass axis",
    ("ScaleNorm", "eps"): "Pass epsilon",
    ("linen.RNN", "unroll"): "The loop is not unrolled",
    ("linen.RNN", "variable_axes"): "RNNCell in the RNN of Flax",
    ("linen.RNN", "method"): 'engine={"method": "scan"}',
    ("linen.RNN", "hidden_size"): "RNN(ln_lstm(128))",
    ("linen.RNN call", "lengths"): "Pass seq_lengths=",
    ("linen.RNN call", "where"): "Pass mask=",
    ("linen.RNN call", "carry"): "Pass initial_carry=",
    ("linen.RNNCell", "time_major"): "It takes cell, use_running_average, deterministic",
    ("nnx.RNN", "split_rngs"): "RNNCell in the RNN of Flax",
    ("nnx.RNN", "dropout"): "VariationalDropout(cell",
    ("nnx.RNN call", "return_state"): "Pass return_carry=True",
    ("nnx.RNN call", "time_axis"): "Pass time_major=True",
}


@pytest.mark.parametrize(("entrance", "keyword"), ANSWERS)
def test_a_keyword_of_another_library_is_answered_with_ours(entrance, keyword):
    answer = re.escape(ANSWERS[entrance, keyword])
    with no_annotation_checks(), pytest.raises(TypeError, match=rf"there is no argument '{keyword}'\. .*{answer}"):
        ENTRANCES[entrance](**{keyword: True})


SAME = {"self", "args", "kwargs", "name", "parent", "init"}
"""Words with the same meaning on both sides, and those of constructors in general."""


DRIVERS = {
    "nn.RNN call to unroll": (lambda: nn.RNN.__call__, jn.unroll, foreign_keywords.UNROLL),
    "nnx.RNN call to unroll": (lambda: nnx.RNN.__call__, jn.unroll, foreign_keywords.UNROLL),
    "hk.dynamic_unroll": (lambda: import_peer("haiku").dynamic_unroll, jn.unroll, foreign_keywords.UNROLL),
    "lax.scan": (lambda: jax.lax.scan, jn.unroll, foreign_keywords.UNROLL),
    "nn.RNN": (lambda: nn.RNN, jl.RNN, foreign_keywords.FLAX),
    "nn.RNN call": (lambda: nn.RNN.__call__, jl.RNN.__call__, foreign_keywords.FLAX),
    "nnx.RNN": (lambda: nnx.RNN, jx.RNN.__init__, foreign_keywords.FLAX),
    "nnx.RNN call": (lambda: nnx.RNN.__call__, jx.RNN.__call__, foreign_keywords.FLAX),
    "keras RNN to unroll": (lambda: import_peer("keras").layers.RNN, jn.unroll, foreign_keywords.UNROLL),
    "keras RNN": (lambda: import_peer("keras").layers.RNN, jx.RNN.__init__, foreign_keywords.FLAX),
}


@pytest.mark.parametrize("name", DRIVERS)
def test_every_keyword_of_a_driver_is_ours_or_is_answered(name):
    theirs, ours, advice = DRIVERS[name]
    names = set(inspect.signature(theirs()).parameters) - SAME
    known = set(inspect.signature(ours).parameters) | set(advice)
    assert names - known - {"f", "_split_transpose", "cell_size"} == set()


def test_every_keyword_of_the_recurrent_layers_of_torch_is_answered():
    line = "input_size,hidden_size,num_layers=1,bias=True,batch_first=False,dropout=0.0,bidirectional=False"
    words = set(re.findall(r"(\w+)(?:=|,|$)", line)) - {"1", "True", "False", "0", "0.0"}
    assert line.split(",")[0] in inspect.getdoc(import_peer("torch").nn.LSTM)
    assert {word for word in words if word.isalpha() or "_" in word} <= set(foreign_keywords.CELLS)


def test_no_answer_is_for_a_keyword_that_exists():
    assert not set(foreign_keywords.UNROLL) & set(inspect.signature(jn.unroll).parameters)
    assert not set(foreign_keywords.UNROLL_SUM) & set(inspect.signature(jn.unroll_sum).parameters)
    for cell in (jn.LSTM, jn.GRU, jn.Elman, jn.zoo.BlockGRU, jn.zoo.SLSTM):
        assert not set(foreign_keywords.CELLS) & set(inspect.signature(cell).parameters), cell
    for spec in (jn.LayerNorm, jn.RMSNorm, jn.BatchNorm, jn.GroupNorm, jn.InstanceNorm):
        assert not set(norm_keywords.SPECS) & set(inspect.signature(spec).parameters), spec
        assert not set(norm_keywords.CALLS) & set(inspect.signature(spec.__call__).parameters), spec
    for function in (jn.layer_norm, jn.rms_norm, jn.group_norm, jn.instance_norm):
        assert not set(norm_keywords.FUNCTIONS) & set(inspect.signature(function).parameters), function
    assert not set(norm_keywords.BATCH_NORM) & set(inspect.signature(jn.batch_norm).parameters)
    for kernel in (jn.weight_norm, jn.WeightNorm, jn.spectral_norm, jn.SpectralNorm):
        assert not set(norm_keywords.KERNELS) & set(inspect.signature(kernel).parameters), kernel
    assert not set(foreign_keywords.FUNCTION_CELL) & set(inspect.signature(jn.FunctionCell).parameters)
    for module in (jl.RNN, jx.RNN):
        parameters = {*inspect.signature(module.__init__).parameters, *inspect.signature(module.__call__).parameters}
        assert not set(foreign_keywords.FLAX) & parameters


def test_signatures_copies_and_pickles_are_what_they_were():
    assert list(inspect.signature(jn.unroll).parameters)[:4] == ["cell", "params", "xs", "carry"]
    assert list(inspect.signature(jn.LSTM).parameters)[:2] == ["hidden_features", "norm"]
    assert jn.unroll.__module__ == "jaxnorm.engine.unroll"
    assert inspect.getdoc(jn.unroll).startswith("Runs a cell over sequences")
    for spec in (CELL, jn.Zoneout(CELL, rate=0.1)):
        assert copy.copy(spec) == copy.deepcopy(spec) == pickle.loads(pickle.dumps(spec)) == spec
    assert LINEN.clone(reverse=True).reverse
    with pytest.raises(TypeError, match=r"missing .* argument: 'hidden_features'"):
        jn.LSTM()


def test_the_mechanism_leaves_functions_and_classes_with_any_keyword_alone():
    @answers_keywords({"b": "Pass a."})
    def f(a, *, c=0):
        """Doc."""
        return a, c

    assert f(1, c=2) == f(a=1, c=2) == (1, 2)
    assert f.__doc__ == "Doc."
    with pytest.raises(TypeError, match=r"f: there is no argument 'b'\. Pass a\."):
        f(1, b=2)

    class Anything(AnswersKeywords):
        def __init__(self, *values, **options):
            self.values, self.options = values, options

    assert Anything(1, a=1).options == {"a": 1}

    @answers_keywords({"b": "Pass a."})
    def g(*values, **options):
        return values, options

    assert g(1, 2, c=3) == ((1, 2), {"c": 3})
    with pytest.raises(TypeError, match=r"g: there is no argument 'b'\. Pass a\."):
        g(1, b=2)


POSITIONS = {
    "more sizes of a cell": (lambda: jn.lstm(3, 4), "lstm: it takes hidden_features by position, and got 2 arguments. "
                             "A cell takes its number of inputs in cell.init"),
    "more sizes of a normalizer": (lambda: jn.GroupNorm(2, 6), "GroupNorm: it takes num_groups by position, and got 2 "
                                   "arguments. The number of features belongs to the weights: norm.init((features,))"),
    "a size of a normalizer that has no position": (lambda: jn.zoo.ScaleNorm(-1, 6), "ScaleNorm: it takes"),
    "a switch": (lambda: jn.LayerNorm(-1, False), "and got 2 arguments. Pass the others by name: "),
    "an epsilon": (lambda: jn.layer_norm(XS, None, None, 1e-6), "and got 4 arguments. Write epsilon=1e-06."),
    "an epsilon or a fraction": (lambda: jn.rms_norm(XS, None, None, 1e-6),
                                 "Pass the others by name: axis, feature_axis, fraction, "),
    "mean and variance": (lambda: jn.batch_norm(XS, *[XS] * 4), "PyTorch has mean and variance first"),
    "no weights": (lambda: jn.BatchNorm()(XS), "BatchNorm: it needs x. Call norm(params, x)"),
    "nothing": (lambda: jn.BatchNorm()(), "BatchNorm: it needs params and x. Call norm(params, x)"),
    "no number of inputs": (lambda: jx.RNN(CELL, rngs=nnx.Rngs(0)), "RNN: it needs in_features. Write RNN(ln_lstm(1"),
    "no rngs": (lambda: jx.RNNCell(CELL, 3), "RNNCell: it needs rngs. Write RNN"),
}  # fmt: skip


@pytest.mark.parametrize("name", POSITIONS)
def test_arguments_by_position_and_missing_ones_are_answered(name):
    call, message = POSITIONS[name]
    with no_annotation_checks(), pytest.raises(TypeError, match=re.escape(message)):
        call()
