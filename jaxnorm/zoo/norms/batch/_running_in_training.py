"""The base of batch-norm specs that look at running statistics in training too."""

from typing import ClassVar

from jaxnorm._base.typing import Array, Bool, Float, Real
from jaxnorm.norms.base import Params, Stats
from jaxnorm.norms.batch_norm import batch_norm
from jaxnorm.norms.core.batch_base import BatchSpec


class RunningInTraining(BatchSpec, abstract=True):
    """Training calls the function with running statistics; inference is batch normalization with them."""

    passed: ClassVar[tuple[str, ...]] = ("where", "running")
    statistics: ClassVar[str] = "running"

    def __call__(
        self,
        params: Params,
        x: Real[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Normalizes with the given running statistics, for inference; for training call :meth:`train`."""
        if stats is None:
            raise ValueError(
                f"{type(self).__name__}: stats is None, but this normalizer looks at running statistics in training "
                "too. Call train(params, x, running) with running = initial_stats(shape) or what update_running gave; "
                "for inference pass stats."
            )
        return self.apply(batch_norm, params, x, moments=stats, where=where)

    def train(
        self,
        params: Params,
        x: Real[Array, "..."],
        running: Stats,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Applies the function of the spec, with running statistics."""
        trained: tuple[Array, Stats] = self.apply(self.function, params, x, where=where, **{self.statistics: running})
        return trained

    def check_site(self, caller: str) -> None:
        """Rejects every site: a cell does not pass running statistics in training."""
        raise ValueError(
            f"{caller}: {self!r} cannot be used inside a cell: it looks at running statistics in training, and a cell "
            "measures. Use BatchNorm()."
        )
