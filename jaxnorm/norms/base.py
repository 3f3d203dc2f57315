"""The protocol of normalizers, and the checks of what callers pass to them.

A normalizer is a frozen, hashable dataclass of hyper-parameters. Its parameters are a plain NamedTuple of arrays. Its
methods are pure, and call a plain function of arrays.
"""

import inspect
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import jax.numpy as jnp

from jaxnorm._base import objects, validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Bool, DTypeLike, Float, PRNGKeyArray, PyTree, Real, Shaped

Params: TypeAlias = PyTree
"""The parameters of a normalizer: :class:`Affine`, or ``()`` if it has none."""

Key: TypeAlias = PRNGKeyArray | Shaped[Array, "2"]

Stats: TypeAlias = PyTree
"""Statistics that outlive a call: :class:`Moments` for batch statistics, ``()`` if there are none."""


class Affine(NamedTuple):
    """Scale (gain) and bias (shift) after a normalization; None if the spec does not use one."""

    scale: Float[Array, "..."] | None
    bias: Float[Array, "..."] | None


@runtime_checkable
class Normalizer(Protocol):
    """The protocol of all normalizers. All have the same signatures, so that no caller has to branch on the kind.

    A normalizer may also have the members of :class:`Reducible`, with which cells compute less. Without them they call
    the normalizer as it is.
    """

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of scale, bias and running statistics for data of the given shape."""
        ...

    def init(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Params:
        """Fresh parameters for features of the given shape (see :meth:`param_shape`).

        A normalizer that draws them has the keyword ``key``, with a default; :func:`fresh` then passes one.
        """
        ...

    def initial_stats(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Stats:
        """Running statistics before any data: mean 0, variance 1, count 0; or ``()``.

        They keep their dtype when they are updated, whatever the dtype of the data. For more digits pass float64.
        """
        ...

    def __call__(
        self,
        params: Params,
        x: Real[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Normalizes ``x`` with the given statistics, or, if ``stats`` is None, with statistics measured from ``x``.

        The second result holds the statistics it measured (or used); ``()`` for normalizers without running statistics.
        """
        ...

    def train(
        self,
        params: Params,
        x: Real[Array, "..."],
        running: Stats,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Normalizes in training; returns the output and the measured statistics.

        For most normalizers this is ``self(params, x, None, where)``. Some, such as batch renormalization, use the
        running statistics in training too.
        """
        ...

    def update_running(self, running: Stats, measured: Stats) -> Stats:
        """Updates running statistics with the measured ones of a call, by the rule of the spec."""
        ...

    def check_site(self, caller: str) -> None:
        """Raises ValueError unless the normalizer works on one trailing feature axis, as the sites of a cell need."""
        ...


@runtime_checkable
class Reducible(Protocol):
    """What a normalizer may tell a cell, which then computes less. Specs that are made of a function all have it.

    It is separate from :class:`Normalizer`, so that a class with only those methods is a normalizer, too. The cell then
    calls it as it is.
    """

    @property
    def subtracts_feature_mean(self) -> bool:
        """Whether the normalizer subtracts the mean over the last axis, all of which lies on one device.

        A caller who centers the data beforehand, or the kernel that makes them, uses :meth:`without_mean` instead.
        """
        ...

    def without_mean(self) -> Normalizer:
        """The normalizer, with the same weights, for data whose mean over the features is zero already."""
        ...

    @property
    def adds_bias_last(self) -> bool:
        """Whether the weights have a field ``bias`` that is only added at the end, so that a caller may add it."""
        ...


@runtime_checkable
class ReusesMoments(Protocol):
    """What a normalizer may offer for the backward pass of a cell: moments that need not be measured again."""

    def normalize_and_keep(
        self, params: Params, x: Float[Array, "..."], where: Bool[Array, "..."] | None = None
    ) -> tuple[Float[Array, "..."], Stats]:
        """Normalizes in training; the moments hold all that ``normalize_again`` needs of the batch."""
        ...

    def normalize_again(
        self, params: Params, x: Float[Array, "..."], kept: Stats, where: Bool[Array, "..."] | None = None
    ) -> tuple[Float[Array, "..."], Stats]:
        """Normalizes with moments that an earlier call kept of ``x``, and differentiates as if it measured."""
        ...


def fresh(norm: Normalizer, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32, *, key: Key) -> Params:
    """Makes the weights of any normalizer, and passes the key to one that takes it."""
    if "key" in inspect.signature(norm.init).parameters:
        return norm.init(shape, dtype, key=key)  # type: ignore[call-arg]  # beyond the protocol
    return norm.init(shape, dtype)


def check_normalizer(caller: str, name: str, value: Any) -> None:
    """Raises TypeError, and says what it got, unless ``value`` is a normalizer."""
    objects.require(caller, name, value, Normalizer, objects.NORMALIZER)


def check_data(caller: str, name: str, x: Any, mask: Any) -> None:
    """Checks the arguments of a Flax module, by their Flax names: data, and a mask that broadcasts to them."""
    validate.real(caller, name, x)
    if mask is not None:
        validate.boolean(caller, "mask", mask)
        validate.broadcastable(caller, "mask", jnp.shape(mask), x.shape)


def init_affine(
    shape: tuple[int, ...],
    dtype: DTypeLike,
    scale_init: float | None,
    bias_init: float | None,
) -> Affine:
    """Fills affine parameters with the given values; None omits one."""

    def full(value: float | None) -> Array | None:
        return None if value is None else jnp.full(shape, value, dtype)

    return Affine(full(scale_init), full(bias_init))


Weights = TypeVar("Weights")


def weights_of(params: Any, kind: type[Weights], caller: str) -> Weights:
    """Checks that parameters passed to a spec are the NamedTuple that its ``init`` makes."""
    if not isinstance(params, kind):
        fields = ", ".join(kind._fields)  # type: ignore[attr-defined]  # a NamedTuple
        raise TypeError(
            f"{caller}: params must be {kind.__name__}({fields}) as made by init(shape), got "
            f"{objects.describe(params)}. {objects.restore(params, 'params', kind.__name__, 'norm.init(shape)')}"
        )
    return params


def affine_of(params: Any, caller: str) -> Affine:
    """Checks the parameters of a spec that has only scale and bias."""
    return weights_of(params, Affine, caller)


class TrainsByMeasuring:
    """``train`` for normalizers that measure their input and do not need running statistics in training."""

    def train(
        self,
        params: Params,
        x: Real[Array, "..."],
        running: Stats,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """``self(params, x, None, where)``: the running statistics are for inference only."""
        trained: tuple[Array, Stats] = self(params, x, None, where)  # type: ignore[operator]  # it is a Normalizer
        return trained


class Stateless(TrainsByMeasuring):
    """The statistics methods of all normalizers without running statistics."""

    def initial_stats(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Stats:
        """No running statistics: ``()``."""
        return ()

    def update_running(self, running: Stats, measured: Stats) -> Stats:
        """Nothing to update: ``()``."""
        return ()
