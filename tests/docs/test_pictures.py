"""The pictures of the documentation: complete, true to the cells, and legible."""

import itertools
import re
import types

import jax
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

import jaxnorm as jn
from jaxnorm.cells.wrappers.base import CellWrapper
from tests.tools.docs import DOCS, EXTENSIONS, load

cells, style, every = (load(f"pictures.{name}", EXTENSIONS) for name in ("cells", "style", "all"))
ALL = {**cells.CELLS, **cells.PRESETS, **cells.WIRINGS}
PAGE = (DOCS / "gallery.md").read_text(encoding="utf-8")
SHOWN = re.compile(r"^```\{picture\} (.*)$", re.MULTILINE)


def drawn(name, theme=style.LIGHT):
    with style.drawn_for(theme):
        diagram = cells.diagram(name, theme)
        diagram.figure.draw_without_rendering()
    return diagram


def texts(diagram):
    return [text for text in diagram.axes.texts if text.get_text()]


def words(diagram):
    return [text.get_text() for text in texts(diagram)]


def box(text):
    """Where a text is, in points."""
    found = text.get_window_extent()
    scale = 72 / text.get_figure().dpi
    return found.x0 * scale, found.y0 * scale, found.x1 * scale, found.y1 * scale


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


# ---- nothing is missing


def core():
    """The cells and presets of the core, by name; not what wraps another cell, nor the cell of a user's function."""
    public = load("cell_table", EXTENSIONS).public_cells()
    found = {name: getattr(jn, name) for name in public if name in jn.__all__}
    return {
        name: value for name, value in found.items() if not (isinstance(value, type) and issubclass(value, CellWrapper))
    }


def test_every_cell_and_preset_of_the_core_has_a_diagram():
    classes = {value for value in core().values() if isinstance(value, type)}
    presets = {name for name, value in core().items() if not isinstance(value, type)}
    assert {type(cell) for cell in cells.CELLS.values()} == classes
    assert len(classes) >= 3
    assert set(cells.PRESETS) == presets
    for name, cell in cells.PRESETS.items():
        assert cell == getattr(jn, name)(cells.H, **({"max_steps": 2} if name == "bn_lstm" else {})), name


@pytest.mark.parametrize("kind", [jn.LSTM, jn.GRU, jn.Elman])
def test_every_site_and_gate_of_a_cell_is_in_its_diagrams(kind):
    diagrams = [drawn(name) for name, cell in cells.CELLS.items() if type(cell) is kind]
    written = {word for diagram in diagrams for word in words(diagram)}
    assert {*kind.default_sites, *kind.optional_sites} <= written
    assert {"input", "recurrent"} <= written
    for diagram in diagrams:
        assert max(1, len(diagram.gates)) == diagram.cell.gate_count  # what Elman adds up has no name
        for state in kind.carry_type._fields:
            assert {f"${state}_t$", f"${state}_{{t-1}}$"} <= set(words(diagram))


@pytest.mark.parametrize("name", [*cells.PRESETS, *cells.WIRINGS])
def test_a_diagram_of_a_preset_shows_its_normalizers(name):
    cell, found = ALL[name], words(drawn(name))
    held = [norm for norm in cell.sites if norm != jn.Identity()]
    short = {jn.LayerNorm: "LN", jn.RMSNorm: "RMS", jn.BatchNorm: "BN"}
    for kind, text in short.items():
        assert found.count(text) == sum(type(norm) is kind for norm in held), text
    assert not any(word.startswith("$N_") for word in found), "no site of a preset is free"
    places = 2 if getattr(cell, "bias_at", "") == "both" else 1
    assert found.count("$b$") == places * cell.use_bias


@pytest.mark.parametrize(
    ("name", "field", "value", "what"),
    [
        ("lstm_cell", "optional_sites", ("summed", "projection"), "the sites"),
        ("lstm_cell", "optional_sites", (), "the sites"),
        ("gru_cell", "gate_count", 4, "4 gates"),
        ("elman_cell", "carry_type", jn.LSTMCarry, "entries of the carry"),
        ("dreamer_v3_gru", "default_sites", ("input", "recurrent"), "the sites"),
        ("dreamer_v3_gru", "gate_count", 2, "2 gates"),
    ],
)
def test_a_cell_that_declares_something_else_breaks_the_build(monkeypatch, name, field, value, what):
    monkeypatch.setattr(type(ALL[name]), field, value)
    with pytest.raises(ValueError, match=what):
        drawn(name)


def test_the_gru_of_dreamer_v3_normalizes_x_and_h_before_their_product():
    diagram = drawn("dreamer_v3_gru")
    parts = {text.get_text(): node for node, text in diagram.nodes}
    row = [parts[text] for text in ("$[x, h]$", "RMS", "$K$")]
    for one, other in itertools.pairwise(row):
        assert ((one.x + one.w, one.y), (other.x - other.w, other.y)) in diagram.segments
    assert not {"$W$", "$U$"} & set(parts)
    assert "over I + H" in words(diagram)
    assert "x and h together before the product" in every.PICTURES["dreamer_v3_gru"].alt
    assert diagram.cell.init(jax.random.key(0), in_features=5).norm.input.scale.shape == (5 + cells.H,)


def test_the_gallery_shows_every_picture_and_pages_show_pictures_that_exist():
    on_the_page = {name for line in SHOWN.findall(PAGE) for name in line.split()}
    assert set(every.PICTURES) == on_the_page
    for page in DOCS.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        shown = {name for line in SHOWN.findall(text) for name in line.split()}
        assert shown <= set(every.PICTURES), page.name


def test_words_say_what_the_pictures_show():
    for name, cell in ALL.items():
        for site, norm in cell.sites._asdict().items():
            if norm != jn.Identity():
                assert f"{type(norm).__name__} at {site}" in every.PICTURES[name].alt
    assert "sites input, recurrent, cell and summed" in every.PICTURES["lstm_cell"].alt
    assert "no site has a normalizer" in every.PICTURES["gru"].alt
    names = [name.replace("_", " ") for name in load("pictures.measured", EXTENSIONS).NAMES]
    assert len(names) == 17
    assert all(name in every.PICTURES["verdicts"].alt for name in names)


def test_speed_and_memory_are_those_of_the_run_on_the_page():
    page = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    assert f"benchmarks/results/{load('pictures.measured', EXTENSIONS).SPEED.name}/results.md" in page


# ---- legible


@pytest.mark.parametrize("name", ALL)
def test_no_text_lies_over_another_or_over_a_wire(name):
    diagram = drawn(name)
    boxes = [(text.get_text(), box(text)) for text in texts(diagram)]
    width, height = (72 * size for size in diagram.figure.get_size_inches())
    for text, (left, bottom, right, top) in boxes:
        assert 0 <= left < right <= width, text
        assert 0 <= bottom < top <= height, text
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert not overlap(a, b), (one, other)
    for (x0, y0), (x1, y1) in diagram.segments:
        wire = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
        assert [text for text, found in boxes if overlap(found, wire)] == [], wire


@pytest.mark.parametrize("name", ALL)
def test_parts_hold_their_text_and_keep_apart(name):
    diagram = drawn(name)
    for node, text in diagram.nodes:
        left, bottom, right, top = box(text)
        assert node.x - node.w <= left < right <= node.x + node.w, text.get_text()
        assert node.y - node.h <= bottom < top <= node.y + node.h, text.get_text()
    for (a, one), (b, other) in itertools.combinations(diagram.nodes, 2):
        sides = [(n.x - n.w, n.y - n.h, n.x + n.w, n.y + n.h) for n in (a, b)]
        assert not overlap(*sides), (one.get_text(), other.get_text())


def luminance(color):
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a, b):
    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("theme", "page"), [(style.LIGHT, "#ffffff"), (style.DARK, "#121212")])
def test_texts_stand_out_on_light_and_on_dark_pages(theme, page):
    pairs = [(theme.ink, page), (theme.muted, page), (theme.muted, theme.band), (theme.site[1], page)]
    pairs += [(theme.site[1], theme.band), theme.filled, *((theme.ink, fill) for fill, _ in theme[4:7])]
    for one, other in pairs:
        assert contrast(one, other) >= 4.5, (one, other)  # what WCAG asks of text
    for edge in (theme.kernel[1], theme.function[1], theme.site[1], *theme.series):
        assert contrast(edge, page) >= 3  # and of what is not text
    forest = load("pictures.measured", EXTENSIONS).forest
    for color in (forest.AS_CLAIMED, forest.NOT_AS_CLAIMED, forest.OPEN):
        assert contrast(color, page) >= 4, color  # one color for both pages


# ---- through time


@pytest.mark.long
def test_normalized_cells_keep_their_gradients_when_the_recurrent_kernel_grows():
    runs = load("pictures.through_time", EXTENSIONS).runs()
    first = {name: [float(one.gradients[0]) for one in found.values()] for name, found in runs.items()}
    for name in ("LN-LSTM", "BN-LSTM"):
        assert max(first[name]) < 4 * min(first[name]), name
    for name in ("LSTM", "GRU"):
        assert max(first[name]) > 1e10 * min(first[name]), name
    for found in runs.values():
        assert all(float(one.gradients[-1]) == pytest.approx(1, rel=1e-5) for one in found.values())


# ---- the extension


@pytest.fixture
def site(monkeypatch):
    pytest.importorskip("sphinx", reason="sphinx is not installed: make docs installs it")
    found = load("pictures.site", EXTENSIONS)
    monkeypatch.setattr(found, "PICTURES", {name: every.PICTURES[name] for name in ("elman", "ln_rnn")})
    return found


def test_a_build_writes_two_files_a_picture_and_touches_no_more(site, tmp_path):
    app = types.SimpleNamespace(srcdir=tmp_path)
    site.write(app, None)
    files = sorted((tmp_path / site.FOLDER).iterdir())
    assert [file.name for file in files] == [f"{n}-{t}.svg" for n in ("elman", "ln_rnn") for t in ("dark", "light")]
    assert len({file.read_bytes() for file in files}) == 4
    (tmp_path / site.FOLDER / "gone-light.svg").touch()
    before = [file.stat().st_mtime_ns for file in files]
    site.write(app, None)
    assert sorted((tmp_path / site.FOLDER).iterdir()) == files
    assert [file.stat().st_mtime_ns for file in files] == before
