"""The table of docs/cells.md: complete, up to date, derived from the cells; docs/ln_lstm.md says what presets are."""

import re

import jax
import pytest

import jaxnorm as jn
from tests import cases
from tests.tools.docs import DOCS, EXTENSIONS, load

ADVICE = "add one line for each to docs/_ext/cell_entries.py and run: make tables"


@pytest.fixture(scope="module")
def table():
    return load("cell_table", EXTENSIONS)


def test_every_public_cell_and_preset_has_an_entry(table):
    missing = table.missing_entries()
    assert missing == [], f"the table of docs/cells.md lacks {', '.join(missing)}: {ADVICE}"
    assert table.missing_entries(table.ENTRIES[1:]) == ["LSTM"]
    assert {"LSTM", "ln_gru", "Reparametrized"} <= set(table.public_cells())
    assert not {"Cell", "CellNorms", "LSTMParams", "unroll"} & set(table.public_cells())


def test_the_page_is_what_the_cells_say(table):
    text = table.PAGE.read_text(encoding="utf-8")
    assert text == table.page(text), "docs/cells.md is stale; run: make tables"


def test_every_entry_is_what_its_name_makes(table):
    for entry in table.ENTRIES:
        made = cases.PUBLIC[entry.name]
        assert type(entry.cell) is (made if isinstance(made, type) else type(entry.cell))
        assert not isinstance(made, type) or type(entry.cell).__name__ == entry.name
        assert table.ENTRIES.count(entry) == 1


def test_rows_are_derived(table):
    def cells(cell):
        return dict(zip(table.HEAD, table.row(table.ENTRIES[0]._replace(cell=cell)), strict=True))

    plain = cells(jn.lstm(8))
    assert plain["norms at"] == "[input], [recurrent], [cell], [summed]"
    assert (plain["carry"], plain["products"], plain["reductions"]) == ("c, h", "1", "0 + 0")
    layer = cells(jn.ln_lstm(8, gate_groups=(2, 2)))
    assert layer["norms at"] == "input LN, recurrent LN, cell LN"
    assert (layer["gates"], layer["reductions"]) == ("4, in 2 + 2", "2 + 5")
    assert cells(jn.bn_lstm(8, max_steps=2))["carry"] == "c, h, step"
    assert cells(jn.zoo.weight_norm_lstm(8))["norms at"] == plain["norms at"]
    with pytest.raises(ValueError, match=r"LSTM: .* holds a vertical bar"):
        table.row(table.ENTRIES[0]._replace(equation="|x|"))


# ---- the page on LN-LSTMs

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (DOCS / "ln_lstm.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| `\w+(lstm|gru)`", line)
]


def epsilon_of(cell):
    (value,) = {norm.epsilon for norm in cell.sites if norm != jn.Identity()}
    return value


@pytest.mark.parametrize("cells", [row for row in ROWS if len(row) == 7], ids=lambda row: row[0])
def test_what_the_page_says_of_an_lstm_is_what_its_preset_is(cells, key):
    name, _, c_hat, carried, forget, epsilon, _ = cells
    cell = cases.PUBLIC[name.strip("`")](4)
    params = jax.eval_shape(lambda key: cell.init(key, 3), key)
    assert float(epsilon.split(",")[0]) == epsilon_of(cell)
    has_bias = params.bias is not None or cell.sites.summed != jn.Identity()
    bias = cell.bias_init if cell.forget_bias is None else cell.forget_bias
    assert forget == (f"{bias:g}" if has_bias and (bias or params.bias is not None) else "none")
    assert carried.startswith("raw") == (cell.carried_cell == "raw")
    assert ("within" in carried) == (cell.cell_clip is not None)
    assert (c_hat == "$LN(c_t)$") == (cell.sites.cell != jn.Identity() and cell.carried_cell == "raw")


@pytest.mark.parametrize("cells", [row for row in ROWS if len(row) == 6], ids=lambda row: row[0])
def test_what_the_page_says_of_a_gru_is_what_its_preset_is(cells):
    name, _, candidate, z, epsilon, _ = cells
    cell = cases.PUBLIC[name.strip("`")](4)
    assert float(epsilon) == epsilon_of(cell)
    assert z.startswith({"keep": "keeps", "renew": "renews"}[cell.update_gate])
    assert ("n_x" in candidate) == (cell.reset == "recurrent")


@pytest.mark.parametrize("cells", [row for row in ROWS if len(row) == 4], ids=lambda row: row[0])
def test_what_the_page_says_of_the_cost_is_what_a_step_does(cells, table):
    for name in re.findall(r"`(\w+)`", cells[0]):
        products, before, inside = table.work(cases.PUBLIC[name](4))
        assert products == 1
        assert sum(map(int, cells[3].split("+"))) == inside, name
        assert sum(map(int, re.findall(r"(\d) over", cells[1]))) == before, name


def test_the_page_has_every_preset_of_its_kind():
    named = {row[0].strip("`") for row in ROWS if len(row) in (6, 7)}
    costs = {name for row in ROWS if len(row) == 4 for name in re.findall(r"`(\w+)`", row[0])}
    kinds = {name for name in cases.PUBLIC if re.fullmatch(r"(\w+_)?ln_(lstm|gru)|dreamer_gru", name)}
    lacking = {"side by side": sorted(kinds - named), "by cost": sorted(kinds - costs)}
    assert named == costs == kinds, f"the tables of docs/ln_lstm.md lack {lacking}: add a row to each"
