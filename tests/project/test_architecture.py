"""The rules of the house: floors, one loop, file sizes, documented names. Each guard is shown a planted fault too."""

import ast
import dataclasses
import importlib
import inspect
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jaxnorm
from jaxnorm.cells.cell_base import CellBase

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "jaxnorm"
SOURCES = sorted(PACKAGE.rglob("*.py"))
OUTSIDE_THE_CORE = ("flax", "optax", "chex", "matplotlib")
LONGEST_FILE = 400
PUBLIC = {
    f"{space.__name__}.{name}": getattr(space, name)
    for space in (jaxnorm, jaxnorm.weight_norms, jaxnorm.zoo)
    for name in space.__all__
    if not inspect.ismodule(getattr(space, name))
}
"""All that users can import, by its full name."""


def run_python(code, *path):
    """Runs code in a fresh interpreter, with the given folders first on its path."""
    lines = [f"import sys; sys.path[:0] = {[str(folder) for folder in path]!r}", code]
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=600)


# ---- what an import drags in


def imported_by(statement, *path, among=OUTSIDE_THE_CORE):
    """Which of the libraries of the upper floors a fresh interpreter has loaded after a statement."""
    probe = f"{statement}\nprint(*[name for name in {among!r} if name in sys.modules])"
    done = run_python(probe, *path, ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_jaxnorm_imports_no_flax_optax_chex_or_matplotlib():
    assert imported_by("import jaxnorm") == []


def test_optim_imports_optax_with_its_first_transformation():
    assert imported_by("import jaxnorm; jaxnorm.optim.decay_mask, jaxnorm.optim.unit_axes") == []
    assert "optax" in imported_by("import jaxnorm; jaxnorm.optim.project_weights")


def test_modules_are_imported_on_first_use():
    done = run_python(
        "import jaxnorm as j; print(j.linen.RNN, j.nnx.RNN, j.analysis.percentiles, j.convert.torch)", ROOT
    )
    assert done.returncode == 0, done.stderr
    for module in (jaxnorm, jaxnorm.optim):
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = module.nothing


def test_importing_the_converters_imports_none_of_their_libraries():
    libraries = (*OUTSIDE_THE_CORE, "torch", "keras", "haiku", "equinox", "h5py", "safetensors")
    assert imported_by("import jaxnorm.convert", among=libraries) == []


def test_the_import_check_catches_a_planted_import(tmp_path):
    (tmp_path / "planted.py").write_text("import jaxnorm\nimport optax\n", encoding="utf-8")
    assert "optax" in imported_by("import planted", tmp_path)


# ---- loops over time in the engine only

LOOPS = (
    "engine/loops/associative_scan.py",
    "engine/loops/chunked_vjp.py",
    "engine/loops/chunks.py",
    "engine/loops/scan.py",
    "engine/rows.py",
)
"""Over all steps at once, for linear cells; over the steps of a chunk, backward; over chunks; over the steps of a
chunk, forward; over the rows of statistics, after the steps. Each file has one."""


def scans_in(source):
    """The lines with a call of ``scan``, ``while_loop`` or ``fori_loop`` of lax, or with an import of one by name."""
    loops = {"scan", "while_loop", "fori_loop", "associative_scan", "map"}
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in loops and ast.unparse(node.value).endswith("lax"):
            lines.append(node.lineno)
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("lax"):
            lines += [node.lineno for alias in node.names if alias.name in loops]
    return lines


def all_scans(package):
    return [
        f"{path.relative_to(package)}:{line}"
        for path in sorted(package.rglob("*.py"))
        for line in scans_in(path.read_text(encoding="utf-8"))
    ]


def test_loops_over_time_are_in_the_engine_and_one_a_file():
    assert [scan.partition(":")[0] for scan in all_scans(PACKAGE)] == list(LOOPS)


@pytest.mark.parametrize(
    "planted",
    ["from jax import lax\nlax.scan(f, c, xs)", "import jax\njax.lax.scan(f, c, xs)", "from jax.lax import scan"],
)
def test_another_loop_is_caught(tmp_path, planted):
    copy = shutil.copytree(PACKAGE, tmp_path / "jaxnorm", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "cells" / "planted.py").write_text(planted, encoding="utf-8")
    assert len(all_scans(copy)) == len(LOOPS) + 1


# ---- floors


def imports_of(path, package):
    """Modules of the package that a file imports, as dotted names below the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports in full"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.removeprefix("jaxnorm.") for name in found if name.startswith("jaxnorm.")}


def floors():
    """The floors that pyproject.toml names for import-linter, lowest first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = next(contract["layers"] for contract in settings["contracts"] if contract["type"] == "layers")
    return [[part.strip().removeprefix("jaxnorm.") for part in layer.split("|")] for layer in reversed(layers)]


def upward_imports(package):
    """Imports of a higher floor, or of a neighbor on the same one."""
    height = {name: level for level, names in enumerate(floors()) for name in names}
    faults = []
    for path in sorted(package.rglob("*.py")):
        own = path.relative_to(package).with_suffix("").parts[0]
        if own == "__init__":
            continue
        assert own in height, f"{path} stands on no floor; add it to the contract in pyproject.toml"
        for name in imports_of(path, package):
            other = name.split(".")[0]
            if other != own and other in height and height[other] >= height[own]:
                faults.append(f"{own} imports {name}")
    return faults


def test_imports_go_downwards():
    assert upward_imports(PACKAGE) == []


@pytest.mark.parametrize(
    ("place", "planted"),
    [
        ("norms/planted.py", "from jaxnorm.cells.base import CellNorms"),
        ("cells/planted.py", "import jaxnorm.engine.unroll"),
        ("_base/validate.py", "def f():\n    from jaxnorm import norms"),
    ],
)
def test_an_upward_import_is_caught(tmp_path, place, planted):
    copy = shutil.copytree(PACKAGE, tmp_path / "jaxnorm", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / place).write_text(planted, encoding="utf-8")
    assert len(upward_imports(copy)) >= 1


def test_import_linter_agrees_and_catches_a_planted_import(tmp_path):
    pytest.importorskip("importlinter", reason="import-linter is in the extra 'dev'")
    shutil.copytree(PACKAGE, tmp_path / "jaxnorm", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)

    def lint():
        code = "from importlinter.cli import lint_imports\nsys.exit(lint_imports(no_cache=True))"
        lines = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}"
        return subprocess.run([sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True, timeout=600)

    assert lint().returncode == 0
    with (tmp_path / "jaxnorm" / "norms" / "identity.py").open("a", encoding="utf-8") as file:
        file.write("\nfrom jaxnorm.cells import base\n")
    broken = lint()
    assert broken.returncode == 1
    assert "jaxnorm.norms is not allowed to import jaxnorm.cells" in broken.stdout


# ---- files


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_is_short_and_finished(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= LONGEST_FILE
    assert re.search(r"\b(NotImplementedError|NotImplemented|TODO|FIXME|XXX)\b", source) is None
    assert ast.get_docstring(ast.parse(source)), "a file says in its first lines what it holds"


def test_test_files_are_short():
    long = [
        p.name for p in (ROOT / "tests").rglob("*.py") if len(p.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE
    ]
    assert long == []


def test_types_are_shipped():
    assert (PACKAGE / "py.typed").exists()


# ---- public names


def test_the_core_shows_what_most_users_read():
    assert len(jaxnorm.__all__) <= 90
    assert not set(jaxnorm.__all__) & set(jaxnorm.zoo.__all__)


@pytest.mark.parametrize("name", ["norms", "weight_norms", "cells", "engine", "zoo", None])
def test_a_namespace_lists_what_it_shows(name):
    """Nothing is bound that ``__all__`` does not name, but for modules; and tab completes all of it."""
    space = getattr(jaxnorm, name) if name else jaxnorm
    bound = {name for name, item in vars(space).items() if not name.startswith("_") and not inspect.ismodule(item)}
    assert bound <= set(space.__all__) <= set(dir(space))
    assert len(set(space.__all__)) == len(space.__all__)
    source = ast.parse(Path(space.__file__).read_text(encoding="utf-8"))
    aliases = [alias for node in source.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert [alias.name for alias in aliases if alias.name != alias.asname] == []


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_is_documented(name):
    item = PUBLIC[name]
    doc = inspect.getdoc(item) or ""
    assert doc, f"{name} has no docstring"
    if inspect.isfunction(item):
        missing = [section for section in ("Args:", "Returns:", "Example:", ">>>") if section not in doc]
        assert missing == [], f"the docstring of {name} has no {missing}"
        parameters = [p.name for p in inspect.signature(item).parameters.values()]
        assert [p for p in parameters if not re.search(rf"^\s*(\*\*)?{p}: ", doc, re.MULTILINE)] == []
    elif hasattr(item, "__dataclass_fields__"):
        assert "Example:" in doc, f"the docstring of {name} shows no example"
        # The fields that all cells share may be left to the class that has them.
        shared = issubclass(item, CellBase) and ":class:`jaxnorm.cells.cell_base.CellBase`" in doc
        common = inspect.getdoc(CellBase) if shared else ""
        fields = [f.name for f in dataclasses.fields(item) if f.init]
        assert [f for f in fields if not re.search(rf"^\s*{f}: ", doc + "\n" + common, re.MULTILINE)] == []


@pytest.mark.parametrize("module", ["jaxnorm.linen", "jaxnorm.nnx"])
def test_flax_names_are_documented(module):
    flax = importlib.import_module(module)
    modules, functions = {"Norm", "RNN", "RNNCell", "Reparametrized"}, {"population", "kernel_axes"}
    assert modules | functions | {"from_params", "to_params"} == set(flax.__all__)
    assert [name for name in flax.__all__ if not inspect.getdoc(getattr(flax, name))] == []


CONVERTERS = sorted(
    name for name, item in vars(jaxnorm.convert).items() if inspect.ismodule(item) and hasattr(item, "load")
)


@pytest.mark.parametrize("name", CONVERTERS)
def test_a_converter_has_two_documented_functions_and_a_page(name):
    module = importlib.import_module(f"jaxnorm.convert.{name}")
    functions = ["load", "export", *(["load_model"] if hasattr(module, "load_model") else [])]
    for function in functions:
        item = getattr(module, function)
        doc = inspect.getdoc(item) or ""
        assert [part for part in ("Args:", "Returns:", "Raises:", "Example:", ">>>") if part not in doc] == []
        parameters = inspect.signature(item).parameters
        assert [p for p in parameters if not re.search(rf"^\s*{p}: ", doc, re.MULTILINE)] == []
    pages = ROOT / "docs"
    assert f"automodule:: jaxnorm.convert.{name}" in (pages / "api" / "convert.md").read_text(encoding="utf-8")
    assert f"`convert.{name}`" in (pages / "convert.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["cells", "normalizers"])
def test_every_row_of_the_tables_of_items_names_a_year(page):
    lines = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert len(rows) > 30
    assert [row for row in rows if not re.search(r"\b(19|20)\d\d\b", row) and "Identity" not in row] == []


def test_readme_is_short_and_names_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.split()) <= 700
    for space, name in re.findall(r"\bjn\.(zoo\.)?(\w+)", readme):
        assert hasattr(jaxnorm.zoo if space else jaxnorm, name), name


# ---- functions


def long_signatures(path):
    """Functions and methods with more than six arguments, self apart."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            if len([name for name in arguments if name not in ("self", "cls")]) > 6:
                yield node.name


def test_only_public_entrances_of_the_core_take_more_than_six_arguments():
    public = {name.rpartition(".")[2] for name, item in PUBLIC.items() if inspect.isfunction(item)}
    core = [
        path for path in SOURCES if path.relative_to(PACKAGE).parts[0] in ("norms", "weight_norms", "cells", "engine")
    ]
    assert len(core) > 50
    assert [(path.name, name) for path in core for name in long_signatures(path) if name not in public] == []


def test_a_long_signature_is_noticed(tmp_path):
    planted = tmp_path / "planted.py"
    planted.write_text(
        "class A:\n    def f(self, a, b, c, d, e, f, *, g): ...\n    def h(self, a, b, c, d, e, f): ...\n"
    )
    assert list(long_signatures(planted)) == ["f"]
