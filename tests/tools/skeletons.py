"""The skeletons for contributors, imported from where they lie: rows of the tables hold them to the whole contract."""

import importlib
import sys
from pathlib import Path

SKELETONS = Path(__file__).parents[2] / "docs" / "skeletons"


def load(name):
    """Imports a skeleton; the test skeletons import their neighbors by bare names."""
    sys.path.insert(0, str(SKELETONS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(SKELETONS))
