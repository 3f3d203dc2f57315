"""The table of docs/normalizers.md: complete, up to date, and derived from the specs."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import pytest

import jaxnorm as jn
from tests.tools.docs import EXTENSIONS, load

ADVICE = "add one line for each to docs/_ext/normalizer_entries.py and run: make tables"


@pytest.fixture(scope="module")
def table():
    return load("normalizer_table", EXTENSIONS)


def test_every_public_spec_has_an_entry(table):
    missing = table.missing_entries()
    assert missing == [], f"the table of docs/normalizers.md lacks {', '.join(missing)}: {ADVICE}"
    assert table.missing_entries(table.ENTRIES[1:]) == ["LayerNorm"]


def test_the_page_is_what_the_specs_say(table):
    text = table.PAGE.read_text(encoding="utf-8")
    assert text == table.page(text), "docs/normalizers.md is stale; run: make tables"


def test_rows_are_derived(table):
    entry = table.ENTRIES[0]
    cells = dict(zip(table.HEAD, table.row(entry._replace(spec=jn.BatchNorm(epsilon=1e-12))), strict=True))
    assert cells["name"] == "`BatchNorm`"
    assert cells["state"] == "mean, var, count"
    assert cells["train = test"] == "no"
    assert cells["invariant to"] == "W w X Xc"
    assert dict(zip(table.HEAD, table.row(entry), strict=True))["invariant to"] == "W Wc X x"
    with pytest.raises(ValueError, match=r"LayerNorm: .* holds a vertical bar"):
        table.row(entry._replace(equation="|x|"))


class Weights(NamedTuple):
    kernel: Any
    scale: Any


class Unit:
    """A spec that makes kernels: each unit at a length that is kept beside the kernel."""

    def init(self, kernel, key=None):
        return Weights(kernel, jnp.linalg.norm(kernel, axis=0, keepdims=True)), {"calls": jnp.zeros(())}

    def advance(self, params, state):
        return {"calls": state["calls"] + 1.0}

    def __call__(self, params, state=()):
        return params.scale * params.kernel / jnp.linalg.norm(params.kernel, axis=0, keepdims=True)


def test_specs_that_make_kernels(table):
    cells = dict(zip(table.HEAD, table.row(table.ENTRIES[0]._replace(spec=Unit())), strict=True))
    assert cells["state"] == "calls"
    assert cells["train = test"] == "no"
    assert cells["invariant to"] == "W w"  # the row of weight normalization in Table 1
