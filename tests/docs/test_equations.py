"""The page docs/equations.md: each line that it names is executed by the call that its section explains."""

import importlib
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jaxnorm as jn

ROOT = Path(__file__).parents[2]
PACKAGE = Path(jn.__file__).parent
PAGE = (ROOT / "docs" / "equations.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))


@pytest.fixture(scope="module")
def locate():
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    try:
        return importlib.import_module("source_line").locate
    finally:
        sys.path.pop(0)


def targets(text):
    return re.findall(r"\{line\}`([^`]+)`", text)


def normalizers():
    x, scale, bias = jnp.ones((4, 3)), jnp.ones(3), jnp.ones(3)
    jn.layer_norm(x, scale, bias)
    jn.rms_norm(x, scale)
    jn.batch_norm(x, scale, bias)
    measured = jn.moments(x)
    jn.normalize(x, measured, scale, bias)
    jn.update_running(measured, measured, momentum=0.9)
    jn.population([measured, measured], ddof=1)


def train(*cells):
    for cell in cells:
        params = cell.init(jax.random.key(0), 3)
        jn.unroll(cell, params, jnp.ones((2, 4, 3)))


def lstms():
    train(jn.lstm(2), jn.ln_lstm(2), jn.rms_lstm(2), jn.bn_lstm(2, max_steps=2))


def grus():
    train(jn.gru(2), jn.ln_gru(2), jn.rms_gru(2))


def elmans():
    train(jn.elman(2), jn.ln_rnn(2))


def relatives():
    train(jn.zoo.dreamer_v3_gru(2), jn.zoo.norm_prop_lstm(2), jn.zoo.assorted_time_lstm(2, steps=2))


def mgus():
    train(jn.zoo.mgu(2), jn.zoo.MGU(2))


def rg_lrus():
    train(jn.zoo.RGLRU(3))


def conv_lstms():
    cell = jn.zoo.ConvLSTM(2, image_shape=(2, 2), use_peepholes=True)
    jn.unroll(cell, cell.init(jax.random.key(0), 3), jnp.ones((2, 4, 2, 2, 3)))


CALLS = {
    "Layer, RMS and batch normalization": normalizers,
    "LSTM, LN-LSTM, RMS-LSTM, BN-LSTM": lstms,
    "GRU, LN-GRU, RMS-GRU": grus,
    "Elman network, LN-RNN": elmans,
    "The GRU of [x, h], the normalized LSTM, the assorted-time LSTM": relatives,
    "MGU": mgus,
    "RG-LRU": rg_lrus,
    "Convolutional LSTM": conv_lstms,
}


def executed(function):
    """Returns ``file:number`` of every line of the package that a call runs, with nothing taken from a cache."""
    jax.clear_caches()
    lines = set()

    def trace(frame, event, argument):
        path = frame.f_code.co_filename
        if not path.startswith(str(PACKAGE)):
            return None
        if event == "line":
            lines.add(f"{Path(path).relative_to(PACKAGE).as_posix()}:{frame.f_lineno}")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return lines


def test_every_section_with_lines_has_a_call():
    assert {title for title, text in SECTIONS.items() if targets(text)} == set(CALLS)


@pytest.mark.parametrize("title", CALLS)
def test_every_line_is_executed_by_the_call_it_explains(title, locate):
    lines = executed(CALLS[title])
    found = {target: locate(target) for target in targets(SECTIONS[title])}
    assert len(found) > 2, f"{title!r} of docs/equations.md names {len(found)} lines: name three at least"
    assert [target for target, line in found.items() if line not in lines] == []


def test_a_line_that_is_not_executed_is_noticed(locate):
    assert locate("norms/core/moments.py: def merge(") not in executed(lambda: jn.layer_norm(jnp.ones((2, 3))))


def test_a_line_that_does_not_exist_is_refused(locate):
    with pytest.raises(LookupError, match="0 lines"):
        locate("cells/lstm.py: no such equation")
