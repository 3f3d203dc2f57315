"""The best learning rate, the rates that work, the band over seeds, and the table and pictures made of them."""

import io
import math

import numpy as np
import pytest

from tests.examples.char_lm_runs import EXAMPLES  # noqa: F401 - makes the example's modules known

RATES = [0.01, 0.02, 0.04, 0.08]
DEFAULT_MODELS = ["lstm", "ln_lstm", "ln_gru", "bn_lstm"]


def records(model, bits, seconds=1.0):
    return [{"model": model, "step": 50 * (k + 1), "seconds": seconds * (k + 1), "valid_bpc": value, "train_bpc": value}
            for k, value in enumerate(bits)]  # fmt: skip


def write_runs(folder, model, swept, seeds):
    """Files as training leaves them."""
    from char_lm_support.run_folder import Run

    for rate, bits in swept.items():
        folder.finish(model, Run(rate), {"records": records(model, [bits]), "compile_seconds": 2.0})
    for seed, bits in enumerate(seeds):
        curve = records(model, bits, seconds=1.0 + seed)
        final = curve[-1] | {"kind": "final", "parameters": 1_118_376, "ms_per_step": 1017.2, "memory_mib": 1310.4,
                             "test_bpc": 2.5, "population_bpc": 2.25}  # fmt: skip
        result = {"records": curve, "final": final, "sample": f"text {seed}", "compile_seconds": 3.0}
        folder.finish(model, Run(0.5, seed), result)


@pytest.fixture
def opened(char_lm, tmp_path):
    """Options and an empty folder."""
    words = ["--out", str(tmp_path / "out"), "--models", *DEFAULT_MODELS, "--learning-rates", *map(str, RATES)]
    args = char_lm.options.parse(words)
    return args, char_lm.RunFolder(args, "of the text")


@pytest.fixture
def summaries(char_lm, opened):
    """Four models, each with its own best rate, and three seeds."""
    args, folder = opened
    for k, model in enumerate(args.models):
        swept = {rate: 2.0 + 0.25 * abs(k - place) for place, rate in enumerate(RATES)}
        write_runs(folder, model, swept, [[3.0, 2.0], [3.5, 2.25], [4.0, 2.75]])
    return [char_lm.summarize(model, args, folder) for model in args.models]


def test_each_model_has_its_own_best_rate(summaries):
    assert [found.rate for found in summaries] == RATES
    assert [found.title for found in summaries][:2] == ["lstm at 0.01", "ln_lstm at 0.02"]


@pytest.mark.parametrize(
    ("swept", "low", "high", "is_open"),
    [
        ({1.0: 3.0, 2.0: 2.0, 4.0: 2.2}, 2.0 * 2**-0.1, 2.0 * 2**0.5, False),
        ({1.0: 2.05, 2.0: 2.0, 4.0: 2.2}, 1.0, 2.0 * 2**0.5, True),
        ({1.0: 2.0, 2.0: 2.05, 4.0: 2.1, 8.0: 2.3}, 1.0, 4.0, True),
        ({1.0: 2.3, 2.0: 2.0, 4.0: math.inf}, 2.0 * 2 ** (-1 / 3), 2.0, False),
        ({1.0: 2.01, 2.0: 2.5, 4.0: 2.0, 8.0: 3.0}, 4.0 * 2**-0.2, 4.0 * 2**0.1, False),
        ({1.0: 2.0}, 1.0, 1.0, True),
    ],
    ids=["inside", "to the left end", "best at an end", "diverges at once", "a second valley", "one rate"],
)
def test_the_rates_that_work(char_lm, swept, low, high, is_open):
    """A range around the best rate, 0.1 bit wide, interpolated on the axis of octaves."""
    from char_lm_support.summary import working_range

    found = working_range(swept)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.open == is_open
    assert found.octaves == pytest.approx(math.log2(high / low))
    assert found.describe().startswith(">") == is_open


def test_a_rate_where_training_diverges_is_not_chosen(char_lm):
    from char_lm_support.summary import best_rate, swept_bits

    def ended(bits):
        return {"records": [{"valid_bpc": bits}]}

    swept = swept_bits({0.1: ended(2.5), 0.2: ended(2.0), 0.4: ended(None)})
    assert swept == {0.1: 2.5, 0.2: 2.0, 0.4: math.inf}
    assert best_rate(swept) == 0.2
    assert best_rate({0.1: 2.0, 0.2: 2.0}) == 0.1


def test_a_band_goes_as_far_as_all_seeds(char_lm):
    from char_lm_support.summary import band

    found = band([records("lstm", [5.0, 4.0, 3.0]), records("lstm", [6.0, None], seconds=2.0)])
    np.testing.assert_array_equal(found.steps, [50, 100])
    np.testing.assert_allclose(found.seconds, [1.5, 3.0])
    np.testing.assert_array_equal(found.mean, [5.5, np.nan])
    np.testing.assert_array_equal((found.low[0], found.high[0]), (5.0, 6.0))


def test_a_model_without_all_its_runs_has_no_summary(char_lm, opened):
    args, folder = opened
    write_runs(folder, "lstm", dict.fromkeys(RATES, 2.0), [[2.0], [2.0]])
    assert char_lm.summarize("lstm", args, folder) is None


@pytest.mark.parametrize("longest", ["bn_lstm", "bounded_weight_norm_lstm"])
def test_the_table_reads_at_80_columns(char_lm, summaries, longest):
    """With every column there is: no head is cut or broken, no figure either."""
    from rich.console import Console

    shown = io.StringIO()
    rows = [*summaries[:3], summaries[3]._replace(model=longest)]
    Console(width=80, file=shown).print(char_lm.report.table(rows))
    written = shown.getvalue()
    assert all(len(line) <= 80 for line in written.splitlines())
    assert "…" not in written
    heads = ["model", "meters", "best", "octaves", "within", "0.1 bit", "valid", "range", "over", "seeds",
             "lation", "test", "ms a", "compile", "MiB a"]  # fmt: skip
    assert [head for head in heads if head not in written] == []
    for figure in ("ln_gru", "1,118,376", "0.08", "0.8", ">0.4", "2.333", "0.750", "2.250", "2.500", "1017.2", "17",
                   "1310.4"):  # fmt: skip
        assert figure in written, figure


def test_the_table_has_no_column_of_dashes_and_one_dash_where_there_is_nothing_to_say(char_lm, summaries):
    def without(found):
        finals = [{k: v for k, v in final.items() if k != "population_bpc"} for final in found.finals]
        return found._replace(finals=finals)

    plain = char_lm.report.table([without(summaries[0])])
    both = char_lm.report.table([without(summaries[0]), summaries[1]])
    assert len(both.columns) == len(plain.columns) + 1
    column = next(column for column in both.columns if str(column.header).startswith("popu"))
    assert list(column.cells) == ["-", "2.250"]


def test_the_curves_show_mean_band_rate_and_number_of_seeds(char_lm, summaries):
    figure = char_lm.pictures.curves(summaries, "a text")
    assert "3 seeds" in figure.get_suptitle()
    steps, seconds = figure.axes
    for panel, places in ((steps, [50, 100]), (seconds, [2.0, 4.0])):
        assert len(panel.lines) == len(panel.collections) == 4
        np.testing.assert_allclose(panel.lines[0].get_xdata(), places)
        np.testing.assert_allclose(panel.lines[0].get_ydata(), [3.5, 7 / 3])
        corners = {(places[0], 3.0), (places[0], 4.0), (places[1], 2.0), (places[1], 2.75)}
        assert {tuple(point) for point in panel.collections[0].get_paths()[0].vertices} >= corners
    legend = [text.get_text() for text in seconds.get_legend().get_texts()]
    assert legend == ["lstm at 0.01", "ln_lstm at 0.02", "ln_gru at 0.04", "bn_lstm at 0.08"]


def test_the_rates_show_the_sweep_and_its_width(char_lm, summaries, tmp_path):
    figure = char_lm.pictures.rates(summaries, "a text")
    (panel,) = figure.axes
    curve, working = panel.lines[2:4]
    np.testing.assert_allclose(curve.get_xdata(), RATES)
    np.testing.assert_allclose(curve.get_ydata(), [2.25, 2.0, 2.25, 2.5])
    np.testing.assert_allclose(working.get_xdata(), [0.02 * 2**-0.4, 0.02, 0.02 * 2**0.4])
    np.testing.assert_allclose(working.get_ydata(), [2.1, 2.0, 2.1])
    legend = [text.get_text() for text in panel.get_legend().get_texts()]
    assert legend == ["lstm: >0.4 octaves", "ln_lstm: 0.8 octaves", "ln_gru: 0.8 octaves", "bn_lstm: >0.4 octaves"]
    char_lm.pictures.save(figure, tmp_path / "rates.png.tmp")
    assert (tmp_path / "rates.png.tmp").read_bytes().startswith(b"\x89PNG")


def test_pictures_of_models_that_diverge(char_lm, summaries):
    """Everything is drawn that is a number, and nothing else."""
    lost = summaries[1]._replace(swept=dict.fromkeys(RATES, math.inf))
    some = summaries[2]._replace(swept={**summaries[2].swept, 0.08: math.inf})
    (panel,) = char_lm.pictures.rates([summaries[0], lost, some], "a text").axes
    assert np.isnan(panel.lines[2].get_ydata()).all()
    assert np.isnan(panel.lines[4].get_ydata()).tolist() == [False, False, False, True]
    char_lm.pictures.rates([lost], "a text")
