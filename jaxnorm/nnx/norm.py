"""``Norm``: one module for all normalizers."""

import jax
from flax import nnx

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Bool, DTypeLike, Float, Real
from jaxnorm._shared.batch_axis import check_batch_axis
from jaxnorm._shared.names import norm_template
from jaxnorm._shared.norm_dtype import data_in, result_in
from jaxnorm.nnx import variables
from jaxnorm.nnx.variables import Metadata, Randomness
from jaxnorm.norms.base import Normalizer, check_data, check_normalizer, fresh
from jaxnorm.norms.core.moments import statistics_dtype


class Norm(variables.OfNorm, nnx.Module):
    """Any normalizer as an NNX module.

    Example:
      >>> import jax.numpy as jnp, jaxnorm, jaxnorm.nnx
      >>> module = jaxnorm.nnx.Norm(jaxnorm.BatchNorm(momentum=0.5), 1)
      >>> y = module(jnp.array([[1.0], [3.0]]))
      >>> module.mean[...]
      Array([1.], dtype=float32)
      >>> module.eval()  # from now on the running statistics
      >>> module(jnp.array([[1.0], [3.0]])).round(1).tolist()
      [[0.0], [2.0]]
    """

    def __init__(
        self,
        spec: Normalizer,
        num_features: int | tuple[int, ...],
        *,
        use_running_average: bool | None = False,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
        rngs: Randomness | None = None,
        **metadata: Metadata,
    ) -> None:
        """Declares the variables.

        Args:
          spec: the normalizer, for example ``BatchNorm()``.
          num_features: number of features, or the shape of scale, bias and statistics (``spec.param_shape``).
          use_running_average: whether to use running statistics (True), or those of the batch, which then update the
            running ones. ``train()``, ``eval()`` and ``nnx.view`` switch it; normalizers without running statistics
            ignore it.
          dtype: dtype of the result; None takes that of the data. Statistics are computed from the data as they are, in
            at least float32.
          param_dtype: dtype of scale and bias, and of running statistics, which are in at least float32; None leaves
            both to the normalizer.
          rngs: randomness for initializers, from the stream ``params``; a normalizer that starts with numbers needs
            none.
          **metadata: metadata of variables, as ``scale_metadata={"out_sharding": ("model",)}``.
        """
        check_normalizer("Norm", "spec", spec)
        if dtype is not None:
            validate.floating_dtype("Norm", "dtype", dtype)
        self.spec = spec
        self.param_shape = (num_features,) if isinstance(num_features, int) else tuple(num_features)
        self.use_running_average = use_running_average
        self.dtype = dtype
        stored = {} if param_dtype is None else {"dtype": param_dtype}
        wide = {name: statistics_dtype(value) for name, value in stored.items()}
        key = jax.random.key(0) if rngs is None else variables.key("Norm", rngs, "params")
        params = fresh(spec, self.param_shape, key=key, **stored)
        running = spec.initial_stats(self.param_shape, **wide)
        variables.declare(self, params, running, metadata)

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
          use_running_average: overrides the attribute.
          mask: True on real data, broadcastable to ``x``; masked elements give zeros and enter no statistics.

        Returns:
          An array like ``x``, in ``dtype`` if the module has one.

        Raises:
          ValueError: the features of ``x`` do not fit the module, or ``use_running_average`` is None everywhere.
        """
        check_data("Norm", "x", x, mask)
        check_batch_axis("Norm", self.spec, x.shape)
        shape = self.spec.param_shape(x.shape)
        if shape != self.param_shape:
            raise ValueError(
                f"Norm: x with shape {x.shape} has features of shape {shape}, but the module was made for "
                f"{self.param_shape}. Pass num_features={shape} to the constructor, or another axis to the normalizer."
            )
        params = variables.read(self, norm_template(self.spec, shape))
        running = variables.statistics(self)
        x = data_in(x, self.dtype)
        if variables.use_running(self, running, use_running_average):
            return result_in(self.spec(params, x, running, mask)[0], self.dtype)
        y, measured = self.spec.train(params, x, running, mask)
        variables.write(self, self.spec.update_running(running, measured))
        return result_in(y, self.dtype)

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Sets the attributes that ``nnx.view`` passes, unless None."""
        variables.set_view(self, use_running_average)
