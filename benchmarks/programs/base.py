"""What a program is, and how a JAX program becomes something that can be timed."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.shapes import Shape

DIRECTIONS = ("forward", "gradient")
DTYPES = ("float32", "bfloat16")
Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
EPSILON = 1e-5
MOMENTUM = 0.99


class Unsupported(Exception):  # noqa: N818 - it is an answer, not a fault
    """A library cannot build what was asked for; the message says why."""


class Prepared(NamedTuple):
    """A program that is ready to be timed: ``run`` returns its results when they are there."""

    run: Callable[[], Any]
    compile_s: float | None = None
    xla_temp_bytes: int | None = None


class Program(Protocol):
    """A model of some library with its weights and data."""

    order: tuple[int, ...]
    """Axes of the canonical layout (time, batch, features; or features last) in the order of this library's own."""

    def prepare(self, direction: str) -> Prepared:
        """Compiles one direction. "gradient" is that of sum(outputs * cotangent) for parameters and inputs."""
        ...


@dataclasses.dataclass(frozen=True)
class JaxProgram:
    """A pure function with its arguments.

    ``apply(params, state, xs) -> (outputs, new_state)``; the state holds running statistics, ``()`` where there are
    none. They are made in both directions, and nothing is differentiated with respect to them. Inputs and cotangent are
    drawn when they are first needed.
    """

    apply: Callable[[Any, Any, jax.Array], tuple[jax.Array, Any]]
    params: Any
    state: Any
    draw: Callable[[], tuple[Numbers, Numbers]]
    dtype: str
    order: tuple[int, ...]

    @functools.cached_property
    def data(self) -> tuple[jax.Array, ...]:
        """The inputs, and a cotangent of the outputs."""
        return tuple(jnp.asarray(a, self.dtype) for a in self.draw())

    @property
    def xs(self) -> jax.Array:
        """The inputs."""
        return self.data[0]

    def function(self, direction: str) -> Callable[..., Any]:
        """What is compiled, of ``(params, state, xs, cotangent)``."""
        return {"forward": self._forward, "gradient": self._gradient}[direction]

    def prepare(self, direction: str) -> Prepared:
        """Traces, lowers and compiles, which is timed together."""
        arguments = (self.params, self.state, *self.data)
        jax.clear_caches()  # what another program has traced must not save time here
        start = time.perf_counter()
        compiled = jax.jit(self.function(direction)).lower(*arguments).compile()
        seconds = time.perf_counter() - start
        analysis = compiled.memory_analysis()
        temporary = None if analysis is None else int(analysis.temp_size_in_bytes)
        return Prepared(lambda: jax.block_until_ready(compiled(*arguments)), seconds, temporary)

    def _forward(self, params: Any, state: Any, xs: jax.Array, cotangent: jax.Array) -> Any:
        del cotangent
        return self.apply(params, state, xs)

    def _gradient(self, params: Any, state: Any, xs: jax.Array, cotangent: jax.Array) -> Any:
        def objective(params: Any, xs: jax.Array) -> tuple[jax.Array, Any]:
            outputs, new_state = self.apply(params, state, xs)
            return jnp.sum(outputs * cotangent.astype(outputs.dtype)), new_state

        return jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)(params, xs)


def group_count(features: int) -> int:
    """Groups of the group norms: 32, with at least two features in each."""
    return min(32, features // 2)


TIME_MAJOR = (0, 1, 2)
BATCH_MAJOR = (1, 0, 2)


def features_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The order of axes of a library that has features last."""
    return tuple(range(len(shape)))


def features_second(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The order of axes of a library that has features after the batch axis."""
    return (0, len(shape) - 1, *range(1, len(shape) - 1))


def cell_data(shape: Shape, order: tuple[int, ...]) -> tuple[Numbers, Numbers]:
    """Inputs and a cotangent of the outputs, laid out in the given order; always the same numbers."""
    return (
        _numbers(0, (shape.steps, shape.batch, shape.inputs), order),
        _numbers(1, (shape.steps, shape.batch, shape.hidden), order),
    )


def norm_data(shape: tuple[int, ...], order: tuple[int, ...]) -> tuple[Numbers, Numbers]:
    """Data and a cotangent for a normalizer."""
    return 2 * _numbers(0, shape, order) + 1, _numbers(1, shape, order)


def _numbers(seed: int, shape: tuple[int, ...], order: tuple[int, ...]) -> Numbers:
    values = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return np.ascontiguousarray(values.transpose(order))


def cell_program(
    apply: Callable[[Any, Any, jax.Array], tuple[jax.Array, Any]],
    params: Any,
    shape: Shape,
    dtype: str,
    *,
    state: Any = (),
    order: tuple[int, ...] = TIME_MAJOR,
) -> JaxProgram:
    """A recurrent layer with its data."""
    return JaxProgram(apply, params, state, functools.partial(cell_data, shape, order), dtype, order)


def norm_program(
    apply: Callable[[Any, Any, jax.Array], tuple[jax.Array, Any]],
    params: Any,
    shape: tuple[int, ...],
    dtype: str,
    *,
    state: Any = (),
    order: tuple[int, ...] | None = None,
) -> JaxProgram:
    """A normalizer with its data."""
    order = order or features_last(shape)
    return JaxProgram(apply, params, state, functools.partial(norm_data, shape, order), dtype, order)


def stateless(
    function: Callable[[Any, jax.Array], jax.Array],
) -> Callable[[Any, Any, jax.Array], tuple[jax.Array, Any]]:
    """``function(params, xs)`` as an ``apply`` without running statistics."""
    return lambda params, state, xs: (function(params, xs), ())
