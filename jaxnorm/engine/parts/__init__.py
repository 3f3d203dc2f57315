"""Parts of a batch that lie on different devices: whether to cut a batch into them, and how they run."""

from jaxnorm.engine.parts.choose import choose_parts as choose_parts
from jaxnorm.engine.parts.cut import LoopCall as LoopCall
from jaxnorm.engine.parts.run import run_parts as run_parts
