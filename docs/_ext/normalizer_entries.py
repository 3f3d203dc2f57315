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
    return jn.zoo.norm_prop(xs @ (kernel / jnp.linalg.norm(kernel, axis=0, keepdims=True)))


def _cosine_norm(kernel: Any, xs: Any) -> Any:
    """Cosine normalization is the product, too."""
    return jn.zoo.cosine_norm(xs, kernel, epsilon=TINY)


def _frame_wise(kernel: Any, xs: Any) -> Any:
    """One time step."""
    return jn.zoo.frame_wise_batch_norm((xs @ kernel)[None], epsilon=TINY)[0][0]


def _conditional(kernel: Any, xs: Any) -> Any:
    """Classes that alternate, all with fresh weights."""
    norm = jn.zoo.ConditionalBatchNorm(3, jn.BatchNorm(epsilon=TINY))
    products = xs @ kernel
    labels = jnp.arange(len(xs)) % 3
    return norm(norm.init(products.shape[-1:]), products, labels)[0]


ENTRIES = (
    Entry(jn.LayerNorm(epsilon=TINY), r"(x - \mu) / \sigma", "features of an example", "3", "the default in recurrent networks and transformers; any batch size", "Ba, Kiros, Hinton 2016"),
    Entry(jn.RMSNorm(epsilon=TINY), r"x / \sqrt{\overline{x^2}}", "features of an example (a `fraction` of them in pRMSNorm)", "2", "like layer normalization, where centering is not needed", "Zhang, Sennrich 2019"),
    Entry(jn.BatchNorm(epsilon=TINY), r"(x - \mu) / \sigma", "the batch and positions, for each feature", "3; in inference 1", "convolutional networks with large batches; can be merged into the weights in inference", "Ioffe, Szegedy 2015"),
    Entry(jn.GroupNorm(4, epsilon=TINY), r"(x - \mu) / \sigma", "a group of features and all positions of an example", "3", "convolutional networks with small batches", "Wu, He 2018", (8, 6)),
    Entry(jn.InstanceNorm(epsilon=TINY), r"(x - \mu) / \sigma", "the positions of an example, for each feature", "3", "images whose contrast should not matter, as in style transfer", "Ulyanov, Vedaldi, Lempitsky 2016", (8, 6)),
    Entry(jn.zoo.ScaleNorm(epsilon=TINY), r"x / \lVert x \rVert", "features of an example", "2", "like RMS normalization with one number as scale, in transformers", "Nguyen, Salazar 2019"),
    Entry(jn.zoo.DynamicTanh(), r"\tanh(\alpha x)", "none", "1", "transformers in place of layer normalization, where reductions are expensive", "Zhu et al. 2025"),
    Entry(jn.zoo.FilterResponseNorm(epsilon=TINY), r"\max(x / \sqrt{\overline{x^2}}, \tau)", "the positions of an example, for each feature", "2", "convolutional networks whose batches are small; brings its own activation", "Singh, Krishnan 2020", (8, 6)),
    Entry(jn.zoo.EvoNormB0(epsilon=TINY), r"x / \max(\sigma_B, v x + \sigma_I)", "the batch and positions, and the positions of an example, for each feature", "3; in inference 2", "convolutional networks with large batches; activation included", "Liu et al. 2020", (8, 6)),
    Entry(jn.zoo.EvoNormS0(4, epsilon=TINY), r"x \operatorname{sigmoid}(v x) / \sigma", "a group of features and all positions of an example", "3", "convolutional networks with small batches; activation included", "Liu et al. 2020", (8, 6)),
    Entry(jn.zoo.AdaLayerNorm(2, epsilon=TINY), r"(x - \mu) / \sigma \cdot (1 + \gamma(c)) + \beta(c)", "features of an example", "3", "a condition c steers the features: diffusion transformers, style", "Peebles, Xie 2023"),
    Entry(jn.zoo.DivisiveNorm(3), r"(x - \mu) / \sqrt{\sigma_0^2 + \sigma^2}", "a window of neighboring units of an example", "3", "features with neighbors; between no normalization and layer normalization", "Ren et al. 2017"),
    Entry(jn.zoo.CosineNorm(4, epsilon=TINY), r"w \cdot x / (\lVert w \rVert \lVert x \rVert)", "incoming weights of a unit, inputs of an example", "2", "in place of a product whose size should not matter", "Luo et al. 2017", layer=_cosine_norm),
    Entry(jn.zoo.AssortedTimeNorm(3, epsilon=TINY), r"(x - \mu) / \sigma", "features of an example at the last few time steps", "3", "recurrent networks in which the size of a step carries meaning", "Pospisil, Zadorozhnyy, Ye 2022", (8, 6)),
    Entry(jn.zoo.CumulativeGroupNorm(epsilon=TINY), r"(x - \mu) / \sigma", "a group of features of an example, at all time steps so far", "3", "streams of sound or frames: no step sees the future", "Luo, Mesgarani 2019", (8, 6)),
    Entry(jn.zoo.BatchRenorm(epsilon=TINY), r"r (x - \mu) / \sigma + d", "the batch and positions, for each feature, corrected by running statistics", "3; in inference 1", "small or dependent batches", "Ioffe 2017"),
    Entry(jn.zoo.LpBatchNorm(epsilon=TINY), r"(x - \mu) / (c \, \overline{\lvert x - \mu \rvert})", "the batch and positions, for each feature", "3; in inference 1", "low precision: no squares and no roots", "Hoffer, Banner, Golan, Soudry 2018"),
    Entry(jn.zoo.RangeBatchNorm(epsilon=TINY), r"(x - \mu) / (c (\max x - \min x))", "the batch and positions, for each feature", "2; in inference 1", "eight-bit training", "Banner, Hubara, Hoffer, Soudry 2018"),
    Entry(jn.zoo.GhostBatchNorm(4, epsilon=TINY), r"(x - \mu) / \sigma", "a part of the batch, for each feature", "3; in inference 1", "large batches that should regularize like small ones", "Hoffer, Hubara, Soudry 2017"),
    Entry(jn.zoo.VirtualBatchNorm(epsilon=TINY), r"(x - \mu) / \sigma", "a reference batch and the example itself, for each feature", "3", "generators, whose examples must not depend on one another", "Salimans et al. 2016"),
    Entry(jn.zoo.MeanOnlyBatchNorm(), r"x - \mu", "the batch and positions, for each feature", "2; in inference 1", "together with weight normalization", "Salimans, Kingma 2016"),
    Entry(jn.zoo.FrozenBatchNorm(epsilon=TINY), r"(x - \mu) / \sigma", "none: running statistics that stay", "1", "fine-tuning of networks that were trained with batch normalization", "Ioffe, Szegedy 2015"),
    Entry(jn.zoo.FrameWiseBatchNorm(1, epsilon=TINY), r"(x - \mu) / \sigma", "the batch, for each time step and feature", "3; in inference 1", "input products of recurrent networks that may not see the future", "Laurent et al. 2015", layer=_frame_wise),
    Entry(jn.zoo.ConditionalBatchNorm(3, jn.BatchNorm(epsilon=TINY)), r"(x - \mu) / \sigma \cdot \gamma_k + \beta_k", "the batch and positions, for each feature", "3; in inference 1", "a scale and a bias for each class k", "de Vries et al. 2017", layer=_conditional),
    Entry(jn.zoo.MomentumBatchNorm(epsilon=TINY), r"(x - \mu) / \sigma", "batches so far, for each feature", "3; in inference 1", "to reproduce the report; moving averages in training too", "Glinskis 2017"),
    Entry(jn.zoo.StreamingNorm(epsilon=TINY), r"(x - \mu) / \sigma", "the data since the last weight update, and long ago, for each feature", "3; in inference 1", "batches too small for statistics of their own, down to one example", "Liao, Kawaguchi, Poggio 2016"),
    Entry(jn.zoo.DecorrelatedBatchNorm(4, epsilon=TINY), r"\Sigma^{-1/2} (x - \mu)", "the batch and positions, for groups of features together", "3; in inference 1", "features that should not be correlated; eigenvectors are expensive", "Huang et al. 2018", (32,)),
    Entry(jn.zoo.IterNorm(4, epsilon=TINY), r"\Sigma_T^{-1/2} (x - \mu)", "the batch and positions, for groups of features together", "3; in inference 1", "whitening without eigenvectors, by T Newton iterations", "Huang et al. 2019", (32,)),
    Entry(jn.zoo.PowerNorm(epsilon=TINY), r"x / \psi", "the batches so far, for each feature", "2; in inference 1", "transformers for text, where batch statistics vary much", "Shen et al. 2020"),
    Entry(jn.zoo.InPlaceBatchNorm(epsilon=TINY), r"f((x - \mu) / \sigma)", "the batch and positions, for each feature", "3; in inference 1", "memory: keeps the output of normalization and activation, not the input", "Rota Bulò, Porzi, Kontschieder 2018"),
    Entry(jn.WeightNorm(), r"x \, g v / \lVert v \rVert", "incoming weights of a unit", "0", "recurrent and generative networks; no batch, no noise", "Salimans, Kingma 2016"),
    Entry(jn.weight_norms.BoundedWeightNorm(), r"x \, \rho v / \lVert v \rVert", "incoming weights of a unit", "0", "weight normalization for large networks: lengths stay as they were", "Hoffer, Banner, Golan, Soudry 2018"),
    Entry(jn.weight_norms.CenteredWeightNorm(), r"x \, g (v - \bar v) / \lVert v - \bar v \rVert", "incoming weights of a unit", "0", "weight normalization with centered weights", "Huang et al. 2017"),
    Entry(jn.WeightStandardization(epsilon=TINY), r"x \, (v - \bar v) / \sigma_v", "incoming weights of a unit", "0", "convolutions under group normalization", "Qiao et al. 2019"),
    Entry(jn.SpectralNorm(), r"x \, V / \sigma_{\max}(V)", "the whole kernel", "0", "discriminators; bounds on what a layer may amplify", "Miyato et al. 2018"),
    Entry(jn.weight_norms.UnitNorm(), r"x \, v / \lVert v \rVert", "incoming weights of a unit", "0", "projection-based weight normalization; normalization propagation", "Huang et al. 2017"),
    Entry(jn.zoo.NormProp(), r"(f(x) - m) / s", "none: constants of the activation", "1", "feed-forward networks with weights of length one and normalized inputs", "Arpit et al. 2016", layer=_norm_prop),
    Entry(jn.Identity(), "x", "none", "0", "fills a site that is not normalized", ""),
)  # fmt: skip
