"""The normalizer that does nothing. It fills unused sites, so that cells do not need a special case."""

import dataclasses
from typing import final

import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Bool, DTypeLike, Float, Real
from jaxnorm.norms.base import Key, Params, Stateless, Stats


@final
@dataclasses.dataclass(frozen=True)
class Identity(Stateless):
    r"""Returns its input: :math:`y = x`.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> jaxnorm.Identity()((), jnp.array([1.0, 2.0]))
      (Array([1., 2.], dtype=float32), ())
    """

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """No parameters: ``()``."""
        return ()

    def init(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32, *, key: Key | None = None) -> Params:
        """No parameters: ``()``."""
        return ()

    def __call__(
        self,
        params: Params,
        x: Real[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Returns ``x``, with zeros where the mask is False."""
        x = validate.real("Identity", "x", x)
        return (x if where is None else jnp.where(where, x, jnp.zeros((), x.dtype))), ()

    def check_site(self, caller: str) -> None:
        """Accepts every site."""
