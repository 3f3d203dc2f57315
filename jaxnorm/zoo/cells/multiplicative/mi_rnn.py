"""The simple recurrent network with multiplicative integration and a normalizer at each site."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, final

import jax
import jax.numpy as jnp

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, DTypeLike, Float, Initializer
from jaxnorm.cells import initializers
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.elman import ElmanCarry
from jaxnorm.cells.gates.activation import NamedFunctions
from jaxnorm.cells.preactivation.preactivation import PreActivation
from jaxnorm.cells.preactivation.ungated_base import UngatedCellBase
from jaxnorm.cells.preactivation.weights import Biases, GateWeights
from jaxnorm.cells.sites import CellNorms
from jaxnorm.zoo.cells.multiplicative.integration import (
    IntegrationParams,
    IntegrationWeights,
    init_integration,
    integrate,
    prepare_integration,
)

__all__ = ["MIRNN", "MIRNNParams"]


class MIRNNParams(NamedTuple):
    """The weights of a :class:`MIRNN`."""

    kernel: Float[Array, "I H"]
    recurrent: Float[Array, "H H"]
    integration: IntegrationParams
    bias: Float[Array, " H"] | None
    norm: CellNorms
    carry: ElmanCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class MIRNN(NamedFunctions, UngatedCellBase):
    r"""Simple recurrent network with multiplicative integration, and normalizers.

    .. math::
       w &= N_x(x_t W), \qquad u = N_h(h_{t-1} U) \\
       h_t &= \phi(\alpha \odot w \odot u + \beta_1 \odot u + \beta_2 \odot w + b)

    with the normalizers :math:`N_x` (site ``input``) and :math:`N_h` (``recurrent``): the cell normalizes both sides
    and then integrates them.

    Attributes:
      hidden_features: H.
      norm: one normalizer for both sites, or CellNorms(input=..., recurrent=...).
      activation_fn: the nonlinearity :math:`\phi`.
      alpha_init: initial value of :math:`\alpha`.
      beta1_init: initial value of :math:`\beta_1`; None omits the term.
      beta2_init: initial value of :math:`\beta_2`; None omits the term. Without both terms this is the paper's
        MI-simple.
      kernel_init: initializer of W (I, H).
      recurrent_init: initializer of U (H, H).

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.CellBase`).

    Raises:
      ValueError: a size is not positive, or a normalizer does not fit a site.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.MIRNN(2, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 2)

    Notes:
      In the paper the initial values of the vectors are hyper-parameters of each task. We take 1, 1/2 and 1/2 from
      public re-implementations, and normalize before the integration as they do.

    Reference:
      Y. Wu, S. Zhang, Y. Zhang, Y. Bengio, R. Salakhutdinov, "On Multiplicative Integration with Recurrent Neural
      Networks", 2016, arXiv:1606.06630.
    """

    _: dataclasses.KW_ONLY
    activation_fn: Callable[[Array], Array] = jnp.tanh
    alpha_init: float = 1.0
    beta1_init: float | None = 0.5
    beta2_init: float | None = 0.5
    recurrent_init: Initializer = initializers.orthogonal

    default_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent")
    carry_type: ClassVar[type[ElmanCarry]] = ElmanCarry

    @property
    def gates(self) -> PreActivation:
        """The pre-activation object; both sides stay apart."""
        return PreActivation(self.sites, outer="cell", separate=True, caller="MIRNN")

    def init_params(self, key: Key, in_features: int) -> MIRNNParams:
        """Draws the weights; ``init`` compiles this."""
        hidden, dtype = self.hidden_features, self.param_dtype
        input_key, recurrent_key = jax.random.split(key)
        return MIRNNParams(
            kernel=self.kernel_init(input_key, (in_features, hidden), dtype),
            recurrent=self.recurrent_init(recurrent_key, (hidden, hidden), dtype),
            integration=init_integration(hidden, self.alpha_init, self.beta1_init, self.beta2_init, dtype),
            bias=self.fresh_bias(key) if self.use_bias else None,
            norm=self.fresh_norms(key),
            carry=self.fresh_carry(),
        )

    def biases(self, params: MIRNNParams) -> Biases:
        """The bias b enters with the integration."""
        return Biases()

    def extra(self, params: MIRNNParams, dtype: DTypeLike) -> IntegrationWeights:
        """The vectors of the integration."""
        return prepare_integration(params.integration, params.bias)

    def step(
        self, weights: GateWeights, carry: ElmanCarry, t: StepInput
    ) -> tuple[ElmanCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the integration, the nonlinearity and the output of one step."""
        x, u, measured = self.gates.sides(weights, t)
        h = self.activation_fn(integrate(x, u, weights.extra))
        return ElmanCarry(h.astype(carry.h.dtype)), h.astype(weights.dtype), measured
