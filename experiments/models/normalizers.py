"""Normalizers of one's own that are made of one of the library."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

import jaxnorm as jn


@dataclasses.dataclass(frozen=True)
class Around:
    """A normalizer with weights, statistics and update rule of another one; what it computes is a subclass's own."""

    norm: jn.Normalizer

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of the inner normalizer."""
        return self.norm.param_shape(shape)

    def init(self, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Any:
        """The weights of the inner normalizer."""
        return self.norm.init(shape, dtype)

    def initial_stats(self, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Any:
        """The statistics of the inner normalizer."""
        return self.norm.initial_stats(shape, dtype)

    def __call__(self, params: Any, x: jax.Array, stats: Any = None, where: Any = None) -> tuple[jax.Array, Any]:
        """Normalizes; see the subclass."""
        return self.norm(params, x, stats, where)

    def train(self, params: Any, x: jax.Array, running: Any, where: Any = None) -> tuple[jax.Array, Any]:
        """Normalizes with statistics of the batch."""
        return self(params, x, None, where)

    def update_running(self, running: Any, measured: Any) -> Any:
        """The rule of the inner normalizer."""
        return self.norm.update_running(running, measured)

    def check_site(self, caller: str) -> None:
        """What the inner normalizer says."""
        self.norm.check_site(caller)


@dataclasses.dataclass(frozen=True)
class WrongConstant(Around):
    """Estimates a deviation that is ``factor`` times too large: the gain is divided by it, in each call."""

    factor: float = 1.0

    def __call__(self, params: Any, x: jax.Array, stats: Any = None, where: Any = None) -> tuple[jax.Array, Any]:
        """Normalizes with the wrong constant."""
        return self.norm(params._replace(scale=params.scale / self.factor), x, stats, where)
