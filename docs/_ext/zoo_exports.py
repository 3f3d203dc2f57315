"""Writes ``jaxnorm/zoo/__init__.py`` from the ``__all__`` of the zoo's modules: ``python docs/_ext/zoo_exports.py``.

It reads the modules without importing them, so it also runs while the exports are wrong.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "jaxnorm" / "zoo"
HEAD = '''"""What serves one paper or one library: the rest of the normalizers and cells.

Written by docs/_ext/zoo_exports.py from the ``__all__`` of each module; ``make tables`` rewrites it.
"""

import typing as _types
'''
TAIL = '''
if not _types.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Says where a name is that is not here."""
        from jaxnorm._base.foreign_names import refuse_name

        refuse_name("jaxnorm.zoo", name)
'''


def exported(path: Path) -> list[str]:
    """The names in the ``__all__`` of a module; none if it has no such list."""
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            return list(ast.literal_eval(statement.value))
    return []


def text() -> str:
    """What ``jaxnorm/zoo/__init__.py`` holds."""
    names: dict[str, str] = {}
    for path in sorted(ZOO.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name in exported(path) if path.name != "__init__.py" else []:
            if name in names:
                raise ValueError(f"zoo_exports.py: {module} and {names[name]} both export {name!r}.")
            names[name] = module
    imports = sorted((module, name) for name, module in names.items())
    listed = sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    return "\n".join(
        [
            HEAD,
            *(f"from {module} import {name} as {name}" for module, name in imports),
            "",
            "__all__ = [",
            *(f'    "{name}",' for name in listed),
            "]",
            TAIL,
        ]
    )


if __name__ == "__main__":
    (ZOO / "__init__.py").write_text(text(), encoding="utf-8")
