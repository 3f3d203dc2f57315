"""The command line: what is installed, and where to read."""

from pathlib import Path

import jax
import pytest

import jaxnorm
from jaxnorm import __main__ as command_line


def test_info_names_versions_devices_contents_and_the_documentation(capsys):
    command_line.main(["info"])
    printed = capsys.readouterr().out
    assert f"jaxnorm {jaxnorm.__version__}, in {Path(jaxnorm.__file__).parent}" in printed
    assert f"jax {jax.__version__}" in printed
    assert str(jax.devices()[0]) in printed
    assert str(Path(__file__).parents[2] / "docs") in printed
    for line in ("models by name: bn_lstm", "wrappers: DropConnect", "weight normalizers: SpectralNorm"):
        assert line in printed


def test_every_spec_and_preset_of_the_core_has_a_kind():
    listed = {name for names in command_line.contents().values() for name in names}
    assert {"LSTM", "ln_lstm", "Zoneout", "Reparametrized", "Identity", "WeightNorm"} <= listed
    specs = {name for name in jaxnorm.__all__ if hasattr(getattr(jaxnorm, name), "__dataclass_fields__")}
    assert specs <= listed
    assert not {"unroll", "layer_norm", "Moments"} & listed


def test_a_command_that_there_is_not_is_refused(capsys):
    with pytest.raises(SystemExit):
        command_line.main(["inform"])
    assert "invalid choice: 'inform'" in capsys.readouterr().err


def test_without_the_pages_docstrings_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(jaxnorm, "__file__", str(tmp_path / "jaxnorm" / "__init__.py"))
    assert command_line.documentation().startswith("help(jaxnorm.unroll)")
