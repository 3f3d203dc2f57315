r"""Masks and axes that tell optimizers the role of each weight, and optax transformations for normalized weights.

``decay_mask``, ``muon_dimensions`` and ``unit_axes`` tell what a weight is; its rank does not. They need no optax. The
transformations do, and import optax on first use.

Put transformations into ``optax.chain``: ``adaptive_grad_clip`` before the optimizer, the others after it, since they
act on the final update. Each of the latter works on the kernels that its mask chooses and leaves the rest alone; for
two groups of kernels, chain two of them.

The units of a kernel are those of Flax's layers and of this library's cells. They follow from names and shapes: the
last axis of (I, O) and of convolutions (\*window, I, O), the gate axes of a kernel next to a recurrent kernel, the axes
of attention by the names ``query``, ``key``, ``value`` and ``out``, the rows of an ``embedding``, and for kernels with
more axes those of the bias next to the kernel. If they do not follow, an error names the weight and asks for ``axis``,
the axes that hold the inputs of a unit. Pass one for all weights; or several keyed by name,
``{"out_kernel": (0, 1)}``, where a name is the path of a weight or the end of its path; or a function of the path (a
tuple of names) and the array. None instead of axes leaves a weight alone. ``jaxnorm.linen.kernel_axes`` and
``jaxnorm.nnx.kernel_axes`` read such names from a model; a cell declares ``cell.kernel_axes``.
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
