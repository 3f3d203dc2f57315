"""Highway layers: feed-forward layers that gate between a transformation of the input and the input itself."""

import dataclasses
from collections.abc import Callable
from typing import final

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Bool, DTypeLike, Float, Initializer
from jaxnorm.cells import initializers
from jaxnorm.cells.base import Key
from jaxnorm.cells.gates.activation import NamedFunctions, check_functions
from jaxnorm.cells.preactivation.groups import normalize_groups
from jaxnorm.cells.preactivation.layout import flat_kernel, with_gate
from jaxnorm.cells.preactivation.matmul import matmul
from jaxnorm.cells.preactivation.vectors import add_bias
from jaxnorm.cells.sites import SiteInput
from jaxnorm.norms.base import Normalizer, Params, Stats, check_normalizer, fresh
from jaxnorm.norms.core.moments import masked, statistics_dtype
from jaxnorm.norms.identity import Identity

__all__ = ["Highway", "HighwayParams", "highway"]


GATES = 2
TRANSFORM = 1


def highway(
    x: Float[Array, "*B F"],
    kernel: Float[Array, "F 2 F"],
    bias: Float[Array, "2*F"] | None = None,
    *,
    activation_fn: Callable[[Array], Array] = jnp.tanh,
) -> Float[Array, "*B F"]:
    r"""Applies a highway layer.

    .. math::
       h, t &= x W + b \\
       y &= \phi(h) \odot \sigma(t) + x \odot (1 - \sigma(t))

    Args:
      x: inputs.
      kernel: W; gates in the order h t.
      bias: b, gate after gate, or None.
      activation_fn: the nonlinearity :math:`\phi`.

    Returns:
      y in the dtype of ``x``. The gate is computed in at least float32.

    Raises:
      TypeError: ``x``, ``kernel`` or ``bias`` is not floating.
      ValueError: shapes do not fit together.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> x = jnp.array([[1.0, -2.0]])
      >>> closed = jnp.array([0.0, 0.0, -50.0, -50.0])
      >>> jaxnorm.zoo.highway(x, jnp.zeros((2, 2, 2)), closed)  # with the gate closed x passes
      Array([[ 1., -2.]], dtype=float32)

    Reference:
      R. Srivastava, K. Greff, J. Schmidhuber, "Highway Networks", 2015, arXiv:1505.00387; "Training Very Deep
      Networks", 2015, arXiv:1507.06228. With the coupled gate, C = 1 - T.
    """
    _check("highway", x, kernel)
    if bias is not None:
        validate.floating("highway", "bias", bias)
        size = GATES * kernel.shape[-1]
        validate.shape("highway", "bias", bias.shape, (size,), "(2F,)", "F numbers for h, then F for the gate t.")
    return _between(x, add_bias(matmul(x, flat_kernel(kernel)), bias), activation_fn)


class HighwayParams(NamedTuple):
    """The weights of a :class:`Highway` layer, with gates in the order h t; vectors hold gate after gate."""

    kernel: Float[Array, "F 2 F"]
    bias: Float[Array, " 2F"] | None
    norm: Params


@final
@dataclasses.dataclass(frozen=True)
class Highway(NamedFunctions):
    r"""A highway layer with a normalizer.

    .. math:: h, t = N(x W) + b, \qquad y = \phi(h) \odot \sigma(t) + x \odot (1 - \sigma(t))

    where the normalizer N acts on each of the two products alone. Call it like a normalizer: it also returns moments.

    Attributes:
      norm: the normalizer N.
      activation_fn: the nonlinearity :math:`\phi`.
      transform_bias: initial value of b for the gate t. A negative bias lets the input pass; the papers use -1 to -3,
        lower for deeper networks. If use_bias is False, it initializes the bias of the normalizer, if that has one.
      use_bias: whether there is a bias b.
      kernel_init: initializer of W. It draws h and t (F, F) separately; a tuple gives one for each.
      param_dtype: dtype of the weights.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> layer = jaxnorm.zoo.Highway(norm=jaxnorm.LayerNorm())
      >>> params = layer.init(jax.random.key(0), 3)
      >>> y, _ = layer(params, jnp.ones((5, 3)))
      >>> y.shape
      (5, 3)

    Notes:
      Rows with ``where`` False may hold anything, give zeros and do not enter statistics. The papers have no
      normalizers.

    Reference:
      R. Srivastava, K. Greff, J. Schmidhuber, 2015, arXiv:1505.00387 and arXiv:1507.06228.
    """

    _: dataclasses.KW_ONLY
    norm: Normalizer = Identity()
    activation_fn: Callable[[Array], Array] = jnp.tanh
    transform_bias: float = -1.0
    use_bias: bool = True
    kernel_init: Initializer | tuple[Initializer, ...] = initializers.lecun_normal
    param_dtype: DTypeLike = jnp.float32

    def __post_init__(self) -> None:
        check_normalizer("Highway", "norm", self.norm)
        self.norm.check_site("Highway: norm")
        check_functions(self)
        object.__setattr__(self, "param_dtype", jnp.dtype(self.param_dtype))

    def init(self, key: Key, features: int) -> HighwayParams:
        """Makes fresh weights for inputs with F features."""
        validate.key("Highway.init", "key", key)
        validate.positive_int("Highway.init", "features", features)
        square, dtype = (features, features), self.param_dtype
        initializers.check_gates_initializer("Highway.init", "kernel_init", self.kernel_init, GATES)
        start = jnp.full((features,), self.transform_bias, dtype)
        bias = with_gate(jnp.zeros((GATES * features,), dtype), TRANSFORM, start)
        norm = fresh(self.norm, bias.shape, dtype, key=jax.random.fold_in(key, GATES))
        if not self.use_bias and getattr(norm, "bias", None) is not None:
            norm = norm._replace(bias=norm.bias + bias)
        return HighwayParams(
            kernel=initializers.blocks(self.kernel_init, key, square, GATES, dtype),
            bias=bias if self.use_bias else None,
            norm=norm,
        )

    def initial_stats(self, features: int, dtype: DTypeLike | None = None) -> Stats:
        """Makes running statistics of the normalizer; None takes the dtype of the weights, at least float32."""
        return self.norm.initial_stats((GATES * features,), dtype or statistics_dtype(self.param_dtype))

    def __call__(
        self,
        params: HighwayParams,
        x: Float[Array, "*B F"],
        stats: Stats | None = None,
        where: Bool[Array, "*B"] | None = None,
    ) -> tuple[Float[Array, "*B F"], Stats]:
        """Computes the output and the moments; with ``stats`` it normalizes by these."""
        _check("Highway", x, params.kernel)
        if where is not None:
            validate.boolean("Highway", "where", where)
            validate.shape("Highway", "where", where.shape, x.shape[:-1], "(*B)", "One word for each row of x.")
        rows = None if where is None else where[..., None]
        x = masked(x, rows)
        total = matmul(x, flat_kernel(params.kernel))
        total, measured = normalize_groups(self.norm, (1, 1), params.norm, total, SiteInput(stats, where))
        return masked(_between(x, add_bias(total, params.bias), self.activation_fn), rows), measured

    def update_running(self, stats: Stats, measured: Stats) -> Stats:
        """Folds the moments of a call into running statistics, by the rule of the normalizer."""
        return self.norm.update_running(stats, measured)


def _between(x: Array, total: Array, activation_fn: Callable[[Array], Array]) -> Array:
    """Mixes the transformed input and the input by the gate."""
    # Avoid jnp.promote_types: strict promotion forbids it.
    wide = x.astype(max(total.dtype, statistics_dtype(x.dtype), key=lambda dtype: dtype.itemsize))
    h, t = jnp.split(total.astype(wide.dtype), GATES, axis=-1)
    return (wide + sigmoid(t) * (activation_fn(h) - wide)).astype(x.dtype)


def _check(caller: str, x: Array, kernel: Array) -> None:
    """Raises unless the layer keeps the number of features and both arrays are floating."""
    validate.floating(caller, "x", x)
    validate.floating(caller, "kernel", kernel)
    features = x.shape[-1] if x.ndim else 1
    expected = (features, GATES, features)
    validate.shape(caller, "kernel", kernel.shape, expected, "(F, 2, F)", "F is the number of features of x.")
