"""What ``make docs`` checks of the built site, and what the programs beside it make."""

import re
import shutil

import pytest

from tests.tools.docs import DOCS, EXTENSIONS, load

SITE = DOCS / "_build" / "html"


@pytest.fixture(scope="module")
def checks():
    return load("site_checks", EXTENSIONS)


@pytest.fixture
def site(tmp_path):
    (tmp_path / "api").mkdir()
    (tmp_path / "site.css").write_text("a { background: url(picture.png) }")
    (tmp_path / "picture.png").touch()
    head = '<link rel="stylesheet" href="site.css"><script src="data:,"></script>'
    text = '<a href="api/flax.html#RNN">x</a><a href="https://arxiv.org">a paper</a><a href="#here" id="here">y</a>'
    (tmp_path / "index.html").write_text(f"{head}{text}")
    (tmp_path / "api" / "flax.html").write_text(
        '<dt id="RNN"><a href="../index.html">home</a> <img src="../picture.png">'
    )
    return tmp_path


def test_a_sound_site_has_no_fault(checks, site):
    assert checks.faults(site) == []


@pytest.mark.parametrize(
    ("planted", "fault"),
    [
        (
            '<script src="https://a.org/mathjax.js">',
            "loads https://a.org/mathjax.js from another host",
        ),
        (
            '<link rel="stylesheet" href="//a.org/a.css">',
            "loads //a.org/a.css from another host",
        ),
        ('<img src="https://a.org/badge.svg">', "loads https://a.org/badge.svg from another host"),
        ('<p style="background: url(https://a.org/a.png)">', "loads https://a.org/a.png from another host"),
        ("<style>@import 'https://a.org/a.css'</style>", "loads https://a.org/a.css from another host"),
        ('<a href="api/gone.html">', "there is no api/gone.html"),
        ('<a href="api/flax.html#gone">', "there is no place api/flax.html#gone"),
        ('<a href="../outside.html">', "there is no ../outside.html"),
        ('<img src="gone.png">', "there is no gone.png"),
    ],
)
def test_a_planted_fault_is_found(checks, site, planted, fault):
    (site / "planted.html").write_text(planted)
    assert checks.faults(site) == [f"planted.html: {fault}"]


def test_a_font_of_another_host_is_found(checks, site):
    (site / "site.css").write_text("@font-face { src: url('https://fonts.example.org/a.woff2') }")
    assert checks.faults(site) == ["site.css: loads https://fonts.example.org/a.woff2 from another host"]


# ---- in a browser


@pytest.fixture(scope="module")
def look():
    found = load("look", EXTENSIONS)
    if found.find() is None:
        pytest.skip(found.MISSING)
    return found


@pytest.fixture(scope="module")
def built():
    if not (SITE / "index.html").exists():
        pytest.skip("there is no docs/_build/html: run make docs")
    return SITE


@pytest.mark.heavy
def test_ten_pages_look_as_they_should(look, built, tmp_path):
    assert look.look(built, tmp_path) == []
    assert len(list(tmp_path.glob("*.png"))) == 2 * len(look.PAGES)


@pytest.mark.heavy
def test_a_browser_notices_a_planted_fault(look, built, tmp_path):
    copy = shutil.copytree(built, tmp_path / "site", ignore=shutil.ignore_patterns("_modules", "design"))
    wide = "<article><table style='width: 3000px'><tr><td>wide</table><img src='http://example.org/a.png'>"
    text = (copy / "equations.html").read_text().replace("mathjax/tex-svg.js", "gone.js")
    (copy / "equations.html").write_text(text.replace("<article", f"{wide}<article", 1))
    found = "\n".join(look.look(copy, pages=("equations",)))
    for fault in ("shows 0 of", "asks for http://example.org/a.png", "1 tables that are cut off", "pixels more than"):
        assert fault in found


# ---- pages that are written


def extension(name):
    """A module of the site that needs Sphinx."""
    pytest.importorskip("sphinx", reason="sphinx is not installed: make docs installs it")
    return load(name, EXTENSIONS)


def test_every_program_has_a_page_with_its_commands_and_its_code():
    pages = load("example_pages", EXTENSIONS)
    programs = {path.name: path for path in pages.programs()}
    assert {"char_lm.py", "nnx_classifier.py", "weight_decay.py"} <= set(programs)
    assert "classifier_support.py" not in programs
    text = pages.page(programs["nnx_classifier.py"])
    assert text.startswith("# nnx_classifier.py\n\nClassifies images of digits")
    assert "```sh\npython examples/nnx_classifier.py " in text
    assert text.count("```{literalinclude}") == 2
    assert "## classifier_support.py" in text
    assert all(f"[{name}]" in pages.index(list(programs.values())) for name in programs)


def test_a_new_program_needs_no_work(tmp_path, monkeypatch):
    pages = load("example_pages", EXTENSIONS)
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    main = 'if __name__ == "__main__":\n    pass\n'
    (tmp_path / "new.py").write_text(f'"""Shows a thing.\n\n    python new.py\n"""\n{main}')
    (program,) = pages.programs(tmp_path)
    assert pages.page(program).startswith("# new.py\n\nShows a thing.\n\n```sh\npython new.py\n```")


def test_names_in_tables_are_those_of_the_reference():
    names = extension("public_names")
    targets = names.targets()
    assert targets["ln_lstm"] == "jaxnorm.ln_lstm"
    assert targets["MGU"] == targets["zoo.MGU"] == "jaxnorm.zoo.MGU"
    assert targets["Reparametrized"] == "jaxnorm.Reparametrized"
    assert targets["linen.RNN"] == "jaxnorm.linen.RNN"
    assert targets["convert.torch"] == "jaxnorm.convert.torch"
    assert "project_weights" in names.names("optim")
    assert not {"step", "vector"} & set(targets)


def test_every_name_of_flax_and_of_the_initializers_has_an_entry():
    names = extension("public_names")
    text = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    lines = set(text.splitlines())
    for space in ("linen", "nnx", "initializers", "optim", "analysis"):
        for name in names.names(space):
            kinds = ("function", "class")
            assert {f".. auto{kind}:: jaxnorm.{space}.{name}" for kind in kinds} & lines, f"{space}.{name}"


def test_signatures_are_those_of_constructors():
    signatures = extension("signatures")
    import jaxnorm
    import jaxnorm.linen
    import jaxnorm.nnx

    for kind in (jaxnorm.LSTM, jaxnorm.LayerNorm, jaxnorm.linen.RNN, jaxnorm.nnx.RNN, jaxnorm.nnx.Reparametrized):
        shown = signatures.on_signature(None, "class", "", kind, None, "(*args: Any, **kwargs: Any)", None)[0]
        assert "*args" not in shown
        assert "parent" not in shown
        assert "<" not in shown, "functions are shown by their names"


def test_types_have_the_names_of_their_aliases():
    signatures = extension("signatures")
    from sphinx.util.typing import stringify_annotation

    from jaxnorm._base import typing as aliases

    union = stringify_annotation(aliases.PRNGKeyArray, "smart")  # what it is a union of changes with jaxtyping
    assert "|" in union
    found = signatures.on_signature(None, "function", "", None, None, f"(key: {union}, x: jax.jaxlib._jax.Array)", None)
    assert found == ("(key: PRNGKeyArray, x: Array)", None)


def test_fields_of_one_letter_and_first_sentences_with_a_colon_stay_whole():
    signatures = extension("signatures")
    initials = ["    J. L. Ba", ":param x: I."]
    signatures.after_napoleon(None, "function", "", None, None, initials)
    assert initials == [r"    \J. L. Ba", r":param x: \I."]
    lines = [":ivar hidden_features: H.", ":vartype hidden_features: jaxnorm.norms.base.Normalizer"]
    signatures.after_napoleon(None, "class", "", None, None, lines)
    assert lines == [r":ivar hidden_features: \H.", ":vartype hidden_features: ~jaxnorm.norms.base.Normalizer"]
    sentence = ["1: there are no running statistics."]
    signatures.before_napoleon(None, "property", "", None, None, sentence)
    assert sentence[0] == ""


FIRST_LINE = re.compile(r"^( *)Returns:\n\1  (.*)$", re.MULTILINE)


def colons(text):
    """First lines of ``Returns`` with a colon outside of code: the site would show what stands before it as a type."""
    lines = (match[2] for match in FIRST_LINE.finditer(text))
    return [line for line in lines if re.search(r":(\s|$)", re.sub(r"``[^`]*``|:\w+:`[^`]*`", "", line))]


def test_no_result_is_described_as_a_type():
    assert colons("    Returns:\n      The carry: two arrays.\n") == ["The carry: two arrays."]
    files = sorted((DOCS.parent / "jaxnorm").rglob("*.py"))
    assert [(path.name, found) for path in files if (found := colons(path.read_text(encoding="utf-8")))] == []


def test_entries_lead_to_the_lines_of_their_items():
    pages = extension("source_pages")
    for name, text in (
        ("ln_lstm", "def ln_lstm("),
        ("LSTM", "@final"),
        ("LSTM.step", "def step("),
        ("LSTM.out_features", "@property"),
        ("initializers.eye", "def eye("),
        ("nnx.RNN.set_view", "def set_view("),
        ("convert.torch.load", "def load("),
    ):
        file, _, number = pages.line_of(f"jaxnorm.{name}").partition(":")
        lines = (pages.PACKAGE / file).read_text(encoding="utf-8").splitlines()
        assert text in "\n".join(lines[int(number) - 1 : int(number) + 3]), name
    assert pages.line_of("jaxnorm.LSTM.hidden_features") is None
