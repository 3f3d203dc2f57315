"""What the table of normalizers says that cannot be derived: one entry for each public spec, in the order of the page.

An entry is a spec as it is measured, and words. State, train = test, and invariances come from the spec itself; see
``normalizer_table.py``, which writes the page: ``python docs/_ext/normalizer_table.py``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

import jaxnorm as jn

TINY = 1e-12


class Entry(NamedTuple):
    """A row of the table. Mathematics is written in LaTeX without dollars; no text may hold a vertical bar."""

    spec: Any
    """A normalizer as it is measured, with an epsilon that does not show; or a spec that acts on kernels."""
    equation: str
    axes: str
    """What shares statistics."""
    passes: str
    """Passes over x that have to wait for one another: one for each statistic, one to write the result."""
    when: str
    paper: str
    batch_shape: tuple[int, ...] = (8,)
    """Leading axes of the inputs that the invariances are measured on: cases, and positions where it needs some."""
    layer: Callable[[Any, Any], Any] | None = None
    """``(kernel, xs) -> ys`` where the layer is more than the spec on xs @ kernel; not for specs that make kernels."""


def _norm_prop(kernel: Any, xs: Any) -> Any:
    """Normalization propagation has weights of length one."""
    return jn.norm_prop(xs @ (kernel / jnp.linalg.norm(kernel, axis=0, keepdims=True)))


ENTRIES = (
    Entry(jn.LayerNorm(epsilon=TINY), r"(x - \mu) / \sigma", "features of an example", "3", "the default in recurrent networks and transformers; any batch size", "Ba, Kiros, Hinton 2016"),
    Entry(jn.RMSNorm(epsilon=TINY), r"x / \sqrt{\overline{x^2}}", "features of an example (a `fraction` of them in pRMSNorm)", "2", "like layer normalization, where centring is not needed", "Zhang, Sennrich 2019"),
    Entry(jn.BatchNorm(epsilon=TINY), r"(x - \mu) / \sigma", "the batch and positions, for each feature", "3; in inference 1", "convolutional networks with large batches; can be merged into the weights in inference", "Ioffe, Szegedy 2015"),
    Entry(jn.GroupNorm(4, epsilon=TINY), r"(x - \mu) / \sigma", "a group of features and all positions of an example", "3", "convolutional networks with small batches", "Wu, He 2018", (8, 6)),
    Entry(jn.InstanceNorm(epsilon=TINY), r"(x - \mu) / \sigma", "the positions of an example, for each feature", "3", "images whose contrast should not matter, as in style transfer", "Ulyanov, Vedaldi, Lempitsky 2016", (8, 6)),
    Entry(jn.NormProp(), r"(f(x) - m) / s", "none: constants of the activation", "1", "feed-forward networks with weights of length one and normalized inputs", "Arpit et al. 2016", layer=_norm_prop),
    Entry(jn.Identity(), "x", "none", "0", "fills a site that is not normalized", ""),
)  # fmt: skip
