"""Prints a pip constraints file with every dependency of the library, its examples and its tests at its lower bound.

CI tests Python 3.11 with these and a newer Python with the newest releases, so both ends of every range are tested.
"""

import re
import tomllib
from pathlib import Path

EXTRAS = ("examples", "experiments", "test")

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
requirements = project["dependencies"] + [r for extra in EXTRAS for r in project["optional-dependencies"][extra]]
for requirement in requirements:
    if requirement.startswith("jaxnorm["):
        continue
    match = re.fullmatch(r"([A-Za-z0-9_.-]+)>=([0-9.]+)", requirement)
    if match is None:
        raise SystemExit(f"pyproject.toml: {requirement!r} has no lower bound of the form name>=version.")
    print("{}=={}".format(*match.groups()))
