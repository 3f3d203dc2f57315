"""Answers names that other libraries have for cells and normalizers, looked for in a module of ours."""

import importlib
from typing import NoReturn

from jaxnorm._base.objects import CELLS_ELSEWHERE

NORMALIZERS_ELSEWHERE = {
    **{name: name for name in ("LayerNorm", "RMSNorm", "BatchNorm", "GroupNorm", "InstanceNorm")},
    "LayerNormalization": "LayerNorm",
    "RMSNormalization": "RMSNorm",
    "BatchNormalization": "BatchNorm",
    "GroupNormalization": "GroupNorm",
    **{f"BatchNorm{n}d": "BatchNorm" for n in (1, 2, 3)},
    **{f"InstanceNorm{n}d": "InstanceNorm" for n in (1, 2, 3)},
}


def refuse_name(module: str, name: str, cell: str = "{}", norm: str = "{}") -> NoReturn:
    """Raises AttributeError with the line to write; ``cell`` and ``norm`` are lines with a place for the spec."""
    line = ""
    if name in CELLS_ELSEWHERE:
        line = f" Write {cell.format(f'jaxnorm.{CELLS_ELSEWHERE[name]}(128)')}."
    elif name in NORMALIZERS_ELSEWHERE:
        line = f" Write {norm.format(f'jaxnorm.{NORMALIZERS_ELSEWHERE[name]}()')}."
    elif not name.startswith("_"):
        places = [place for place in ("jaxnorm", "jaxnorm.zoo") if name in importlib.import_module(place).__all__]
        line = "".join(f" Write {place}.{name}." for place in places)
    raise AttributeError(f"module {module!r} has no attribute {name!r}.{line}", name=name)
