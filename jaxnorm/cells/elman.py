"""Elman's simple recurrent network with a normalizer at each of its three sites."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, final

import jax
import jax.numpy as jnp

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Float, Initializer
from jaxnorm.cells import initializers
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.gates.activation import NamedFunctions
from jaxnorm.cells.preactivation.ungated_base import UngatedCellBase
from jaxnorm.cells.preactivation.weights import GateWeights
from jaxnorm.cells.sites import CellNorms


class ElmanCarry(NamedTuple):
    """The state of an Elman cell: hidden state h."""

    h: Float[Array, "*B H"]


class ElmanParams(NamedTuple):
    """The weights of an :class:`Elman` cell."""

    kernel: Float[Array, "I H"]
    recurrent: Float[Array, "H H"]
    bias: Float[Array, " H"] | None
    norm: CellNorms
    carry: ElmanCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class Elman(NamedFunctions, UngatedCellBase):
    r"""Simple recurrent network with normalizers.

    .. math:: h_t = \phi\bigl(N_c(N_x(x_t W) + N_h(h_{t-1} U)) + b\bigr)

    with the normalizers :math:`N_x` (site ``input``), :math:`N_h` (``recurrent``) and :math:`N_c` (``cell``, the
    summed input). The LN-RNN has LayerNorm at ``cell`` only.

    Attributes:
      hidden_features: H.
      norm: one normalizer for all three sites, or CellNorms(input=..., recurrent=..., cell=...).
      activation_fn: the nonlinearity :math:`\phi`.
      use_bias: whether there is a bias b.
      bias_init: initial value of b, a number or an initializer.
      kernel_init: initializer of W (I, H).
      recurrent_init: initializer of U (H, H).
      learn_carry: whether the initial carry is a parameter (zero at first).
      initial_noise: standard deviation of Gaussian noise on the initial h, independent for each example; needs a key.
      max_steps: rows of running statistics, one per time step; the last serves all later steps, and 1 pools over time.
      dtype: dtype of the products and outputs; None promotes inputs and weights.
      param_dtype: dtype of the weights.
      carry_dtype: dtype of h; None means the compute dtype. Sums and statistics are computed in at least float32.

    Raises:
      ValueError: a size is not positive, or a normalizer does not fit a site.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.Elman(2)
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 2)

    Reference:
      J. Elman, "Finding Structure in Time", 1990.
    """

    _: dataclasses.KW_ONLY
    activation_fn: Callable[[Array], Array] = jnp.tanh
    recurrent_init: Initializer = initializers.orthogonal

    default_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent", "cell")
    carry_type: ClassVar[type[ElmanCarry]] = ElmanCarry

    def init_params(self, key: Key, in_features: int) -> ElmanParams:
        """Draws the weights; ``init`` compiles this."""
        hidden, dtype = self.hidden_features, self.param_dtype
        input_key, recurrent_key = jax.random.split(key)
        return ElmanParams(
            kernel=self.kernel_init(input_key, (in_features, hidden), dtype),
            recurrent=self.recurrent_init(recurrent_key, (hidden, hidden), dtype),
            bias=self.fresh_bias(key) if self.use_bias else None,
            norm=self.fresh_norms(key),
            carry=self.fresh_carry(),
        )

    def step(
        self, weights: GateWeights, carry: ElmanCarry, t: StepInput
    ) -> tuple[ElmanCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the sum, the nonlinearity and the output of one step."""
        (a,), measured = self.gates(weights, t)
        h = self.activation_fn(a)
        return ElmanCarry(h.astype(carry.h.dtype)), h.astype(weights.dtype), measured
