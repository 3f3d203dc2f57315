r"""What optimizers need to know of weights, and optax transformations for normalized weights.

The masks and axes say what a weight is, which its rank does not: ``decay_mask``, ``muon_dimensions``, ``unit_axes``.
They need no optax; the transformations do, and optax is imported where the first of them is asked for.

Transformations belong into ``optax.chain``: ``adaptive_grad_clip`` before the optimizer, the others after it, since
they look at the update that will be made. Each of those works on the kernels that a mask chooses and leaves the rest
alone; two groups of kernels are two of them in the chain.

The units of a kernel are those of Flax's layers and of this library's cells. They follow from names and shapes: the
last axis of (I, O) and of convolutions (\*window, I, O), the axes of gates beside a recurrent kernel, those of
attention by the names ``query``, ``key``, ``value`` and ``out``, the rows of an ``embedding``, and with more axes those
along which the bias beside a kernel lies. Where they do not follow, an error names the weight and asks for ``axis``:
the axes that hold the inputs of a unit, for all weights; or by name, ``{"out_kernel": (0, 1)}``, where a name is
the path of a weight or the end of it; or by a function of the path, a tuple of names, and the array. None in their
place leaves a weight alone. ``jaxnorm.linen.kernel_axes`` and ``jaxnorm.nnx.kernel_axes`` read such names from a model;
a cell has its own, ``cell.kernel_axes``.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxnorm.optim.axes import muon_dimensions as muon_dimensions
from jaxnorm.optim.axes import unit_axes as unit_axes
from jaxnorm.optim.masks import decay_mask as decay_mask
from jaxnorm.optim.masks import kernels as kernels
from jaxnorm.optim.masks import named as named

if TYPE_CHECKING:
    from jaxnorm.optim.clipping import adaptive_grad_clip as adaptive_grad_clip
    from jaxnorm.optim.projection import project_gradients as project_gradients
    from jaxnorm.optim.projection import project_weights as project_weights
    from jaxnorm.optim.recorded_norms import correct_step_size as correct_step_size
    from jaxnorm.optim.recorded_norms import record_norms as record_norms
    from jaxnorm.optim.recorded_norms import schedule_norms as schedule_norms
else:
    _WITH_OPTAX = {
        "adaptive_grad_clip": "clipping",
        "project_gradients": "projection",
        "project_weights": "projection",
        "correct_step_size": "recorded_norms",
        "record_norms": "recorded_norms",
        "schedule_norms": "recorded_norms",
    }

    def __getattr__(name: str) -> Any:
        if name not in _WITH_OPTAX:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_WITH_OPTAX[name]}"), name)
