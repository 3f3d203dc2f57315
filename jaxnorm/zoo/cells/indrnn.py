"""The independently recurrent network: every hidden unit sees only its own past."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Axis, Float, Initializer
from jaxnorm.cells import initializers
from jaxnorm.cells.activation import NamedFunctions
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.preactivation.preactivation import PreActivation
from jaxnorm.cells.preactivation.ungated_base import UngatedCellBase
from jaxnorm.cells.preactivation.weights import GateWeights
from jaxnorm.cells.sites import CellNorms
from jaxnorm.norms.core.moments import statistics_dtype

__all__ = ["IndRNN", "IndRNNCarry", "IndRNNParams", "clip_indrnn"]


class IndRNNCarry(NamedTuple):
    """The state of an IndRNN: hidden state h."""

    h: Float[Array, "*B H"]


class IndRNNParams(NamedTuple):
    """The weights of an :class:`IndRNN`."""

    kernel: Float[Array, "I H"]
    recurrent: Float[Array, " H"]
    """The vector u, one number for each unit."""
    bias: Float[Array, " H"] | None
    norm: CellNorms
    carry: IndRNNCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class IndRNN(NamedFunctions, UngatedCellBase):
    r"""Independently recurrent network with normalizers.

    .. math:: h_t = \phi\bigl(N_c(N_x(x_t W) + N_h(u \odot h_{t-1})) + b\bigr)

    with the normalizers :math:`N_x` (site ``input``), :math:`N_h` (``recurrent``) and :math:`N_c` (``cell``, the
    argument of the nonlinearity). There is no recurrent matrix, and no matrix product in the loop. At the sites
    ``recurrent`` and ``cell``, a normalizer over features makes the units depend on each other; one over the batch does
    not.

    Attributes:
      hidden_features: H.
      norm: the normalizer of the site input, or CellNorms(...) with one for each site you name.
      activation_fn: the nonlinearity :math:`\phi`.
      use_bias: whether there is a bias b.
      bias_init: initial value of b, a number or an initializer.
      kernel_init: initializer of W (I, H).
      recurrent_init: initializer of u (H,).
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
      >>> cell = jaxnorm.zoo.IndRNN(2)
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 2)

    Notes:
      With ReLU h grows like :math:`u^T` over T steps: keep u within the bound of :func:`clip_indrnn`. The fused
      implementation of haste equals ``IndRNN(H, activation_fn=jnp.tanh, kernel_init=glorot_normal,
      recurrent_init=initializers.Uniform(-0.5, 0.5))``. We quote the range of the default initializer, U(0, 1), and
      the bound from memory of the paper.

    Reference:
      S. Li, W. Li, C. Cook, C. Zhu, Y. Gao, "Independently Recurrent Neural Network (IndRNN): Building A Longer and
      Deeper RNN", 2018, arXiv:1803.04831.
    """

    _: dataclasses.KW_ONLY
    activation_fn: Callable[[Array], Array] = jax.nn.relu
    recurrent_init: Initializer = initializers.Uniform(0.0, 1.0)

    kernel_axes: ClassVar[Mapping[str, Axis]] = MappingProxyType({"kernel": 0})  # each unit has one recurrent weight
    default_sites: ClassVar[tuple[str, ...]] = ("input",)
    optional_sites: ClassVar[tuple[str, ...]] = ("recurrent", "cell")
    carry_type: ClassVar[type[IndRNNCarry]] = IndRNNCarry
    supports_gate_masks: ClassVar[bool] = False

    @property
    def gates(self) -> PreActivation:
        """The pre-activation object. Centering u would not remove the mean of its product with h."""
        return PreActivation(self.sites, outer="cell", center_recurrent=False, caller="IndRNN")

    def init_params(self, key: Key, in_features: int) -> IndRNNParams:
        """Draws the weights; ``init`` compiles this."""
        hidden, dtype = self.hidden_features, self.param_dtype
        input_key, recurrent_key = jax.random.split(key)
        return IndRNNParams(
            kernel=self.kernel_init(input_key, (in_features, hidden), dtype),
            recurrent=self.recurrent_init(recurrent_key, (hidden,), dtype),
            bias=self.fresh_bias(key) if self.use_bias else None,
            norm=self.fresh_norms(key),
            carry=self.fresh_carry(),
        )

    def prepare(self, params: IndRNNParams, **options: Any) -> GateWeights:
        """Centers the kernel where that saves a mean, and casts it; ``extra`` holds u, in at least float32."""
        matrices: Any = params
        weights = super().prepare(matrices._replace(recurrent=None), **options)
        return weights._replace(extra=params.recurrent.astype(statistics_dtype(weights.dtype)))

    def project_state(self, weights: GateWeights, carry: IndRNNCarry) -> Float[Array, "*B H"]:
        """Computes the contribution of each unit's own past, in at least float32."""
        u = weights.extra
        return carry.h.astype(u.dtype) * jnp.broadcast_to(u, carry.h.shape)

    def step(
        self, weights: GateWeights, carry: IndRNNCarry, t: StepInput
    ) -> tuple[IndRNNCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the sum, the nonlinearity and the output of one step."""
        (a,), measured = self.gates(weights, t)
        h = self.activation_fn(a)
        return IndRNNCarry(h.astype(carry.h.dtype)), h.astype(weights.dtype), measured


def clip_indrnn(recurrent: Float[Array, "..."], *, steps: int, gamma: float) -> Float[Array, "..."]:
    r"""Keeps the recurrent weights of an :class:`IndRNN` within the bound for sequences of a given length.

    .. math:: |u| \le \gamma^{1 / T}

    so that over T steps the state is multiplied by at most :math:`\gamma` in total, if the slope of the nonlinearity is
    at most one. Nothing calls this function for you: apply it after each update of the weights.

    Args:
      recurrent: u, of any shape.
      steps: T, the number of steps of the longest dependence.
      gamma: :math:`\gamma`, above zero.

    Returns:
      An array of the same shape and dtype.

    Raises:
      ValueError: ``steps`` or ``gamma`` is not positive.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> jaxnorm.zoo.clip_indrnn(jnp.array([-3.0, 0.5, 1.2]), steps=2, gamma=1.21)
      Array([-1.1,  0.5,  1.1], dtype=float32)

    Notes:
      We quote the bound from memory of the paper. It does not apply with a normalizer at the sites recurrent or cell,
      which changes the state that a step passes on.

    Reference:
      S. Li, W. Li, C. Cook, C. Zhu, Y. Gao, 2018, arXiv:1803.04831.
    """
    validate.floating("clip_indrnn", "recurrent", recurrent)
    validate.positive_int("clip_indrnn", "steps", steps)
    validate.positive("clip_indrnn", "gamma", gamma)
    bound = gamma ** (1.0 / steps)
    return jnp.clip(recurrent, -bound, bound)
