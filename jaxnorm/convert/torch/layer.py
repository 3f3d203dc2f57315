"""One layer of PyTorch, a recurrent layer or a normalizer, from its arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnorm.convert.shared import norms
from jaxnorm.convert.shared.arrays import Arrays, listed
from jaxnorm.convert.shared.base import Imported, settle
from jaxnorm.convert.torch.kernels import effective
from jaxnorm.convert.torch.modules import Described
from jaxnorm.convert.torch.recurrent import load_cells
from jaxnorm.convert.torch.state import is_recurrent, to_host

NAMES = norms.Names("weight", "bias", "running_mean", "running_var")
BATCHES = "num_batches_tracked"


def load_layer(
    caller: str, values: Mapping[str, Any], prefix: str, spec: Any = None, described: Described | None = None
) -> Imported:
    """Loads a recurrent layer or a normalizer; ``described`` is what a live module tells."""
    values, notes = effective(caller, {name: to_host(value) for name, value in values.items()}, prefix)
    arrays = Arrays(caller, {prefix + name: value for name, value in values.items()}, prefix)
    found = (load_cells if is_recurrent(arrays.names) else _load_norm)(arrays, spec, described)
    return found._replace(notes=(*found.notes, *notes))


def _load_norm(arrays: Arrays, spec: Any, described: Any) -> Imported:
    notes: tuple[str, ...] = ()
    if described is not None:
        spec, notes = settle(arrays.where, described.spec, spec), described.notes
    elif spec is None:
        raise ValueError(
            f"{arrays.where}: {listed(arrays.prefix + name for name in arrays.names)} may belong to several "
            "normalizers, and do not tell epsilon. Pass spec=LayerNorm(epsilon=1e-5), or another, or the live module."
        )
    arrays = norms.locate(arrays, spec, NAMES, (BATCHES,))
    batches = arrays.skip(BATCHES)
    return norms.load(arrays, spec, NAMES, count=1.0 if batches is None else float(np.asarray(batches)), notes=notes)
