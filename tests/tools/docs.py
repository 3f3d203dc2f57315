"""Programs of the documentation, imported from where they lie."""

import importlib
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
SKELETONS = DOCS / "skeletons"
"""For contributors; rows of the tables hold them to the whole contract."""
EXTENSIONS = DOCS / "_ext"


def load(name, folder=SKELETONS):
    """Imports a module of a folder; those there import their neighbors by bare names."""
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))
