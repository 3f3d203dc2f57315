"""Options of presets: those of the cell, those of its normalizers, and both together."""

import inspect

import jax
import numpy as np
import pytest

import jaxnorm as jn
from tests.tools.annotations import no_annotation_checks

NORMALIZED = (jn.ln_rnn, jn.ln_lstm, jn.ln_gru, jn.rms_lstm, jn.rms_gru)
PUBLISHED = [
    preset
    for name, preset in vars(jn.zoo).items()
    if inspect.isfunction(preset) and {"epsilon", "options"} <= set(inspect.signature(preset).parameters)
]


@pytest.mark.parametrize("preset", NORMALIZED)
def test_a_scale_starts_all_gains(preset):
    assert preset(4) == preset(4, scale=1.0)
    gains = [site.scale for site in preset(4, scale=0.1).init(jax.random.key(0), 3).norm if site != ()]
    np.testing.assert_array_equal(np.concatenate(gains), np.float32(0.1))


@pytest.mark.parametrize("preset", [*NORMALIZED, jn.bn_lstm])
def test_every_preset_takes_max_steps_and_functions(preset):
    options = {} if preset is jn.ln_rnn else {"gate_fn": jax.nn.hard_sigmoid}
    cell = preset(4, max_steps=7, activation_fn=jax.nn.relu, **options)
    assert (cell.max_steps, cell.activation_fn) == (7, jax.nn.relu)


def test_the_functions_reach_the_cells_of_plain_presets():
    for preset in (jn.lstm, jn.gru):
        assert preset(4, gate_fn=jax.nn.hard_sigmoid).gate_fn is jax.nn.hard_sigmoid


@pytest.mark.parametrize("preset", [*NORMALIZED, jn.bn_lstm, *PUBLISHED], ids=lambda preset: preset.__name__)
def test_a_setting_beside_another_norm_is_refused(preset):
    rows = {"max_steps": 2} if "max_steps" in inspect.signature(preset).parameters else {}
    with (
        no_annotation_checks(),
        pytest.raises(ValueError, match=rf"^{preset.__name__}: norm .* so epsilon=0\.5 "),
    ):
        preset(8, epsilon=0.5, norm=jn.Identity(), **rows)
    assert preset(8, norm=jn.Identity(), **rows).norm == jn.CellNorms(*[jn.Identity()] * 5)


def test_all_lost_settings_are_named():
    with pytest.raises(ValueError, match=r"so epsilon=0\.5, scale=2\.0 would be lost"):
        jn.ln_gru(4, epsilon=0.5, scale=2.0, norm=jn.LayerNorm())
    with pytest.raises(ValueError, match=r"so momentum=None would be lost"):
        jn.bn_lstm(4, max_steps=2, momentum=None, norm=jn.LayerNorm())
