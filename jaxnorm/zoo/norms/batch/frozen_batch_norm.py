"""Batch normalization with running statistics in training too."""

from dataclasses import field
from typing import final

from jaxnorm._base.typing import Array, Axis, Bool, Float
from jaxnorm.norms.base import Params, Stats
from jaxnorm.norms.batch_norm import batch_norm
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.zoo.norms.batch._running_in_training import RunningInTraining

__all__ = ["FrozenBatchNorm"]


@final
class FrozenBatchNorm(RunningInTraining):
    r"""Batch normalization with statistics that never change: one affine map per feature, in training and inference.

    .. math:: y = \text{scale} \cdot \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \text{bias}

    with the given running :math:`\mu, \sigma^2`. Use it for fine-tuning with small batches. It calls
    ``batch_norm(x, scale, bias, moments=running)``; you may train scale and bias. To freeze a cell with batch
    statistics you need no spec: pass its running statistics to ``unroll(..., stats=running)`` in training too.

    Attributes:
      axis: the axes that the statistics reduced; None means all but the last.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.FrozenBatchNorm(epsilon=0.0)
      >>> running = jaxnorm.Moments(jnp.array([1.0]), jnp.array([4.0]), jnp.array(9.0))
      >>> y, same = norm.train(norm.init((1,)), jnp.array([[1.0], [5.0]]), running)
      >>> y.tolist(), norm.update_running(running, same) is running
      ([[0.0], [2.0]], True)

    Reference:
      S. Ioffe, C. Szegedy, "Batch Normalization", 2015, arXiv:1502.03167, Algorithm 2: we train its inference
      network.
    """

    function = staticmethod(batch_norm)
    passed = ("where", "moments", "axis_name", "axis_index_groups")
    axis: Axis | None = field(default=DEFAULT, kw_only=False)
    feature_axis: Axis | None = DEFAULT

    def train(
        self,
        params: Params,
        x: Float[Array, "..."],
        running: Stats,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Calls the spec with ``running``; measures nothing."""
        return self(params, x, running, where)

    def update_running(self, running: Stats, measured: Stats) -> Stats:
        """Returns the running statistics unchanged."""
        return running

    def check_site(self, caller: str) -> None:
        """Rejects every site: a cell measures in training; pass it running statistics instead."""
        raise ValueError(
            f"{caller}: {self!r} cannot be used inside a cell. Use BatchNorm(), and pass unroll(..., stats=running) in "
            "training too."
        )
