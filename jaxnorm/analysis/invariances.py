"""Measures the changes of weights and data that leave the output of a normalized layer unchanged."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.objects import is_one
from jaxnorm._base.typing import Array, DType, Float
from jaxnorm.cells.base import Key
from jaxnorm.norms.base import Normalizer, TrainsByMeasuring

LayerFunction = Callable[[Float[Array, "I F"], Float[Array, "..."]], Float[Array, "..."]]
"""A normalized layer ``(kernel, xs) -> ys``."""


class PerChange(NamedTuple):
    """One entry (a number, an answer, a title) for each change of weights and data, in the order of Table 1."""

    weight_matrix_rescaling: Any
    """W becomes d W."""
    weight_matrix_recentering: Any
    """W becomes W + v 1^T, which adds the same vector to the incoming weights of every unit."""
    weight_vector_rescaling: Any
    """The incoming weights of one unit become d times as large."""
    dataset_rescaling: Any
    """Every x becomes d x."""
    dataset_recentering: Any
    """Every x becomes x + v."""
    single_case_rescaling: Any
    """One x becomes d x."""


TITLES = PerChange(
    "weight matrix re-scaling",
    "weight matrix re-centering",
    "weight vector re-scaling",
    "dataset re-scaling",
    "dataset re-centering",
    "single training case re-scaling",
)
"""The names of the changes in the paper."""


class Invariances(NamedTuple):
    """The result of :func:`invariances`; it prints as a table.

    ``violation`` is the largest change of an output, relative to the largest output; ``tolerance`` is the bound up to
    which a layer counts as invariant.
    """

    violation: PerChange
    tolerance: float

    @property
    def holds(self) -> PerChange:
        """Whether the layer is invariant, for each change."""
        return PerChange(*(violation <= self.tolerance for violation in self.violation))

    def __str__(self) -> str:
        rows = zip(
            TITLES, map(yes_or_no, self.holds), (f"{violation:.1e}" for violation in self.violation), strict=True
        )
        return _table(("", "invariant", "violation"), rows)


def invariances(
    layer: Normalizer | LayerFunction,
    *,
    in_features: int = 5,
    out_features: int = 16,
    batch_shape: tuple[int, ...] = (8,),
    factor: float = 2.5,
    tolerance: float = 1e-3,
    settle: int = 1000,
    key: Key | None = None,
) -> Invariances:
    r"""Measures the six invariances of Table 1 of the layer normalization paper on random weights and data.

    .. math:: \frac{\max |y' - y|}{\max |y|}, \qquad y = N(x W), \qquad y' = N(x' W')

    with one change of :math:`W` or :math:`x` at a time (see :class:`PerChange`), where d is ``factor``.

    Args:
      layer: a normalizer, which normalizes the products x W as in training, with fresh weights; or any function
        ``(kernel, xs) -> ys`` of kernel (I, F) and inputs (\*B, I), for example for weight normalization.
      in_features: I.
      out_features: F.
      batch_shape: \*B. The first axis counts training cases, and one change rescales a single case; further axes are
        positions, which instance normalization needs.
      factor: d, positive. The effect of epsilon shows if the variance of the products is not large compared with it,
        for example with ``factor=1e-3``.
      tolerance: violations up to it count as none.
      settle: for a normalizer that reads its running statistics in training, the number of training calls before the
        measured one, separately for each change, so that the statistics follow the data. No effect on others.
      key: draws weights and data; None takes a fixed key.

    Returns:
      Invariances(violation, tolerance), as Python numbers; ``.holds`` has the answers, and printing gives a table.

    Raises:
      TypeError: ``layer`` is neither a normalizer nor a function, or a size is not an integer.
      ValueError: a size is not positive, ``settle`` is negative, or factor or tolerance are not positive.

    Example:
      >>> from jaxnorm import LayerNorm, analysis
      >>> found = analysis.invariances(LayerNorm(epsilon=1e-12))
      >>> print(analysis.invariance_table({"LayerNorm": found}))
      | | LayerNorm |
      |---|---|
      | weight matrix re-scaling | yes |
      | weight matrix re-centering | yes |
      | weight vector re-scaling | no |
      | dataset re-scaling | yes |
      | dataset re-centering | no |
      | single training case re-scaling | yes |

    Notes:
      It computes in the default floating dtype of JAX: float64 if enabled. A layer with only zero outputs counts as
      invariant.

    Reference:
      J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016, arXiv:1607.06450, section 5.1 and Table 1.
      (The text there calls all methods invariant to re-scaling of the dataset; by the table, and in fact, weight
      normalization is not.)
    """
    where = "invariances"
    if not callable(layer):
        raise TypeError(
            f"{where}: layer must be a normalizer such as LayerNorm(), or a function (kernel, xs) -> ys, got {layer!r}."
        )
    sizes = {"in_features": in_features, "out_features": out_features}
    sizes |= {f"batch_shape[{a}]": size for a, size in enumerate(batch_shape)}
    for name, size in sizes.items():
        validate.positive_int(where, name, size)
    if not batch_shape:
        raise ValueError(f"{where}: batch_shape must have an axis of training cases, got (). Write (8,), for example.")
    for name, number in (("factor", factor), ("tolerance", tolerance)):
        validate.in_range(where, name, number, 0.0, float("inf"))
        if number == 0.0:
            raise ValueError(f"{where}: {name} must be above 0, got {number!r}.")
    if settle != 0:
        validate.positive_int(where, "settle", settle)
    key = jax.random.key(0) if key is None else key
    dtype: DType = jnp.zeros(()).dtype
    kernels, inputs = _changes(key, (in_features, out_features), (*batch_shape, in_features), factor, dtype)
    if is_one(layer, Normalizer):
        outputs = _train(cast(Normalizer, layer), kernels, inputs, settle)
    else:
        outputs = jax.jit(jax.vmap(layer))(kernels, inputs)
    unchanged = outputs[:1]
    distances = jnp.max(jnp.abs(outputs[1:] - unchanged).reshape(len(TITLES), -1), axis=1)
    largest = jnp.max(jnp.abs(unchanged))
    violations = jnp.where(distances == 0, 0.0, distances / largest)
    return Invariances(PerChange(*map(float, violations)), tolerance)


def invariance_table(rows: Mapping[str, Invariances]) -> str:
    """Puts the answers for several layers side by side, as Table 1 does (with a column for each layer).

    Args:
      rows: the measurements of each layer, keyed by name.

    Returns:
      A table in Markdown with yes and no.

    Example:
      >>> from jaxnorm import BatchNorm, RMSNorm, analysis
      >>> norms = {"BN": BatchNorm(epsilon=1e-12), "RMS": RMSNorm(epsilon=1e-12)}
      >>> print(analysis.invariance_table({name: analysis.invariances(norm) for name, norm in norms.items()}))
      | | BN | RMS |
      |---|---|---|
      | weight matrix re-scaling | yes | yes |
      | weight matrix re-centering | no | no |
      | weight vector re-scaling | yes | no |
      | dataset re-scaling | yes | yes |
      | dataset re-centering | yes | no |
      | single training case re-scaling | no | yes |
    """
    answers = zip(*(map(yes_or_no, found.holds) for found in rows.values()), strict=True)
    return _table(("", *rows), ((title, *line) for title, line in zip(TITLES, answers, strict=True)))


def yes_or_no(holds: bool) -> str:
    """Returns the word for a table."""
    return "yes" if holds else "no"


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = ["|".join(("", *(f" {cell} " if cell else " " for cell in row), "")) for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def _changes(
    key: Array, kernel_shape: tuple[int, ...], inputs_shape: tuple[int, ...], factor: float, dtype: DType
) -> tuple[Array, Array]:
    """Stacks kernels and inputs: first the originals, then one entry for each change."""
    draws = iter(jax.random.split(key, 4))

    def normal(*shape: int) -> Array:
        return jax.random.normal(next(draws), shape, dtype)

    kernel, xs = normal(*kernel_shape) / kernel_shape[0] ** 0.5, normal(*inputs_shape)
    to_weights, to_data = normal(kernel_shape[0], 1), normal(kernel_shape[0])
    changed = PerChange(
        weight_matrix_rescaling=(kernel * factor, xs),
        weight_matrix_recentering=(kernel + to_weights * jnp.ones_like(kernel), xs),
        weight_vector_rescaling=(kernel.at[:, kernel_shape[1] // 2].multiply(factor), xs),
        dataset_rescaling=(kernel, xs * factor),
        dataset_recentering=(kernel, xs + to_data.reshape((1,) * (xs.ndim - 1) + (-1,))),
        single_case_rescaling=(kernel, xs.at[inputs_shape[0] // 2].multiply(factor)),
    )
    kernels, inputs = zip((kernel, xs), *changed, strict=True)
    return jnp.stack(kernels), jnp.stack(inputs)


def _train(norm: Normalizer, kernels: Array, inputs: Array, settle: int) -> Array:
    """Computes the training outputs of a normalizer after its running statistics have followed each change."""
    shape = (*inputs.shape[1:-1], kernels.shape[-1])
    features = norm.param_shape(shape)
    params = norm.init(features, kernels.dtype)
    running = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(inputs)), norm.initial_stats(features))

    def layer(kernel: Array, xs: Array, running: Any) -> tuple[Array, Any]:
        ys, measured = norm.train(params, xs @ kernel, running)
        return ys, norm.update_running(running, measured)

    train = jax.jit(jax.vmap(layer))
    looks_at_running = bool(jax.tree.leaves(running)) and not isinstance(norm, TrainsByMeasuring)
    for _ in range(settle if looks_at_running else 0):
        _, running = train(kernels, inputs, running)
    ys: Array = train(kernels, inputs, running)[0]
    return ys
