"""What every cell is: five pure verbs, in the order of the data, and normalizers at named sites.

``prepare`` (weights, once) -> ``project`` (inputs, all steps) -> ``recur`` (the recurrent product) -> ``step``
(element-wise work and norms), and ``initial_carry``. A cell contains no loop: the engine has the only one.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp

from jaxnorm import _objects, _validate
from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, Bool, DType, DTypeLike, Float, Int, PRNGKeyArray, PyTree, Shaped
from jaxnorm.norms.base import Normalizer, Params, Stats, check_normalizer
from jaxnorm.norms.identity import Identity

Ready: TypeAlias = PyTree
"""The weights of a cell as ``prepare`` leaves them for a whole sequence."""

Carry: TypeAlias = PyTree
C = TypeVar("C")
Key: TypeAlias = PRNGKeyArray | Shaped[Array, "2"]


class CellNorms(NamedTuple):
    """One thing for each place in a cell where a normalizer can stand: specs, weights, statistics or moments.

    ``input`` is the projected input, ``recurrent`` the recurrent product, and ``cell`` the argument of the output
    nonlinearity (c of an LSTM, the summed input of an Elman cell). ``summed`` is the sum of both products, and
    ``projection`` the output of a cell that projects it. ``()`` marks a site without one.
    """

    input: Any = ()
    recurrent: Any = ()
    cell: Any = ()
    summed: Any = ()
    projection: Any = ()


UNKNOWN = CellNorms(None, None, None, None, None)
"""Statistics that are to be measured, at each site."""


class CountedCarry(NamedTuple):
    """A carry together with the number of steps that each example has gone through since its sequence began.

    Cells with statistics of their own for each time step carry this count, so that a sequence may be handed on
    between calls. The fields of the inner carry can be read directly: ``timed.h``.
    """

    carry: Any
    step: Int[Array, "*B"]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.carry, name)


@runtime_checkable
class Cell(Protocol):
    """The protocol of all recurrent cells: frozen, hashable specs whose verbs accept any leading batch shape."""

    @property
    def hidden_features(self) -> int:
        """H, the number of hidden features."""
        ...

    @property
    def out_features(self) -> int:
        """Number of features of the outputs."""
        ...

    @property
    def max_steps(self) -> int:
        """Number of rows of the running statistics, one a time step, the last one for all later steps."""
        ...

    @property
    def sites(self) -> CellNorms:
        """The normalizers at all sites, Identity at those without one."""
        ...

    @property
    def dtype(self) -> DTypeLike | None:
        """The compute dtype; None promotes inputs and weights."""
        ...

    def init(self, key: Key, in_features: int) -> Params:
        """Fresh weights for inputs with I features."""
        ...

    def initial_stats(self, dtype: DTypeLike | None = None) -> Stats:
        """Running statistics before any data: CellNorms with rows of Moments, ``()`` at sites without.

        They keep their dtype when they are folded; None takes that of the weights, at least float32.
        """
        ...

    def initial_carry(
        self,
        batch_shape: tuple[int, ...],
        *,
        params: Params | None = None,
        key: Key | None = None,
        dtype: DTypeLike | None = None,
    ) -> Carry:
        """The carry before the first step: learned if the weights hold one, else zeros."""
        ...

    def prepare(self, params: Params, dtype: DTypeLike | None = None) -> Ready:
        """Everything about the weights that is done once a sequence."""
        ...

    def sample(self, ready: Ready, batch_shape: tuple[int, ...], key: Key | None) -> Ready:
        """Draws what is random for a whole sequence (masks that all steps share) and puts it among the weights."""
        ...

    def project(
        self, ready: Ready, xs: Float[Array, "T *B I"], stats: Stats | None, where: Bool[Array, "T *B"] | None
    ) -> tuple[Float[Array, "..."], Stats]:
        """What does not depend on the carry, for all steps at once: input products and their normalization.

        Statistics, given or measured, have a leading axis of steps.
        """
        ...

    def recur(self, ready: Ready, carry: Carry) -> Float[Array, "..."]:
        """The recurrent product, linear in the weights and in the carry."""
        ...

    def step(
        self,
        ready: Ready,
        carry: Carry,
        z_t: Float[Array, "..."],
        a_t: Float[Array, "..."],
        stats_t: Stats | None,
        where_t: Bool[Array, "*B"] | None,
        key_t: Key | None,
    ) -> tuple[Carry, Float[Array, "*B H"], Stats]:
        """The rest of a step: element-wise work and norms."""
        ...

    def update_running(self, stats: Stats, moments: Stats) -> Stats:
        """Folds the moments of a call into running statistics, by the rule of each site's normalizer."""
        ...


@runtime_checkable
class LinearCell(Cell, Protocol):
    """A cell whose carry is linear in the one before, entry by entry; it can run over all steps at once."""

    def coefficients(self, ready: Ready, zs: Float[Array, "..."]) -> tuple[Carry, Carry]:
        """Decay and increment of the carry, shaped like it, from what ``project`` gave for any number of steps.

        ``step`` makes ``decay * carry + increment`` of the carry.
        """
        ...


def check_cell(caller: str, name: str, value: Any) -> None:
    """Raises TypeError, which says what came instead, unless ``value`` is a cell."""
    _objects.require(caller, name, value, Cell, _objects.CELL)


def resolve_sites(
    caller: str, norm: Normalizer | CellNorms, has: tuple[str, ...], more: tuple[str, ...] = ()
) -> CellNorms:
    """Specs for all sites: one normalizer stands at every site in ``has``, unnamed sites get Identity."""
    if not isinstance(norm, CellNorms):
        check_normalizer(caller, "norm", norm)
        norm = CellNorms(**dict.fromkeys(has, norm))
    filled = CellNorms(*(Identity() if spec == () else spec for spec in norm))
    for name, spec in zip(CellNorms._fields, filled, strict=True):
        check_normalizer(caller, f"norm.{name}", spec)
        if name not in has + more and spec != Identity():
            there = ", ".join(map(repr, has + more)) or "none"
            raise ValueError(f"{caller}: there is no site {name!r}, only {there}. Leave it out.")
        spec.check_site(f"{caller}: norm.{name}")
    return filled


def settle_dtypes(cell: Any) -> None:
    """Makes the dtype fields of a spec comparable: a real dtype, or None."""
    for name in ("dtype", "param_dtype", "carry_dtype"):
        value = getattr(cell, name)
        object.__setattr__(cell, name, None if value is None else jnp.dtype(value))


def over_steps(
    normalize: Callable[[Array, Stats | None, Array | None], tuple[Array, Stats]],
    xs: Float[Array, "T *B F"],
    stats: Stats | None,
    where: Bool[Array, "T *B"] | None,
) -> tuple[Float[Array, "T *B F"], Stats]:
    """Applies the normalization of a step to each of many: what is measured over a batch does not mix them."""
    normalized: tuple[Array, Stats] = jax.vmap(normalize)(xs, stats, where)
    return normalized


def normalize_features(
    norm: Normalizer,
    params: Params,
    x: Float[Array, "*B H"],
    stats: Stats | None,
    where: Bool[Array, "*B"] | None,
) -> tuple[Float[Array, "*B H"], Stats]:
    """Applies a normalizer to the features of a step."""
    if norm == Identity():
        return x, ()
    return norm(params, x, stats, None if where is None else where[..., None])


def site_params(norm: CellNorms, shapes: CellNorms, dtype: DTypeLike) -> CellNorms:
    """Fresh weights of all sites."""
    return CellNorms(*(spec.init(shape, dtype) for spec, shape in zip(norm, shapes, strict=True)))


def site_stats(norm: CellNorms, shapes: CellNorms, rows: int, dtype: DTypeLike) -> CellNorms:
    """Running statistics of all sites: what each normalizer starts with, repeated in ``rows`` rows."""

    def repeat(leaf: Array) -> Array:
        return jnp.broadcast_to(leaf, (rows, *leaf.shape))

    first = (spec.initial_stats(shape, dtype) for spec, shape in zip(norm, shapes, strict=True))
    return CellNorms(*(jax.tree.map(repeat, stats) for stats in first))


def fold_sites(norm: CellNorms, stats: CellNorms, moments: CellNorms) -> CellNorms:
    """Folds the moments of all sites."""
    for name, value, line in (("stats", stats, "cell.initial_stats()"), ("moments", moments, "unroll(...).moments")):
        if not isinstance(value, CellNorms):
            raise TypeError(
                f"update_running: {name} of a cell must be CellNorms, such as {line}, got {_objects.describe(value)}. "
                f"{_objects.restore(value, name, 'CellNorms', line)}"
            )
    return CellNorms(*(spec.update_running(s, m) for spec, s, m in zip(norm, stats, moments, strict=True)))


def combine_sites(a: CellNorms, b: CellNorms) -> CellNorms:
    """The one entry at each site that is not ``()``."""
    return CellNorms(*(y if isinstance(x, tuple) and x == () else x for x, y in zip(a, b, strict=True)))


def add_bias(x: Float[Array, "..."], bias: Float[Array, "..."] | None) -> Float[Array, "..."]:
    """``x + bias`` in the dtype of ``x``; None adds nothing."""
    return x if bias is None else x + align(bias, x)


def align(weights: Float[Array, "..."], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Weights of the last axes of ``x`` in its dtype, with axes of size 1 for the others."""
    return weights.astype(x.dtype).reshape((1,) * (x.ndim - weights.ndim) + weights.shape)


def learned_carry(caller: str, params: Params | None) -> Any:
    """The initial carry among the weights of a cell; None where it is not learned, and without weights."""
    if params is not None and not hasattr(params, "carry"):
        raise TypeError(
            f"{caller}: params must be the weights of the cell, as cell.init makes them, got "
            f"{_objects.describe(params)}. "
            f"{_objects.restore(params, 'params', caller.split('.')[0] + 'Params', 'cell.init(key, in_features)')}"
        )
    return None if params is None else params.carry


def compute_dtype(cell: Cell, params: Params, x_dtype: Any) -> DType:
    """The dtype of the products and of the outputs: the cell's, or what inputs and kernels promote to."""
    if cell.dtype is not None:
        return jnp.dtype(cell.dtype)
    # Asked for, so also where the user has set promotion to strict, which refuses bfloat16 beside float32.
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(x_dtype, params.kernel.dtype)


def initial_entry(learned: Array | None, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """One entry of a carry before the first step: what was learned, for every example, or zeros."""
    return jnp.zeros(shape, dtype) if learned is None else jnp.broadcast_to(learned.astype(dtype), shape)


def add_noise(caller: str, h: Array, deviation: float, key: Key | None) -> Array:
    """Adds Gaussian noise to an initial state, for each example apart."""
    if deviation == 0.0:
        return h
    if key is None:
        raise ValueError(
            f"{caller}: initial_noise={deviation} needs randomness, but key is None. "
            "Pass key=jax.random.key(...), in evaluation too, or an initial carry."
        )
    return h + jnp.asarray(deviation, h.dtype) * jax.random.normal(key, h.shape, h.dtype)


def timed(carry: C, batch_shape: tuple[int, ...], max_steps: int) -> C | CountedCarry:
    """Adds the count of steps where there are statistics for each of them."""
    return CountedCarry(carry, jnp.zeros(batch_shape, jnp.int32)) if max_steps > 1 else carry


def check_common(caller: str, cell: Any) -> None:
    """The checks of the hyper-parameters that all cells share."""
    _validate.positive_int(caller, "hidden_features", cell.hidden_features)
    _validate.positive_int(caller, "max_steps", cell.max_steps)
    _validate.in_range(caller, "initial_noise", cell.initial_noise, 0.0, float("inf"))
