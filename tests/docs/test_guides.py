"""Guides are programs: pages with cells that run, listed in the index, and good to read as notebooks."""

import ast
import re
import sys

import pytest

from tests.tools.docs import DOCS, EXTENSIONS, load
from tests.tools.peers import import_peer, lenient

GUIDES = sorted((DOCS / "guides").glob("*.md"))
HEAD = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n\n# "
FENCE = re.compile(r"^(```+|~~~+|:::+)(.*)\n((?:.*\n)*?)\1$", re.MULTILINE)
LINES = 160


def faults(text):
    """What is wrong with the page of a guide."""
    found = [] if text.startswith(HEAD) else ["the head is not that of a guide"]
    blocks = [(kind.strip(), body) for _, kind, body in FENCE.findall(text)]
    cells = [body for kind, body in blocks if kind == "{code-cell}"]
    found += [] if cells else ["no cell runs"]
    found += [f"a notebook cannot show {kind}" for kind, _ in blocks if kind not in {"{code-cell}", "python", "sh"}]
    found += ["a cell is tagged" for body in cells if body.startswith((":", "---"))]
    found += ["a cell is no Python" for body in cells if not _parses(body)]
    found += ["examples with >>> are for other pages"] if re.search(r"^\s*>>>", text, re.MULTILINE) else []
    found += ["a picture from a file"] if "![" in text else []
    found += [f"no command installs {name}" for name in uninstalled(text)]
    found += ["too long for a guide"] if sum(body.count("\n") for body in cells) > LINES else []
    return found


# What `pip install .` brings, and the command for the rest.
INSTALLED = {"flax", "jax", "jaxnorm", "jaxtyping", "numpy", "optax"} | set(sys.stdlib_module_names)
COMMANDS = {
    "matplotlib": "'.[examples]'",
    "orbax": "'.[examples]'",
    "sklearn": "'.[examples]'",
    "jax2onnx": "'.[onnx]'",
    "haiku": "dm-haiku",
}


def uninstalled(text):
    """The packages that a guide imports and names no command for."""
    blocks = [body for _, kind, body in FENCE.findall(text) if kind.strip() in {"{code-cell}", "python"}]
    names = {name.split(".")[0] for body in blocks if _parses(body) for name in imported(body)} - INSTALLED
    return sorted(name for name in names if f"pip install {COMMANDS.get(name, name)}" not in text)


def _parses(body):
    try:
        ast.parse(body)
    except SyntaxError:
        return False
    return True


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_every_guide_is_a_program(path):
    assert faults(path.read_text(encoding="utf-8")) == []


CELL = "```{code-cell}\nx = 1\n```\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"# No head\n{CELL}", "the head is not that of a guide"),
        (f"{HEAD}A\n\n```python\nx = 1\n```\n", "no cell runs"),
        (f"{HEAD}A\n\n{CELL}```{{note}}\nx\n```\n", "a notebook cannot show {note}"),
        (f"{HEAD}A\n\n```{{code-cell}}\n:tags: [skip-execution]\nx = 1\n```\n", "a cell is tagged"),
        (f"{HEAD}A\n\n```{{code-cell}}\n---\ntags: [hide-input]\n---\nx = 1\n```\n", "a cell is tagged"),
        (f"{HEAD}A\n\n```{{code-cell}}\nx =\n```\n", "a cell is no Python"),
        (f"{HEAD}A\n\n{CELL}    >>> x\n", "examples with >>> are for other pages"),
        (f"{HEAD}A\n\n{CELL}![x](x.png)\n", "a picture from a file"),
        (f"{HEAD}A\n\n{CELL}```python\nimport haiku as hk\n```\n", "no command installs haiku"),
        (
            f"{HEAD}A\n\n`pip install .`\n\n```{{code-cell}}\nfrom sklearn import svm\n```\n",
            "no command installs sklearn",
        ),
        (f"{HEAD}A\n\n{CELL * 200}", "too long for a guide"),
    ],
)
def test_a_planted_fault_is_found(text, fault):
    assert fault in faults(text)
    assert faults(f"{HEAD}A\n\n{CELL}") == []


def test_the_index_lists_all_guides():
    listed = re.findall(r"^guides/(\w+)$", (DOCS / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == [path.stem for path in GUIDES]


# ---- plain blocks, for which another library has to be there


PLAIN = [
    pytest.param(body, id=f"{path.stem}-{number}")
    for path in GUIDES
    for number, (_, kind, body) in enumerate(FENCE.findall(path.read_text(encoding="utf-8")))
    if kind.strip() == "python"
]


def imported(body):
    """The modules that a block imports."""
    nodes = list(ast.walk(ast.parse(body)))
    names = (alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names)
    return sorted({*names, *(node.module for node in nodes if isinstance(node, ast.ImportFrom))})


@pytest.mark.long
@pytest.mark.parametrize("body", PLAIN)
def test_plain_blocks_run_where_their_libraries_are(body, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    for name in imported(body):
        import_peer(name)
    with lenient():
        exec(compile(body, "block", "exec"), {"__name__": "guide"})


# ---- notebooks


def extension():
    """The module of the site that guides go through."""
    pytest.importorskip("docutils", reason="docutils is not installed: make docs installs it")
    return load("guides", EXTENSIONS)


def test_links_and_roles_become_words():
    guides = extension()
    text = "See [the table](../cells.md#x), [](../steps.md), [Flax](https://flax.dev) and {func}`jaxnorm.unroll`."
    plain = guides.plain(text, lambda target: f"title of {target}")
    assert plain == "See the table, “title of ../steps.md”, [Flax](https://flax.dev) and `jaxnorm.unroll`."
    assert (
        guides.plain("{class}`a cell <jaxnorm.LSTM>` and {func}`~jaxnorm.step`", str)
        == "`jaxnorm.LSTM` and `jaxnorm.step`"
    )


def test_all_guides_run_again_when_the_package_has_changed(tmp_path):
    guides = extension()
    (tmp_path / "a.py").write_text("x = 1")
    before = guides.digest(tmp_path)
    assert guides.digest(tmp_path) == before
    (tmp_path / "a.py").write_text("x = 2")
    assert guides.digest(tmp_path) != before

    class Environment:
        found_docs = frozenset({"index", "guides/nnx"})

    environment = Environment()
    assert guides.outdated(None, environment, set(), set(), set()) == ["guides/nnx"]
    assert guides.outdated(None, environment, set(), set(), set()) == []
