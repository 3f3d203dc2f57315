"""A leaky Elman cell, with a normalizer at its site.

A skeleton to copy to ``jaxnorm/cells/<name>.py``: the carry, the weights, and a spec with the verbs. A cell holds no
loop and no mask; the engine has both. Fields, statistics and carries come from :class:`Frame`. What differs from cell
to cell is marked with ``# 1`` to ``# 6``. For gates side by side look at ``lstm.py`` and ``gates.py`` too.
"""

import dataclasses
from typing import ClassVar, final

import jax
import jax.numpy as jnp

from jaxnorm import _validate
from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, Bool, DTypeLike, Float, Initializer
from jaxnorm.cells import base, initializers
from jaxnorm.cells.base import CellNorms, Key
from jaxnorm.cells.cell_base import Frame
from jaxnorm.cells.preactivation import products


class LeakyCarry(NamedTuple):  # 1: what the next step needs
    """The state of a leaky cell: hidden state h."""

    h: Float[Array, "*B H"]


class LeakyParams(NamedTuple):  # 2: the weights; kernel, recurrent and norm go by these names everywhere
    """The weights of a :class:`Leaky` cell."""

    kernel: Float[Array, "I H"]
    recurrent: Float[Array, "H H"]
    bias: Float[Array, " H"] | None
    norm: CellNorms
    carry: LeakyCarry | None


@final
@dataclasses.dataclass(frozen=True)
class Leaky(Frame):
    r"""Leaky-integrator network with a normalizer.

    .. math:: h_t = (1 - \lambda) h_{t-1} + \lambda \tanh\bigl(N_c(x_t W + h_{t-1} U) + b\bigr)

    with the normalizer :math:`N_c` at the site ``cell``, the argument of the nonlinearity.

    Attributes:
      hidden_features: H.
      norm: the normalizer, or CellNorms(cell=...).
      leak: :math:`\lambda`, in [0, 1].
      kernel_init: initializer of W (I, H).
      recurrent_init: initializer of U (H, H).

    The other fields are those of all cells (:class:`jaxnorm.cells.cell_base.Frame`).

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

    _: dataclasses.KW_ONLY
    leak: float = 0.5
    recurrent_init: Initializer = initializers.orthogonal

    has_sites: ClassVar[tuple[str, ...]] = ("cell",)  # 3: where normalizers stand
    carry_type: ClassVar[type[LeakyCarry]] = LeakyCarry

    def __post_init__(self) -> None:
        super().__post_init__()
        _validate.in_range("Leaky", "leak", self.leak, 0.0, 1.0)

    def draw(self, key: Key, in_features: int) -> LeakyParams:
        """The weights; ``init`` compiles this."""
        hidden, dtype = self.hidden_features, self.param_dtype
        input_key, recurrent_key = jax.random.split(key)
        return LeakyParams(
            kernel=self.kernel_init(input_key, (in_features, hidden), dtype),
            recurrent=self.recurrent_init(recurrent_key, (hidden, hidden), dtype),
            bias=jnp.zeros((hidden,), dtype) if self.use_bias else None,
            norm=self.fresh_norms(),
            carry=self.fresh_carry(),
        )

    def prepare(self, params: LeakyParams, dtype: DTypeLike | None = None) -> LeakyParams:
        """Centers the kernels where that saves a mean, and casts them."""
        return products.ready_kernels(params, self.sites.input, self.sites.recurrent, (1,), dtype or self.dtype)

    def project(
        self, ready: LeakyParams, xs: Float[Array, "T *B I"], stats: CellNorms | None, where: Bool[Array, "T *B"] | None
    ) -> tuple[Float[Array, "T *B H"], CellNorms]:
        """The input products of all steps, in the compute dtype."""  # 4: all that does not depend on the carry
        products.check_features("Leaky.project", xs, ready.kernel)
        return products.matmul(xs, ready.kernel).astype(ready.kernel.dtype), CellNorms()

    def recur(self, ready: LeakyParams, carry: LeakyCarry) -> Float[Array, "*B H"]:
        """The recurrent product a_t, in at least float32."""  # 5: linear in the weights and in the carry
        return products.matmul(carry.h, ready.recurrent)

    def step(
        self,
        ready: LeakyParams,
        carry: LeakyCarry,
        z_t: Float[Array, "*B H"],
        a_t: Float[Array, "*B H"],
        stats_t: CellNorms | None,
        where_t: Bool[Array, "*B"] | None,
        key_t: Key | None,
    ) -> tuple[LeakyCarry, Float[Array, "*B H"], CellNorms]:
        """Sum, nonlinearity and output of one step."""  # 6: the rest, in the order and letters of the equation
        s = base.UNKNOWN if stats_t is None else stats_t
        a_hat, m_cell = base.normalize_features(
            self.sites.cell, ready.norm.cell, z_t.astype(a_t.dtype) + a_t, s.cell, where_t
        )
        new = jnp.tanh(base.add_bias(a_hat, ready.bias))
        h = carry.h.astype(new.dtype)
        h = h + self.leak * (new - h)
        return LeakyCarry(h.astype(carry.h.dtype)), h.astype(ready.kernel.dtype), CellNorms(cell=m_cell)
