"""The protocol of a cell: pure methods, called in the order of the data, and normalizers at named sites.

``init`` and ``initial_carry`` make the weights and the first carry. Then ``prepare`` (weights, once a sequence) ->
``sample`` (masks, once a sequence) -> ``project`` (inputs, all steps at once) -> ``recur`` (the recurrent product of a
step) -> ``step`` (element-wise work and norms). ``update_running`` follows after the loop. A cell contains no loop: the
engine has the only one.
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
"""The weights of a cell as ``prepare`` returns them, for a whole sequence."""

Carry: TypeAlias = PyTree
C = TypeVar("C")
Key: TypeAlias = PRNGKeyArray | Shaped[Array, "2"]


class CellNorms(NamedTuple):
    """One entry for each site of a cell, the places where it can normalize: specs, weights, statistics or moments.

    ``input`` is the projected input, ``recurrent`` the recurrent product, and ``cell`` the argument of the output
    nonlinearity (c of an LSTM, the summed input of an Elman cell). ``summed`` is the sum of both products, and
    ``projection`` the output of a cell that projects it. ``()`` marks a site without a normalizer.
    """

    input: Any = ()
    recurrent: Any = ()
    cell: Any = ()
    summed: Any = ()
    projection: Any = ()


UNKNOWN = CellNorms(None, None, None, None, None)
"""Statistics in training: None at each site tells its normalizer to measure the batch."""


class CountedCarry(NamedTuple):
    """A carry together with the number of steps that each example has run since its sequence began.

    A cell with separate statistics for each time step carries this count, so that you can split a sequence over
    several calls. You can read the fields of the inner carry directly: ``timed.h``.
    """

    carry: Any
    step: Int[Array, "*B"]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.carry, name)


@runtime_checkable
class Cell(Protocol):
    """The protocol of all recurrent cells: frozen, hashable specs with methods for any leading batch shape."""

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
        """Number of rows of the running statistics, one per time step; the last row serves all later steps."""
        ...

    @property
    def sites(self) -> CellNorms:
        """The normalizers at all sites; Identity at a site without one."""
        ...

    @property
    def dtype(self) -> DTypeLike | None:
        """The compute dtype; None promotes inputs and weights."""
        ...

    def init(self, key: Key, in_features: int) -> Params:
        """Makes fresh weights for inputs with I features."""
        ...

    def initial_stats(self, dtype: DTypeLike | None = None) -> Stats:
        """Makes running statistics before any data: CellNorms with rows of Moments, ``()`` at sites without statistics.

        ``update_running`` keeps their dtype. None takes the dtype of the weights, at least float32.
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
        """Makes the carry before the first step: the learned one if the weights hold one, else zeros."""
        ...

    def prepare(self, params: Params, dtype: DTypeLike | None = None) -> Ready:
        """Does the work on the weights that is needed once a sequence."""
        ...

    def sample(self, ready: Ready, batch_shape: tuple[int, ...], key: Key | None) -> Ready:
        """Draws the masks that all steps of a sequence share, and adds them to the weights."""
        ...

    def project(
        self, ready: Ready, xs: Float[Array, "T *B I"], stats: Stats | None, where: Bool[Array, "T *B"] | None
    ) -> tuple[Float[Array, "..."], Stats]:
        """Computes everything that does not depend on the carry, for all steps at once: normalized input products.

        Statistics, whether given or measured, have a leading axis of steps.
        """
        ...

    def recur(self, ready: Ready, carry: Carry) -> Float[Array, "..."]:
        """Computes the recurrent product, linear in the weights and in the carry: the engine transposes it."""
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
        """Does the rest of a step: element-wise work and norms."""
        ...

    def update_running(self, stats: Stats, moments: Stats) -> Stats:
        """Folds the moments of a call into running statistics, by the rule of each site's normalizer."""
        ...


@runtime_checkable
class LinearCell(Cell, Protocol):
    """A cell whose carry is linear in the previous one, entry by entry; it can run over all steps at once."""

    def coefficients(self, ready: Ready, zs: Float[Array, "..."]) -> tuple[Carry, Carry]:
        """Computes decay and increment, shaped like the carry, from the output of ``project`` for any number of steps.

        ``step`` turns the carry into ``decay * carry + increment``.
        """
        ...


def check_cell(caller: str, name: str, value: Any) -> None:
    """Raises TypeError unless ``value`` is a cell; the message names the value it got."""
    _objects.require(caller, name, value, Cell, _objects.CELL)


def resolve_sites(
    caller: str, norm: Normalizer | CellNorms, has: tuple[str, ...], more: tuple[str, ...] = ()
) -> CellNorms:
    """Returns a spec for each site: a single normalizer goes to every site in ``has``, all other sites get Identity."""
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
    """Replaces the dtype fields of a spec by real dtypes (or None), so that equal specs compare equal."""
    for name in ("dtype", "param_dtype", "carry_dtype"):
        value = getattr(cell, name)
        object.__setattr__(cell, name, None if value is None else jnp.dtype(value))


def over_steps(
    normalize: Callable[[Array, Stats | None, Array | None], tuple[Array, Stats]],
    xs: Float[Array, "T *B F"],
    stats: Stats | None,
    where: Bool[Array, "T *B"] | None,
) -> tuple[Float[Array, "T *B F"], Stats]:
    """Applies the normalization of one step to each of many steps: batch statistics never mix steps."""
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
    """Makes fresh weights for all sites."""
    return CellNorms(*(spec.init(shape, dtype) for spec, shape in zip(norm, shapes, strict=True)))


def site_stats(norm: CellNorms, shapes: CellNorms, rows: int, dtype: DTypeLike) -> CellNorms:
    """Makes running statistics for all sites: each normalizer's initial ones, repeated in ``rows`` rows."""

    def repeat(leaf: Array) -> Array:
        return jnp.broadcast_to(leaf, (rows, *leaf.shape))

    first = (spec.initial_stats(shape, dtype) for spec, shape in zip(norm, shapes, strict=True))
    return CellNorms(*(jax.tree.map(repeat, stats) for stats in first))


def fold_sites(norm: CellNorms, stats: CellNorms, moments: CellNorms) -> CellNorms:
    """Folds the moments of all sites into their running statistics."""
    for name, value, line in (("stats", stats, "cell.initial_stats()"), ("moments", moments, "unroll(...).moments")):
        if not isinstance(value, CellNorms):
            raise TypeError(
                f"update_running: {name} of a cell must be CellNorms, such as {line}, got {_objects.describe(value)}. "
                f"{_objects.restore(value, name, 'CellNorms', line)}"
            )
    return CellNorms(*(spec.update_running(s, m) for spec, s, m in zip(norm, stats, moments, strict=True)))


def combine_sites(a: CellNorms, b: CellNorms) -> CellNorms:
    """Merges two records: at each site it takes the entry that is not ``()``."""
    return CellNorms(*(y if isinstance(x, tuple) and x == () else x for x, y in zip(a, b, strict=True)))


def add_bias(x: Float[Array, "..."], bias: Float[Array, "..."] | None) -> Float[Array, "..."]:
    """``x + bias`` in the dtype of ``x``; None adds nothing."""
    return x if bias is None else x + align(bias, x)


def align(weights: Float[Array, "..."], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Casts weights for the last axes of ``x`` to its dtype and adds leading axes of size 1."""
    return weights.astype(x.dtype).reshape((1,) * (x.ndim - weights.ndim) + weights.shape)


def learned_carry(caller: str, params: Params | None) -> Any:
    """Returns the initial carry among the weights of a cell; None if it is not learned or there are no weights."""
    if params is not None and not hasattr(params, "carry"):
        raise TypeError(
            f"{caller}: params must be the weights of the cell, as cell.init makes them, got "
            f"{_objects.describe(params)}. "
            f"{_objects.restore(params, 'params', caller.split('.')[0] + 'Params', 'cell.init(key, in_features)')}"
        )
    return None if params is None else params.carry


def compute_dtype(cell: Cell, params: Params, x_dtype: Any) -> DType:
    """Returns the dtype of products and outputs: the cell's, else the promotion of inputs and kernels."""
    if cell.dtype is not None:
        return jnp.dtype(cell.dtype)
    # dtype=None asks for promotion, so it must work in strict mode too, which refuses bfloat16 with float32.
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(x_dtype, params.kernel.dtype)


def initial_entry(learned: Array | None, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Makes one entry of the initial carry: the learned values, broadcast to every example, or zeros."""
    return jnp.zeros(shape, dtype) if learned is None else jnp.broadcast_to(learned.astype(dtype), shape)


def add_noise(caller: str, h: Array, deviation: float, key: Key | None) -> Array:
    """Adds independent Gaussian noise to the initial state of each example."""
    if deviation == 0.0:
        return h
    if key is None:
        raise ValueError(
            f"{caller}: initial_noise={deviation} needs randomness, but key is None. "
            "Pass key=jax.random.key(...), in evaluation too, or an initial carry."
        )
    return h + jnp.asarray(deviation, h.dtype) * jax.random.normal(key, h.shape, h.dtype)


def timed(carry: C, batch_shape: tuple[int, ...], max_steps: int) -> C | CountedCarry:
    """Adds a step count to the carry if there are separate statistics for each step."""
    return CountedCarry(carry, jnp.zeros(batch_shape, jnp.int32)) if max_steps > 1 else carry


def check_common(caller: str, cell: Any) -> None:
    """Checks the hyper-parameters that all cells share."""
    _validate.positive_int(caller, "hidden_features", cell.hidden_features)
    _validate.positive_int(caller, "max_steps", cell.max_steps)
    _validate.in_range(caller, "initial_noise", cell.initial_noise, 0.0, float("inf"))
