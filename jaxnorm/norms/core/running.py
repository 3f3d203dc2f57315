"""Statistics across batches: running averages, and population statistics of a data set."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base import objects, validate
from jaxnorm._base.typing import Array, PyTree
from jaxnorm.norms.core.moment_trees import is_moments, map_moments
from jaxnorm.norms.core.moments import Moments, merge, ratio, spread, toward
from jaxnorm.norms.core.rows import pool


def update_running(
    running: PyTree,
    measured: PyTree,
    *,
    momentum: float | None = 0.99,
    ddof: int = 0,
    debias: bool = False,
) -> PyTree:
    r"""Updates running statistics with measured ones.

    .. math:: r' = r + w (m - r), \qquad w = 1 - \text{momentum}, \qquad
       \text{with debias } w = \max\Bigl(1 - \text{momentum}, \frac{n}{n_r + n}\Bigr)

    for the mean and the variance. The measured variance is multiplied by :math:`n/(n - \text{ddof})` first; n is the
    measured count and :math:`n_r` the running one. No gradient flows. An entry with count zero leaves its running row
    unchanged. An entry with ``count <= ddof`` has no unbiased variance, so it updates only the mean.

    Args:
      running: Moments, or any tree of them (the statistics of a whole cell).
      measured: the same tree, such as the moments of a batch, or the ones that :func:`unroll` returns for the rows of
        a cell. One more leading axis holds the parts of a batch (from a map over it); they are pooled.
      momentum: weight of the old value, in [0, 1], as in Flax (PyTorch's is one minus this); None for the exact
        statistics of everything seen since count was zero.
      ddof: 0 keeps the biased variance (Flax, Keras), 1 corrects it (PyTorch, Algorithm 2 of batch normalization).
      debias: whether new values weigh at least their share of all data seen so far. The initial values 0 and 1 then
        vanish after the first batch, and the result is the plain average until that share falls below 1 - momentum.
        Without it the initial values keep the weight momentum\ :sup:`k` after k batches, as in Flax and PyTorch.

    Returns:
      The new running statistics, with unchanged shapes; ``count`` grows by the measured count.

    Raises:
      ValueError: momentum or ddof out of range, or shapes that do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> running = jaxnorm.Moments(jnp.zeros(1), jnp.ones(1), jnp.zeros(()))
      >>> measured = jaxnorm.moments(jnp.array([[1.0], [3.0]]))
      >>> jaxnorm.update_running(running, measured, momentum=0.9, ddof=1)
      Moments(mean=Array([0.2], dtype=float32), var=Array([1.1], dtype=float32), count=Array(2., dtype=float32))
    """
    check_moments("update_running", "running", running)
    check_moments("update_running", "measured", measured)
    have, want = (str(jax.tree.structure(tree, is_leaf=is_moments)) for tree in (measured, running))
    if have != want:
        raise TypeError(
            f"update_running: measured must have the structure of running, {want}, got {have}. Do both come from the "
            "same normalizer or cell?"
        )
    if momentum is not None:
        validate.in_range("update_running", "momentum", momentum, 0.0, 1.0)
    if ddof not in (0, 1):
        raise ValueError(f"update_running: ddof must be 0 (biased variance) or 1 (corrected by n/(n-1)), got {ddof!r}.")

    def one(old: Moments, new: Moments) -> Moments:
        new = pool_parts(old, Moments(*map(lax.stop_gradient, new)))
        new = Moments(*(leaf.astype(like.dtype) for leaf, like in zip(new, old, strict=True)))
        n = new.count
        finer = tuple(range(old.count.ndim, n.ndim))
        # A mask that varies over features gives each feature its own count. The running count keeps its shape.
        total = old.count + (jnp.max(n, axis=finer) if finer else n)
        if momentum is None and finer:
            raise ValueError(
                f"update_running: an exact average over features with counts of their own (measured.count {n.shape}) "
                f"needs running counts of that shape, got {old.count.shape}. Begin with "
                "count=jnp.zeros_like(running.mean)."
            )
        if momentum is None:
            # Merge the biased variances, so that the correction applies to all data together.
            biased = old._replace(var=old.var / spread(_correction(old.count, ddof), old.var))
            mean, var, _ = merge(biased, new)
            var, behind = var * spread(_correction(total, ddof), var), total
        else:
            weight = jnp.asarray(1.0 - momentum, old.mean.dtype)
            if debias:
                weight = jnp.maximum(weight, spread(ratio(n, spread(old.count, n) + n), old.mean))
            corrected = new.var * spread(_correction(n, ddof), new.var)
            mean = toward(old.mean, new.mean, weight)
            var, behind = toward(old.var, corrected, weight), n
        seen = spread(n, mean) > 0
        return Moments(
            jnp.where(seen, mean, old.mean), jnp.where(seen & (spread(behind, var) > ddof), var, old.var), total
        )

    return map_moments(one, running, measured)


def population(batches: Iterable[PyTree], *, ddof: int = 1) -> PyTree:
    r"""Computes population statistics from the batches of a data set, with frozen weights.

    Algorithm 2 of batch normalization: the average of the batch means and the corrected average of the biased batch
    variances,

    .. math:: E[x] = E_B[\mu_B], \qquad \mathrm{Var}[x] = \frac{m}{m-1} E_B[\sigma_B^2]

    for batches of m elements. Batches (or rows) of different sizes are weighted by their size:
    :math:`E[x] = \sum_B m_B \mu_B / \sum_B m_B`, :math:`\mathrm{Var}[x] = \sum_B m_B \sigma_B^2 / \sum_B (m_B - 1)`,
    which is the same if all sizes are equal. The variance between the batch means is not included; use :func:`merge`
    to include it.

    Args:
      batches: an iterable of measured statistics, one for each batch (Moments or trees of them), consumed lazily.
      ddof: 1 for the paper's m/(m-1); 0 for no correction, as in recurrent batch normalization (Cooijmans et al.).

    Returns:
      Statistics of the same structure; ``count`` is the number of elements seen. Entries that were never seen have
      mean zero and variance one. Entries with a single element in every batch have no unbiased variance; they
      get variance one.

    Raises:
      ValueError: there is no batch, or ddof is neither 0 nor 1.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> batches = (jaxnorm.moments(x) for x in jnp.array([[[1.0], [3.0]], [[2.0], [6.0]]]))
      >>> jaxnorm.population(batches)
      Moments(mean=Array([3.], dtype=float32), var=Array([5.], dtype=float32), count=Array(4., dtype=float32))

    Reference:
      S. Ioffe, C. Szegedy, "Batch Normalization", 2015, arXiv:1502.03167, Algorithm 2.
    """
    if ddof not in (0, 1):
        raise ValueError(f"population: ddof must be 0 or 1, got {ddof!r}. Pass 1 for the m/(m-1) of Algorithm 2.")

    def start(m: Moments) -> tuple[Array, Array, Array, Array]:
        zero = jnp.zeros_like
        return zero(m.mean), zero(m.var), zero(m.count), zero(m.count)

    def add(sums: tuple[Array, Array, Array, Array], m: Moments) -> tuple[Array, Array, Array, Array]:
        mean, var, n, dof = sums
        new_n = n + m.count
        new_dof = dof + jnp.maximum(m.count - jnp.asarray(ddof, m.count.dtype), jnp.zeros((), m.count.dtype))
        # We keep running averages instead of sums, since sums grow and lose digits over a large data set.
        mean = mean + spread(ratio(m.count, new_n), mean) * (m.mean - mean)
        var = var + spread(ratio(m.count, new_n), var) * (m.var - var)
        return mean, var, new_n, new_dof

    def finish(sums: tuple[Array, Array, Array, Array]) -> Moments:
        mean, var, n, dof = sums
        corrected = var * spread(ratio(n, dof), var)
        return Moments(mean, jnp.where(spread(dof, var) > 0, corrected, jnp.ones_like(var)), n)

    sums: list[tuple[Array, Array, Array, Array]] | None = None
    structure: Any = None
    for number, batch in enumerate(_iterate(batches)):
        check_moments("population", f"batches[{number}]", batch)
        leaves, found = jax.tree.flatten(batch, is_leaf=is_moments)
        if structure is not None and structure != found:
            raise TypeError(
                f"population: batches[{number}] has the structure {found}, those before it {structure}. Pass the "
                "statistics of one normalizer or cell."
            )
        structure = found
        sums = [start(m) for m in leaves] if sums is None else sums
        sums = [add(s, m) for s, m in zip(sums, leaves, strict=True)]
    if sums is None:
        raise ValueError("population: batches is empty. Pass the measured statistics of at least one batch.")
    return jax.tree.unflatten(structure, [finish(s) for s in sums])


def check_moments(caller: str, name: str, tree: PyTree) -> None:
    """Raises TypeError unless every leaf of a tree of statistics is a Moments."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_moments):
        if not is_moments(leaf):
            whole = tree if isinstance(tree, Mapping) else leaf
            advice = "Write Moments(mean, var, count), or pass what moments, a normalizer or unroll returned."
            if isinstance(tree, Mapping) and set(tree) == set(Moments._fields):
                advice = f"Write Moments(**{name})."
            raise TypeError(
                f"{caller}: {name}{jax.tree_util.keystr(path) if whole is leaf else ''} must be Moments(mean, var, "
                f"count), or a tree of them, got {objects.describe(whole)}. {advice}"
            )


def _iterate(batches: Any) -> Iterator[Any]:
    """Yields one batch after the other; raises TypeError for a single Moments or a non-iterable."""
    if is_moments(batches) or hasattr(batches, "dtype") or not hasattr(batches, "__iter__") or isinstance(batches, str):
        got = "Moments" if is_moments(batches) else objects.describe(batches)
        raise TypeError(
            f"population: batches must be an iterable of statistics, one for each batch, got {got}. Write [measured], "
            "or (norm(params, x)[1] for x in data)."
        )
    yield from batches


def _correction(n: Array, ddof: int) -> Array:
    one = jnp.ones((), n.dtype)
    return jnp.where(n > ddof, n / jnp.maximum(n - jnp.asarray(ddof, n.dtype), one), one)


def pool_parts(running: Moments, measured: Moments) -> Moments:
    """Gives measured statistics the shape of the running ones; pools the parts if there is one more leading axis."""
    if measured.mean.shape == running.mean.shape:
        return measured
    if measured.mean.shape[1:] == running.mean.shape and measured.count.ndim:
        return pool(measured)
    raise ValueError(
        f"update_running: measured.mean has shape {measured.mean.shape}, running.mean {running.mean.shape}. They must "
        "be equal, but for a leading axis of parts. Do both come from the same normalizer or cell?"
    )
