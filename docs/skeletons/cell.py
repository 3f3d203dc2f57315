"""A leaky Elman cell, with a normalizer at its site.

A skeleton to copy to ``jaxnorm/zoo/cells/<family>/<name>.py``: the carry, the weights, and a spec with its methods. A
cell holds no loop and no mask; the engine has both. Fields, statistics and carries come from :class:`CellBase`, the
methods from ``prepare`` to ``project_state`` from :class:`UngatedCellBase`: they make both products and normalize them.
What differs from cell to cell is marked with ``# 1`` to ``# 6``. For several gates look at ``lstm.py``, for products of
another form at ``zoo/cells/indrnn.py``.
"""

import dataclasses
from typing import ClassVar, final

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Float, Initializer
from jaxnorm.cells import initializers
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.preactivation.ungated_base import UngatedCellBase
from jaxnorm.cells.preactivation.weights import Biases, GateWeights
from jaxnorm.cells.sites import CellNorms

__all__ = ["Leaky", "LeakyCarry", "LeakyParams"]


class LeakyCarry(NamedTuple):  # 1: what the next step needs; one entry is h
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
class Leaky(UngatedCellBase):
    r"""Leaky-integrator network with a normalizer.

    .. math:: h_t = (1 - \lambda) h_{t-1} + \lambda \tanh\bigl(N_c(x_t W + h_{t-1} U) + b\bigr)

    with the normalizer :math:`N_c` at the site ``cell``, the argument of the nonlinearity.

    Attributes:
      hidden_features: H.
      norm: the normalizer, or CellNorms(cell=...).
      leak: :math:`\lambda`, in [0, 1].
      kernel_init: initializer of W (I, H).
      recurrent_init: initializer of U (H, H).

    The other fields are those of all cells (:class:`jaxnorm.cells.cell_base.CellBase`).

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

    default_sites: ClassVar[tuple[str, ...]] = ("cell",)  # 3: where normalizers stand
    carry_type: ClassVar[type[LeakyCarry]] = LeakyCarry

    def __post_init__(self) -> None:
        super().__post_init__()
        validate.in_range("Leaky", "leak", self.leak, 0.0, 1.0)

    def init_params(self, key: Key, in_features: int) -> LeakyParams:
        """Draws the weights; ``init`` compiles this."""  # 4: an initial value for each of them
        hidden, dtype = self.hidden_features, self.param_dtype
        input_key, recurrent_key = jax.random.split(key)
        return LeakyParams(
            kernel=self.kernel_init(input_key, (in_features, hidden), dtype),
            recurrent=self.recurrent_init(recurrent_key, (hidden, hidden), dtype),
            bias=self.fresh_bias(key) if self.use_bias else None,
            norm=self.fresh_norms(key),
            carry=self.fresh_carry(),
        )

    def biases(self, params: LeakyParams) -> Biases:
        """The bias b enters after the norm."""  # 5: where each bias stands in the equation
        return Biases(end=params.bias)

    def step(
        self, weights: GateWeights, carry: LeakyCarry, t: StepInput
    ) -> tuple[LeakyCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the sum, the nonlinearity and the output of one step."""  # 6: in the letters of the equation
        (a,), moments = self.gates(weights, t)
        h = carry.h.astype(a.dtype)
        h = (1 - self.leak) * h + self.leak * jnp.tanh(a)
        return LeakyCarry(h.astype(carry.h.dtype)), h.astype(weights.dtype), moments
