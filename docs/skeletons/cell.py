"""A leaky Elman cell, with a normalizer at its site.

A skeleton to copy to ``jaxnorm/cells/<name>.py``: the carry, the weights, and a spec with five verbs. A cell holds no
loop and no mask; the engine has both. What differs from cell to cell is marked with ``# 1`` to ``# 6``. For gates side
by side look at ``lstm.py`` too.
"""

import dataclasses
from typing import NamedTuple, cast, final

import jax
import jax.numpy as jnp

from jaxnorm import _validate
from jaxnorm._typing import Array, Bool, DTypeLike, Float, Initializer, Int
from jaxnorm.cells import base, initializers, products
from jaxnorm.cells.base import Key, Sites, Timed
from jaxnorm.norms.base import Normalizer
from jaxnorm.norms.identity import Identity


class LeakyCarry(NamedTuple):  # 1: what the next step needs
    """The state of a leaky cell: hidden state h."""

    h: Float[Array, "*B H"]


class LeakyParams(NamedTuple):  # 2: the weights; kernel, recurrent and norm go by these names everywhere
    """The weights of a :class:`Leaky` cell."""

    kernel: Float[Array, "I H"]
    recurrent: Float[Array, "H H"]
    bias: Float[Array, " H"]
    norm: Sites


@final
@dataclasses.dataclass(frozen=True)
class Leaky:
    r"""Leaky-integrator network with a normalizer.

    .. math:: h_t = (1 - \lambda) h_{t-1} + \lambda \tanh\bigl(N_c(x_t W + h_{t-1} U) + b\bigr)

    with the normalizer :math:`N_c` at the site ``cell``, the argument of the nonlinearity.

    Attributes:
      hidden_features: H.
      norm: the normalizer, or Sites(cell=...).
      leak: :math:`\lambda`, in [0, 1].
      kernel_init: initializer of W (I, H).
      recurrent_init: initializer of U (H, H).
      initial_noise: standard deviation of Gaussian noise on the initial h; needs a key.
      max_steps: rows of running statistics, one a time step, the last for all later steps; 1 pools over time.
      dtype: of the products and of the outputs; None promotes inputs and weights.
      param_dtype: of the weights.
      carry_dtype: of h; None means the compute dtype.

    Raises:
      ValueError: a size is not positive, the leak is not in [0, 1], or a normalizer does not fit the site.

    Example:
      >>> import jaxnorm
      >>> cell = Leaky(2, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 2)

    Reference:
      H. Jaeger, M. Lukosevicius, D. Popovici, U. Siewert, "Optimization and applications of echo state networks with
      leaky-integrator neurons", 2007.
    """

    hidden_features: int
    _: dataclasses.KW_ONLY
    norm: Normalizer | Sites = Identity()
    leak: float = 0.5
    kernel_init: Initializer = initializers.lecun_normal
    recurrent_init: Initializer = initializers.orthogonal
    initial_noise: float = 0.0
    max_steps: int = 1
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    carry_dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        base.check_common("Leaky", self)
        _validate.in_range("Leaky", "leak", self.leak, 0.0, 1.0)
        base.settle_dtypes(self)
        object.__setattr__(self, "norm", base.resolve_sites("Leaky", self.norm, ("cell",)))  # 3: which sites it has

    @property
    def sites(self) -> Sites:
        """The normalizers at all sites."""
        return cast(Sites, self.norm)  # __post_init__ made it so

    @property
    def _shapes(self) -> Sites:
        return Sites((), (), (self.hidden_features,))

    def init(self, key: Key, in_features: int) -> LeakyParams:
        """Fresh weights for inputs with ``in_features`` features."""
        size, hidden = _validate.positive_int("Leaky.init", "in_features", in_features), self.hidden_features
        input_key, recurrent_key = jax.random.split(key)
        return LeakyParams(
            kernel=self.kernel_init(input_key, (size, hidden), self.param_dtype),
            recurrent=self.recurrent_init(recurrent_key, (hidden, hidden), self.param_dtype),
            bias=jnp.zeros((hidden,), self.param_dtype),
            norm=base.site_params(self.sites, self._shapes, self.param_dtype),
        )

    def initial_stats(self) -> Sites:
        """Running statistics with ``max_steps`` rows at the site, if it has any."""
        return base.site_stats(self.sites, self._shapes, self.max_steps)

    def initial_carry(
        self,
        batch_shape: tuple[int, ...],
        *,
        params: LeakyParams | None = None,
        key: Key | None = None,
        dtype: DTypeLike | None = None,
    ) -> LeakyCarry | Timed:
        """Zeros plus noise; ``Timed`` if ``max_steps`` exceeds one."""
        dtype = jnp.dtype(self.carry_dtype or dtype or self.dtype or self.param_dtype)
        h = base.initial_entry(None, (*batch_shape, self.hidden_features), dtype)
        return base.timed(LeakyCarry(base.add_noise("Leaky", h, self.initial_noise, key)), batch_shape, self.max_steps)

    def prepare(self, params: LeakyParams, dtype: DTypeLike | None = None) -> LeakyParams:
        """Centres the kernels where that saves a mean, and casts them."""
        return products.ready_kernels(params, self.sites.input, self.sites.recurrent, (1,), dtype or self.dtype)

    def project(
        self, ready: LeakyParams, xs: Float[Array, "T *B I"], stats: Sites | None, where: Bool[Array, "T *B"] | None
    ) -> tuple[Float[Array, "T *B H"], Sites]:
        """The input products of all steps, in the compute dtype."""  # 4: all that does not depend on the carry
        products.check_features("Leaky.project", xs, ready.kernel)
        return products.matmul(xs, ready.kernel).astype(ready.kernel.dtype), Sites()

    def recur(self, ready: LeakyParams, carry: LeakyCarry) -> Float[Array, "*B H"]:
        """The recurrent product a_t, in at least float32."""  # 5: linear in the weights and in the carry
        return products.matmul(carry.h, ready.recurrent)

    def step(
        self,
        ready: LeakyParams,
        carry: LeakyCarry,
        z_t: Float[Array, "*B H"],
        a_t: Float[Array, "*B H"],
        stats_t: Sites | None,
        where_t: Bool[Array, "*B"] | None,
        key_t: Key | None,
    ) -> tuple[LeakyCarry, Float[Array, "*B H"], Sites]:
        """Sum, nonlinearity and output of one step."""  # 6: the rest, in the order and letters of the equation
        s = Sites(None, None, None) if stats_t is None else stats_t
        a_hat, m_cell = base.normalize_features(
            self.sites.cell, ready.norm.cell, z_t.astype(a_t.dtype) + a_t, s.cell, where_t
        )
        new = jnp.tanh(base.add_bias(a_hat, ready.bias))
        h = carry.h.astype(new.dtype)
        h = h + self.leak * (new - h)
        return LeakyCarry(h.astype(carry.h.dtype)), h.astype(ready.kernel.dtype), Sites(cell=m_cell)

    def fold(self, stats: Sites, moments: Sites, start: int | Int[Array, "..."] = 0) -> Sites:
        """Folds the moments of a call into running statistics; ``start`` is ``carry.step`` where a carry was given."""
        return base.fold_sites(self.sites, stats, moments, start)
