"""``Norm``: one module for all normalizers."""

import flax.linen as nn
from flax.core import freeze

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Bool, DTypeLike, Float, Real
from jaxnorm._shared.batch_axis import check_batch_axis
from jaxnorm._shared.names import norm_template
from jaxnorm._shared.norm_dtype import data_in, result_in
from jaxnorm.linen.population_statistics import rule
from jaxnorm.linen.variables import (
    Partitioning,
    Statistics,
    in_place,
    weights,
)
from jaxnorm.norms.base import Normalizer, check_data, check_normalizer, fresh
from jaxnorm.norms.core.moments import statistics_dtype


class Norm(nn.Module):
    """Any normalizer as a linen module.

    Attributes:
      spec: the normalizer, for example ``BatchNorm()``.
      use_running_average: whether to use running statistics (True), or the statistics of the batch, which then update
        the running ones. Pass it here or in the call; normalizers without running statistics need neither.
      dtype: dtype of the result; None takes that of the data. Statistics are computed from the data as they are, in at
        least float32.
      param_dtype: dtype of scale and bias, and of running statistics, which are in at least float32; None leaves both
        to the normalizer.
      partitioning: names of mesh axes for weights, ``{"scale": ("model",)}``, as with ``nn.with_partitioning``.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm, jaxnorm.linen
      >>> module = jaxnorm.linen.Norm(jaxnorm.BatchNorm(momentum=0.5))
      >>> x = jnp.array([[1.0], [3.0]])
      >>> variables = module.init(jax.random.key(0), x, use_running_average=True)
      >>> y, updates = module.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
      >>> updates["batch_stats"]["mean"]
      Array([1.], dtype=float32)
    """

    spec: Normalizer
    use_running_average: bool | None = None
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike | None = None
    partitioning: Partitioning = freeze({})

    def __post_init__(self) -> None:
        check_normalizer("Norm", "spec", self.spec)
        if self.dtype is not None:
            validate.floating_dtype("Norm", "dtype", self.dtype)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Real[Array, "..."],
        use_running_average: bool | None = None,
        *,
        mask: Bool[Array, "..."] | None = None,
    ) -> Float[Array, "..."]:
        """Normalizes ``x``.

        Args:
          x: data.
          use_running_average: see the class.
          mask: True on real data, broadcastable to ``x``; masked elements give zeros and enter no statistics.

        Returns:
          An array like ``x``, in ``dtype`` if the module has one.
        """
        check_data("Norm", "x", x, mask)
        check_batch_axis("Norm", self.spec, x.shape)
        shape = self.spec.param_shape(x.shape)
        dtype = {} if self.param_dtype is None else {"dtype": self.param_dtype}
        wide = {name: statistics_dtype(value) for name, value in dtype.items()}
        params = weights(self, norm_template(self.spec, shape), lambda key: fresh(self.spec, shape, key=key, **dtype))
        stats = Statistics(self, self.spec.initial_stats(shape, **wide))
        use_running = stats.exist and nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        spec, x = in_place(self, self.spec), data_in(x, self.dtype)
        if use_running:
            return result_in(spec(params, x, stats.value, mask)[0], self.dtype)
        y, measured = spec.train(params, x, stats.value, mask)
        stats.update(lambda running: rule(self, self.spec, running).update_running(running, measured))
        return result_in(y, self.dtype)
