"""The exports of the zoo are those of its modules, and the pages of the API describe every public name once."""

import inspect
import re
from collections import Counter

import pytest

import jaxnorm as jn
from tests.tools.docs import DOCS, EXTENSIONS, load


@pytest.fixture(scope="module")
def exports():
    return load("zoo_exports", EXTENSIONS)


def test_the_zoo_exports_what_its_modules_do(exports):
    text = (exports.ZOO / "__init__.py").read_text(encoding="utf-8")
    assert text == exports.text(), "jaxnorm/zoo/__init__.py is stale; run: make tables"


def test_a_name_in_two_modules_is_refused(exports, tmp_path, monkeypatch):
    zoo = tmp_path / "jaxnorm" / "zoo"
    zoo.mkdir(parents=True)
    for name in ("one", "two"):
        (zoo / f"{name}.py").write_text('__all__ = ["same"]')
    monkeypatch.setattr(exports, "ROOT", tmp_path)
    monkeypatch.setattr(exports, "ZOO", zoo)
    with pytest.raises(ValueError, match=r"jaxnorm.zoo.two and jaxnorm.zoo.one both export 'same'"):
        exports.text()


def kind_of(item):
    if inspect.isfunction(item):
        return "functions"
    return "specs" if hasattr(item, "__dataclass_fields__") else "types"


def is_item(module, name):
    return not inspect.ismodule(getattr(module, name))


def test_the_pages_of_the_api_describe_every_public_name_once():
    text = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    found = r"^\.\. auto(?:function|class):: jaxnorm\.((?:zoo\.|weight_norms\.)?\w+)$"
    described = re.findall(found, text, re.MULTILINE)
    for kind, packages in re.findall(r"^\.\. zoo:: (\w+) (.+)$", text, re.MULTILINE):
        prefixes = tuple(f"{package}." for package in packages.split())
        items = ((name, getattr(jn.zoo, name)) for name in jn.zoo.__all__)
        described += [f"zoo.{n}" for n, item in items if item.__module__.startswith(prefixes) and kind_of(item) == kind]
    spaces = (("", jn), ("zoo.", jn.zoo), ("weight_norms.", jn.weight_norms))
    public = [f"{space}{name}" for space, module in spaces for name in module.__all__ if is_item(module, name)]
    public = [name for name in public if name.removeprefix("weight_norms.") not in jn.__all__ or "." not in name]
    assert Counter(described) == Counter(public)
