"""The loop that runs every cell, and the functions that call it."""

from jaxnorm.engine.connections import residual_stack as residual_stack
from jaxnorm.engine.connections import skip_stack as skip_stack
from jaxnorm.engine.sequence_statistics import sequence_statistics as sequence_statistics
from jaxnorm.engine.stacks import Directions as Directions
from jaxnorm.engine.stacks import bidirectional as bidirectional
from jaxnorm.engine.stacks import stack as stack
from jaxnorm.engine.step import step as step
from jaxnorm.engine.summary import Summary as Summary
from jaxnorm.engine.summary import summary as summary
from jaxnorm.engine.unroll import Unrolled as Unrolled
from jaxnorm.engine.unroll import unroll as unroll
from jaxnorm.engine.unroll_sum import Summed as Summed
from jaxnorm.engine.unroll_sum import unroll_sum as unroll_sum

__all__ = [
    "Directions",
    "Summary",
    "Summed",
    "Unrolled",
    "bidirectional",
    "residual_stack",
    "sequence_statistics",
    "skip_stack",
    "stack",
    "step",
    "summary",
    "unroll",
    "unroll_sum",
]
