"""The example char_lm.py, run in this process."""

import jax
import pytest

from tests.examples.char_lm_runs import TEXT, TINY


@pytest.fixture(scope="session")
def char_lm():
    """The program; skipped where its libraries are missing."""
    for library in ("orbax.checkpoint", "rich"):
        pytest.importorskip(library, reason=f"the example needs {library}: pip install jaxnorm[examples]")
    import char_lm

    return char_lm


@pytest.fixture(scope="module", autouse=True)
def promotion_that_optax_can_take():
    """optax.adam raises a float to an integer power, which the suite's strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def refused(char_lm, capsys):
    """Runs the program in this process and returns the one line with which it refuses."""

    def run(*argv: object) -> str:
        assert char_lm.main([str(word) for word in argv]) == 2
        out, err = capsys.readouterr()
        assert err.count("\n") == 1, err
        assert "Traceback" not in out + err
        return err

    return run


@pytest.fixture(scope="session")
def whole_run(char_lm, tmp_path_factory):
    """One uninterrupted run of a few steps: its options and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    argv = ["--smoke", "--models", "bn_lstm", *TINY, "--sweep-steps", "5", "--steps", "40", "--checkpoint-every", "10",
            "--eval-every", "15", "--data", str(folder / "text.txt")]  # fmt: skip
    with jax.numpy_dtype_promotion("standard"):
        assert char_lm.main([*argv, "--out", str(folder / "out")]) == 0
    return argv, folder / "out"
