"""Initializers ``(key, shape, dtype) -> array``: plain functions or frozen specs, so that cells stay hashable.

You can use any ``jax.nn.initializers`` callable instead.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import TypeAlias, final

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.specs import Readable
from jaxnorm._base.starts import check_initializer, checked_draw, filled
from jaxnorm._base.typing import Array, DTypeLike, Float, Initializer, PRNGKeyArray, Shaped
from jaxnorm.norms.core.moments import statistics_dtype


def lecun_normal(
    key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "I H"]:
    """Truncated normal with variance 1/I for a matrix (I, H); drawn in at least float32."""
    return jax.nn.initializers.lecun_normal()(key, tuple(shape), statistics_dtype(dtype)).astype(dtype)


def orthogonal(
    key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "I H"]:
    """A matrix (I, H) with orthonormal rows or columns (whichever are fewer); drawn in at least float32."""
    # Factorize one matrix after another under vmap: on CPUs, the batched factorization of jaxlib before 0.11.2 waits
    # for threads of the pool that it runs on itself, so two of them in one program can deadlock.
    draw = jax.custom_batching.sequential_vmap(  # type: ignore[no-untyped-call]
        lambda key: jax.nn.initializers.orthogonal()(key, tuple(shape), statistics_dtype(dtype)).astype(dtype)
    )
    drawn: Array = draw(key)
    return drawn


def eye(
    key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "I H"]:
    """The identity matrix (I, H), with zeros beyond the shorter side."""
    rows, columns = shape
    return jnp.eye(rows, columns, dtype=dtype)


def glorot_uniform(
    key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "I H"]:
    """Uniform within the root of 6 / (I + H), also called Xavier; drawn in at least float32."""
    return jax.nn.initializers.glorot_uniform()(key, tuple(shape), statistics_dtype(dtype)).astype(dtype)


def standard_normal(
    key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "I H"]:
    """Normal with variance one; drawn in at least float32."""
    return jax.random.normal(key, tuple(shape), statistics_dtype(dtype)).astype(dtype)


def truncated_fan_in(
    key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "I H"]:
    """Normal with deviation 1 / sqrt(I), truncated at two standard deviations, without rescaling; at least float32."""
    drawn = jax.random.truncated_normal(key, -2.0, 2.0, tuple(shape), statistics_dtype(dtype))
    return (drawn / math.sqrt(shape[0])).astype(dtype)


def uniform_fan_in(
    key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "I H"]:
    """Uniform within 1 / sqrt(I), the default of linear layers in Torch and PyTorch; drawn in at least float32."""
    limit = 1.0 / math.sqrt(shape[0])
    return jax.random.uniform(key, tuple(shape), statistics_dtype(dtype), -limit, limit).astype(dtype)


def uniform_or_orthogonal(
    key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "I H"]:
    """Orthogonal if I = H, else uniform in [-0.1, 0.1]: the input kernels in the code of layer normalization."""
    if shape[0] == shape[1]:
        return orthogonal(key, shape, dtype)
    return jax.random.uniform(key, tuple(shape), statistics_dtype(dtype), -0.1, 0.1).astype(dtype)


@final
@dataclasses.dataclass(frozen=True)
class Joint(Readable):
    """One draw (I, G H) for all gates together; otherwise a cell draws each gate (I, H) separately.

    In a tuple with one initializer per gate, the gates with the same ``Joint`` are drawn together.

    Attributes:
      init: initializer of the wide matrix.

    Example:
      >>> import jax, jaxnorm
      >>> wide = Joint(orthogonal)
      >>> cell = jaxnorm.LSTM(2, kernel_init=wide, recurrent_init=(wide, wide, eye, wide))
      >>> cell.init(jax.random.key(0), in_features=3).recurrent[:, 2].tolist()
      [[1.0, 0.0], [0.0, 1.0]]
    """

    init: Initializer


cooijmans_identity: tuple[Initializer | Joint, ...] = (Joint(orthogonal), Joint(orthogonal), eye, Joint(orthogonal))
"""``recurrent_init`` of an LSTM as in the code of recurrent batch normalization: the identity for the candidate g only,
and one matrix with orthonormal rows (H, 3H) for i, f and o together."""

GatesInitializer: TypeAlias = Initializer | Joint | tuple[Initializer | Joint, ...]
"""Initializers of all gates: one for each gate separately, one for all gates jointly, or a tuple with one per gate."""


def small_normal(
    key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "I H"]:
    """Normal with variance 2 / (5 I) for a matrix (I, H); drawn in at least float32."""
    return (jax.random.normal(key, tuple(shape), statistics_dtype(dtype)) * math.sqrt(0.4 / shape[0])).astype(dtype)


@final
@dataclasses.dataclass(frozen=True)
class Uniform(Readable):
    """Draws uniformly from an interval, in at least float32.

    Attributes:
      low: the lower end.
      high: the upper end.

    Example:
      >>> import jax, jaxnorm
      >>> bool((abs(jaxnorm.initializers.Uniform(-0.5, 0.5)(jax.random.key(0), (8,))) <= 0.5).all())
      True
    """

    low: float
    high: float

    def __call__(
        self, key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "..."]:
        """An array of the given shape."""
        return jax.random.uniform(key, tuple(shape), statistics_dtype(dtype), self.low, self.high).astype(dtype)


@final
@dataclasses.dataclass(frozen=True)
class Scaled(Readable):
    """Multiplies the values of another initializer by a number.

    Attributes:
      init: the other initializer.
      factor: the number; ``Scaled(eye, 0.01)`` is a hundredth of the identity, ``Scaled(orthogonal, 1.1)`` an
        orthogonal matrix with a gain.

    Example:
      >>> import jax, jaxnorm
      >>> jaxnorm.initializers.Scaled(eye, 0.5)(jax.random.key(0), (2, 2)).tolist()
      [[0.5, 0.0], [0.0, 0.5]]
    """

    init: Initializer
    factor: float

    def __call__(
        self, key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "..."]:
        """An array of the given shape; multiplied in at least float32."""
        drawn: Array = self.init(key, tuple(shape), statistics_dtype(dtype))
        return (drawn * self.factor).astype(dtype)


@final
@dataclasses.dataclass(frozen=True)
class PowerLaw(Readable):
    r"""Forget biases that spread the memory of a head's units from long to short; deterministic.

    .. math:: b_k = 5 - 12 \Bigl(\frac{k}{d - 1}\Bigr)^{0.3 + 1.3 r}, \qquad k = 0, \dots, d - 1

    along the last axis of length d (5 if d is one), as in the published code of xLSTM for its sLSTM.

    Attributes:
      ratio: r, the depth of the block among the B blocks of a model, block / (B - 1): 0 the first, 1 the last.

    Example:
      >>> import jax, jaxnorm
      >>> jaxnorm.initializers.PowerLaw(0.5)(jax.random.key(0), (3,)).astype(int).tolist()
      [5, -1, -7]
    """

    ratio: float = 0.0

    def __call__(
        self, key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "..."]:
        """An array of the given shape."""
        place = jnp.arange(shape[-1], dtype=statistics_dtype(dtype)) / max(shape[-1] - 1, 1)
        return jnp.broadcast_to(5.0 - 12.0 * place ** (0.3 + 1.3 * self.ratio), tuple(shape)).astype(dtype)


@final
@dataclasses.dataclass(frozen=True)
class Chrono(Readable):
    r"""Biases of gates that keep the state, for dependences of up to a given number of steps.

    .. math:: b = \log u, \qquad u \sim U(1, T - 1)

    A unit whose gate keeps :math:`\sigma(b) = u / (u + 1)` of the state forgets over u + 1 steps. The LSTM of the paper
    uses b for the forget gate, and minus the same numbers for the input gate:
    ``LSTM(H, forget_bias=Chrono(T), input_bias="opposite")``. A GRU uses it for an update gate that keeps the state,
    ``GRU(H, update_bias=Chrono(T))``. If the gate renews the state (``update_gate="renew"``, also in ``ln_gru``, and
    :class:`MinGRU`), use ``Chrono(T, opposite=True)``. Drawn in at least float32.

    Attributes:
      max_steps: T, the range of the dependences you expect; at least 2.
      opposite: whether to flip the sign, for gates that renew the state.

    Raises:
      ValueError: ``max_steps`` is less than 2.

    Example:
      >>> import jax, jaxnorm
      >>> cell = jaxnorm.LSTM(8, forget_bias=jaxnorm.initializers.Chrono(100), input_bias="opposite")
      >>> i, f, _, _ = jax.numpy.split(cell.init(jax.random.key(0), in_features=3).bias, 4)
      >>> bool((i == -f).all()), bool(((f >= 0) & (f <= jax.numpy.log(99.0))).all())
      (True, True)

    Reference:
      C. Tallec, Y. Ollivier, "Can Recurrent Neural Networks Warp Time?", 2018, arXiv:1804.11188.
    """

    max_steps: int
    opposite: bool = False

    def __post_init__(self) -> None:
        if validate.positive_int("Chrono", "max_steps", self.max_steps) < 2:
            raise ValueError(f"Chrono: max_steps must be at least 2, got {self.max_steps}. U(1, T - 1) is empty else.")

    def __call__(
        self, key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "..."]:
        """An array of the given shape."""
        b = jnp.log(jax.random.uniform(key, tuple(shape), statistics_dtype(dtype), 1.0, self.max_steps - 1.0))
        return (-b if self.opposite else b).astype(dtype)


def vector(
    init: float | Initializer, key: Array, gates: int, size: int, dtype: DTypeLike, place: str = "bias_init"
) -> Float[Array, " GH"]:
    """Draws a flat vector (G*H,), each gate (H,) separately, or fills it with a number."""
    keys = jax.random.split(key, gates)
    return jnp.concatenate([filled(init, each, (size,), dtype, place) for each in keys])


def check_gates_initializer(caller: str, name: str, init: GatesInitializer, gates: int) -> None:
    """Raises TypeError or ValueError unless ``init`` is one initializer, or a tuple with one for each gate."""
    for one in init if isinstance(init, tuple) else (init,):
        check_initializer(caller, name, one.init if isinstance(one, Joint) else one)
    if isinstance(init, tuple) and len(init) != gates:
        raise ValueError(
            f"{caller}: {name} has {len(init)} initializers, expected one, or one for each of the {gates} gates."
        )


def blocks(
    init: GatesInitializer, key: Array, shape: tuple[int, int], gates: int, dtype: DTypeLike, place: str = "kernel_init"
) -> Float[Array, "I G H"]:
    """Draws each gate and stacks them to (I, G, H); ``init`` is one initializer for all gates, or a tuple of them."""
    keys = jax.random.split(key, gates)
    if not isinstance(init, tuple | Joint):
        return jax.vmap(lambda k: checked_draw(init, k, shape, dtype, place), out_axes=1)(keys)
    each = init if isinstance(init, tuple) else (init,) * gates
    made: dict[int, Array] = {}
    for gate, one in enumerate(each):
        if not isinstance(one, Joint):
            made[gate] = checked_draw(one, keys[gate], shape, dtype, place)
        elif gate not in made:
            together = [g for g in range(gates) if each[g] == one]
            wide = checked_draw(one.init, keys[gate], (shape[0], len(together) * shape[1]), dtype, place)
            made |= dict(zip(together, jnp.split(wide, len(together), axis=1), strict=True))
    return jnp.stack([made[gate] for gate in range(gates)], axis=1)
