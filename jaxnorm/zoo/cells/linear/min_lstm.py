"""The minimal LSTM: its gates see only the input, so all steps can run at once."""

import dataclasses
from typing import ClassVar, final

from jax.nn import log_sigmoid, sigmoid

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Float, Initializer
from jaxnorm.cells.base import Key
from jaxnorm.cells.sites import CellNorms
from jaxnorm.zoo.cells.linear.base import LinearCellBase

__all__ = ["MinLSTM", "MinLSTMCarry", "MinLSTMParams"]


GATES = 3
FORGET = 1


class MinLSTMCarry(NamedTuple):
    """The state of a MinLSTM: hidden state h."""

    h: Float[Array, "*B H"]


class MinLSTMParams(NamedTuple):
    """The weights of a :class:`MinLSTM`, with gates in the order i f n; vectors hold gate after gate."""

    kernel: Float[Array, "I 3 H"]
    bias: Float[Array, " 3H"] | None
    norm: CellNorms
    carry: MinLSTMCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class MinLSTM(LinearCellBase):
    r"""Minimal long short-term memory with a normalizer.

    .. math::
       i, f, n &= N_x(x_t W) + b \\
       h_t &= \frac{\sigma(f)}{\sigma(f) + \sigma(i)} \odot h_{t-1} + \frac{\sigma(i)}{\sigma(f) + \sigma(i)} \odot n

    with the normalizer :math:`N_x` (site ``input``). Gates depend only on the input. There is no recurrent kernel;
    everything except one multiplication and one addition happens for all steps at once, and all steps can run in
    parallel.

    Attributes:
      hidden_features: H.
      norm: the normalizer of the site input, or CellNorms(input=...).
      candidate: ``"linear"`` takes n as above; ``"positive"`` takes :math:`g(n)`, the paper's form for computing with
        logarithms, :math:`g(v) = v + \tfrac12` for :math:`v \ge 0`, else :math:`\sigma(v)`. h then stays positive if
        the initial h is.
      gate_groups: sizes of consecutive groups of gates (order i f n) that share statistics: (1, 1, 1) each alone, (3,)
        all.
      use_bias: whether there is a bias b.
      bias_init: initial value of b, a number or an initializer, which draws each gate (H,) separately.
      forget_bias: initial value of b for the forget gate f, a number or an initializer. If use_bias is False, it is
        added to the initial bias of the norm, if that has one. None leaves it to ``bias_init``.
      kernel_init: initializer of W. It draws each gate (I, H) separately, or jointly inside
        :class:`jaxnorm.initializers.Joint`; a tuple gives one initializer per gate.
      learn_carry: whether the initial carry is a parameter (zero at first).
      initial_noise: standard deviation of Gaussian noise on the initial h, independent for each example; needs a key.
      max_steps: rows of running statistics, one per time step; the last serves all later steps, and 1 pools over time.
      dtype: dtype of the products and outputs; None promotes inputs and weights.
      param_dtype: dtype of the weights.
      carry_dtype: dtype of h; None means the compute dtype. Gates and statistics are computed in at least float32.

    Raises:
      ValueError: a size is not positive, a word is unknown, or a normalizer does not fit the site.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.MinLSTM(2, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> xs = jax.random.normal(jax.random.key(1), (5, 1, 3))  # T, B, I
      >>> outputs = jaxnorm.unroll(cell, params, xs, method="associative").outputs
      >>> bool(jnp.allclose(outputs, jaxnorm.unroll(cell, params, xs).outputs, atol=1e-6))
      True

    Notes:
      All steps at once (``unroll(..., method="associative")``) equal stepping, also from a carry that you pass: it
      is h itself and never goes through g again. The scan is safe without logarithms: decays are in [0, 1], nothing
      divides by them, and a product of many of them that underflows is correctly zero.
      It computes the quotients without dividing, since both gates may underflow.

    Reference:
      L. Feng, F. Tung, M. O. Ahmed, Y. Bengio, H. Hajimirsadegh, "Were RNNs All We Needed?", 2024, arXiv:2410.01201.
      The equations are as we remember the paper; a third-party port agrees with them.
    """

    _: dataclasses.KW_ONLY
    gate_groups: tuple[int, ...] = (1, 1, 1)
    forget_bias: float | Initializer | None = None

    gate_count: ClassVar[int] = GATES
    carry_type: ClassVar[type[MinLSTMCarry]] = MinLSTMCarry

    def init_params(self, key: Key, in_features: int) -> MinLSTMParams:
        """Draws the weights; ``init`` compiles this."""
        return MinLSTMParams(**self.init_linear(key, in_features, FORGET, self.forget_bias))

    def mix(self, *pre_activations: Float[Array, "*B H"]) -> tuple[Float[Array, "*B H"], Float[Array, "*B H"]]:
        """Divides both gates by their sum, as the logistic function of the difference of their logarithms: finite."""
        i, f = pre_activations
        difference = log_sigmoid(i) - log_sigmoid(f)
        return sigmoid(-difference), sigmoid(difference)
