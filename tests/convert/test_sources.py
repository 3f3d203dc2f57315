"""What is no source of a converter is named."""

import flax.linen as nn
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.tools.annotations import no_annotation_checks

SOURCES = {
    "torch": (convert.torch.load, "source must be a module, a state dict or a path"),
    "keras": (convert.keras.load, "source must be a built layer, arrays by name or a path"),
    "linen": (convert.linen.load, r"variables must be a dict, as module\.init returns it"),
    "haiku": (convert.haiku.load, "params must be a dict"),
    "haste": (convert.haste.load, "arrays must be a dict"),
    "tfa": (convert.tfa.load, "arrays must be a dict"),
    "nnx": (convert.nnx.load, "module must be a module of Flax NNX"),
    "equinox": (convert.equinox.load, "module must be a module of Equinox"),
    "cudnn": (lambda x: convert.cudnn.load(x, input_size=3, hidden_size=4), "weights must be an array"),
}
SOURCE = {
    "None": (lambda: None, "got None"),
    "a preset": (lambda: jn.ln_gru, "got the preset ln_gru, which was not called"),
    "a class": (lambda: jn.LSTM, "got the class LSTM"),
    "a spec": (lambda: jn.lstm(4), "got the cell spec LSTM"),
    "a module of linen": (lambda: nn.LSTMCell(4), "got Flax's LSTMCell"),
}


@pytest.mark.parametrize("name", SOURCE)
@pytest.mark.parametrize("library", SOURCES)
def test_sources_of_converters_are_named(library, name):
    load, expected = SOURCES[library]
    make, text = SOURCE[name]
    with no_annotation_checks(), pytest.raises(TypeError, match=rf"^convert\.{library}\.load: {expected}.*{text}"):
        load(make())
