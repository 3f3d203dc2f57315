"""The light gated recurrent unit: without a reset gate, with ReLU and a normalizer on the input branch."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, final

import jax

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Float, Initializer
from jaxnorm.cells import initializers
from jaxnorm.cells.activation import Gated
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.preactivation.gated_base import GatedCellBase
from jaxnorm.cells.preactivation.weights import GateWeights
from jaxnorm.cells.preset_options import overridden
from jaxnorm.cells.sites import CellNorms
from jaxnorm.norms.batch_norm import BatchNorm

__all__ = ["LiGRU", "LiGRUCarry", "LiGRUParams", "ligru"]


GATES = 2
UPDATE = 0


class LiGRUCarry(NamedTuple):
    """The state of a LiGRU: hidden state h."""

    h: Float[Array, "*B H"]


class LiGRUParams(NamedTuple):
    """The weights of a :class:`LiGRU`, with gates in the order z n; vectors hold gate after gate."""

    kernel: Float[Array, "I 2 H"]
    recurrent: Float[Array, "H 2 H"]
    bias: Float[Array, " 2H"] | None
    norm: CellNorms
    carry: LiGRUCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class LiGRU(Gated, GatedCellBase):
    r"""Light gated recurrent unit with normalizers.

    .. math::
       z, n &= N_s\bigl(N_x(x_t W) + N_h(h_{t-1} U)\bigr) + b \\
       h_t &= \sigma(z) \odot h_{t-1} + (1 - \sigma(z)) \odot \phi(n)

    with the normalizers :math:`N_x` (site ``input``), :math:`N_h` (``recurrent``) and :math:`N_s` (``summed``). The
    paper has :math:`\phi` = ReLU and batch normalization only at the site input, which is outside of the loop.

    Attributes:
      hidden_features: H.
      norm: the normalizer of the site input, or CellNorms(...) with one for each site you name.
      gate_fn: the function of the gate z.
      activation_fn: the nonlinearity :math:`\phi` of the candidate.
      gate_groups: sizes of consecutive groups of gates (order z n) that share statistics: (1, 1) each alone, (2,) both.
      use_bias: whether there is a bias b, added after all norms.
      bias_init: initial value of b, a number or an initializer, which draws each gate (H,) separately.
      update_bias: initial value of b for the update gate z, a number or an initializer. If use_bias is False, it is
        added to the initial bias of the last norm before the gates that has one. None leaves it to ``bias_init``.
      kernel_init: initializer of W. It draws each gate (I, H) separately, or jointly inside
        :class:`jaxnorm.initializers.Joint`; a tuple gives one initializer per gate.
      recurrent_init: initializer of U (H, H), used in the same way. With None, ``kernel_init`` draws W and U as one
        kernel of [x, h] (I + H, H).
      learn_carry: whether the initial carry is a parameter (zero at first).
      initial_noise: standard deviation of Gaussian noise on the initial h, independent for each example; needs a key.
      max_steps: rows of running statistics, one per time step; the last serves all later steps, and 1 pools over time.
      dtype: dtype of the products and outputs; None promotes inputs and weights.
      param_dtype: dtype of the weights.
      carry_dtype: dtype of h; None means the compute dtype. Gates and statistics are computed in at least float32.

    Raises:
      ValueError: a size is not positive, or a normalizer does not fit a site.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.LiGRU(2, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 2)

    Reference:
      M. Ravanelli, P. Brakel, M. Omologo, Y. Bengio, "Light Gated Recurrent Units for Speech Recognition", 2018,
      arXiv:1803.10225.
    """

    _: dataclasses.KW_ONLY
    activation_fn: Callable[[Array], Array] = jax.nn.relu
    gate_groups: tuple[int, ...] = (1, 1)
    update_bias: float | Initializer | None = None

    gate_count: ClassVar[int] = GATES
    default_sites: ClassVar[tuple[str, ...]] = ("input",)
    optional_sites: ClassVar[tuple[str, ...]] = ("recurrent", "summed")
    carry_type: ClassVar[type[LiGRUCarry]] = LiGRUCarry

    def init_params(self, key: Key, in_features: int) -> LiGRUParams:
        """Draws the weights; ``init`` compiles this."""
        return LiGRUParams(**self.init_gated(key, in_features, UPDATE, self.update_bias))

    def step(
        self, weights: GateWeights, carry: LiGRUCarry, t: StepInput
    ) -> tuple[LiGRUCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the gate, the candidate and the output of one step."""
        (z, n), measured = self.gates(weights, t)
        n = self.activation_fn(n)
        h = n + self.gate_fn(z) * (carry.h.astype(n.dtype) - n)
        return LiGRUCarry(h.astype(carry.h.dtype)), h.astype(weights.dtype), measured


def ligru(
    hidden_features: int,
    *,
    epsilon: float = 1e-5,
    momentum: float | None = 0.9,
    debias: bool = True,
    axis_name: str | tuple[str, ...] | None = None,
    **options: Any,
) -> LiGRU:
    r"""The light gated recurrent unit with batch normalization of the input branch.

    .. math::
       z &= \sigma(BN(x_t W_z) + h_{t-1} U_z) \\
       \hat h_t &= \text{ReLU}(BN(x_t W_h) + h_{t-1} U_h) \\
       h_t &= z \odot h_{t-1} + (1 - z) \odot \hat h_t

    b is omitted, since the bias of the norm makes it redundant. All normalization happens outside of the loop. W starts
    uniform within :math:`1/\sqrt I` and U orthogonal, drawn separately for each gate; scales start at one, biases at
    zero.

    Args:
      hidden_features: H.
      epsilon: added to the variance, inside the root.
      momentum: weight of the old running statistics; None keeps the exact average.
      debias: whether new values weigh at least their share of all data seen so far, see :func:`jaxnorm.update_running`.
      axis_name: name or names of mapped axes that the batch spans.
      **options: further fields of :class:`LiGRU`, ``norm=LayerNorm()`` for example.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> jaxnorm.zoo.ligru(8).norm == jaxnorm.zoo.LiGRU(8, norm=jaxnorm.BatchNorm(momentum=0.9, debias=True)).norm
      True

    Notes:
      In training each step is normalized over its own batch; the running statistics are pooled over time
      (``max_steps=1``). For statistics over all steps and examples at once, pass the result of
      :func:`jaxnorm.sequence_statistics` to :func:`jaxnorm.unroll`; that needs the whole sequence.

    Reference:
      M. Ravanelli, P. Brakel, M. Omologo, Y. Bengio, "Light Gated Recurrent Units for Speech Recognition", 2018,
      arXiv:1803.10225. Initial values are those of its code, mravanelli/pytorch-kaldi, ``neural_networks.py``,
      ``liGRU``.
    """
    norm = CellNorms(input=BatchNorm(epsilon=epsilon, momentum=momentum, debias=debias, axis_name=axis_name))
    defaults: dict[str, Any] = {"norm": norm, "use_bias": False, "kernel_init": initializers.uniform_fan_in}
    settings = {"epsilon": epsilon, "momentum": momentum, "debias": debias, "axis_name": axis_name}
    return LiGRU(hidden_features, **overridden(ligru, defaults, options, **settings))
