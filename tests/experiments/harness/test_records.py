import pytest

from experiments.harness.errors import BadInput
from experiments.harness.records import Records, Run


def run(seed, arm="LN-LSTM"):
    return Run(claim="c", arm=arm, scale="small", phase="final", rate=0.01, seed=seed, steps=2,
               curve={"step": [0, 2], "valid_x": [1.5, None]}, test={"test_x": 1.25}, made_by={"jax": "1"})  # fmt: skip


def test_records_come_back_as_they_were(tmp_path):
    records = Records(tmp_path, "c")
    assert not records.exist()
    for made in (run(0), run(1), run(0, "LSTM")):
        records.add(made)
    assert records.runs(["LSTM", "LN-LSTM", "other"]) == [run(0, "LSTM"), run(0), run(1)]
    assert sorted(r.arm for r in records.runs()) == ["LN-LSTM", "LN-LSTM", "LSTM"]


def test_a_line_that_was_cut_short_does_not_count_and_is_dropped(tmp_path):
    records = Records(tmp_path, "c")
    records.add(run(0))
    records.add(run(1))
    file = tmp_path / "c" / "records" / "LN-LSTM.jsonl"
    file.write_text(file.read_text()[:-40])
    assert records.runs() == [run(0)]
    records.repair("LN-LSTM")
    records.add(run(2))
    assert records.runs() == [run(0), run(2)]


def test_a_line_that_is_no_record_is_named(tmp_path):
    records = Records(tmp_path, "c")
    records.add(run(0))
    file = tmp_path / "c" / "records" / "LN-LSTM.jsonl"
    file.write_text("{}\n" + file.read_text())
    with pytest.raises(BadInput, match=r"LN-LSTM.jsonl, line 1: not a record"):
        records.runs()
