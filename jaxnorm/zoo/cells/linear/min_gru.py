"""The minimal GRU: its gates see only the input, so all steps can run at once."""

import dataclasses
from typing import ClassVar, final

from jax.nn import sigmoid

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Float, Initializer
from jaxnorm.cells.base import Key
from jaxnorm.cells.sites import CellNorms
from jaxnorm.zoo.cells.linear.base import LinearCellBase

__all__ = ["MinGRU", "MinGRUCarry", "MinGRUParams"]


GATES = 2
UPDATE = 0


class MinGRUCarry(NamedTuple):
    """The state of a MinGRU: hidden state h."""

    h: Float[Array, "*B H"]


class MinGRUParams(NamedTuple):
    """The weights of a :class:`MinGRU`, with gates in the order z n; vectors hold gate after gate."""

    kernel: Float[Array, "I 2 H"]
    bias: Float[Array, " 2H"] | None
    norm: CellNorms
    carry: MinGRUCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class MinGRU(LinearCellBase):
    r"""Minimal gated recurrent unit with a normalizer.

    .. math::
       z, n &= N_x(x_t W) + b \\
       h_t &= (1 - \sigma(z)) \odot h_{t-1} + \sigma(z) \odot n

    with the normalizer :math:`N_x` (site ``input``). Gates depend only on the input. There is no recurrent kernel;
    everything except one multiplication and one addition happens for all steps at once, and all steps can run in
    parallel.

    Attributes:
      hidden_features: H.
      norm: the normalizer of the site input, or CellNorms(input=...).
      candidate: ``"linear"`` takes n as above; ``"positive"`` takes :math:`g(n)`, the paper's form for computing with
        logarithms, :math:`g(v) = v + \tfrac12` for :math:`v \ge 0`, else :math:`\sigma(v)`. h then stays positive if
        the initial h is.
      gate_groups: sizes of consecutive groups of gates (order z n) that share statistics: (1, 1) each alone, (2,) all.
      use_bias: whether there is a bias b.
      bias_init: initial value of b, a number or an initializer, which draws each gate (H,) separately.
      update_bias: initial value of b for the update gate z (which renews), a number or an initializer. If use_bias is
        False, it is added to the initial bias of the norm, if that has one. None leaves it to ``bias_init``.
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
      >>> cell = jaxnorm.zoo.MinGRU(2, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> xs = jax.random.normal(jax.random.key(1), (5, 1, 3))  # T, B, I
      >>> outputs = jaxnorm.unroll(cell, params, xs, method="associative").outputs
      >>> bool(jnp.allclose(outputs, jaxnorm.unroll(cell, params, xs).outputs, atol=1e-6))
      True

    Notes:
      All steps at once (``unroll(..., method="associative")``) equal stepping, also from a carry that you pass: it
      is h itself and never goes through g again. The scan is safe without logarithms: decays are in [0, 1], nothing
      divides by them, and a product of many of them that underflows is correctly zero.

    Reference:
      L. Feng, F. Tung, M. O. Ahmed, Y. Bengio, H. Hajimirsadegh, "Were RNNs All We Needed?", 2024, arXiv:2410.01201.
      The equations are as we remember the paper; a third-party port agrees with them.
    """

    _: dataclasses.KW_ONLY
    gate_groups: tuple[int, ...] = (1, 1)
    update_bias: float | Initializer | None = None

    gate_count: ClassVar[int] = GATES
    carry_type: ClassVar[type[MinGRUCarry]] = MinGRUCarry

    def init_params(self, key: Key, in_features: int) -> MinGRUParams:
        """Draws the weights; ``init`` compiles this."""
        return MinGRUParams(**self.init_linear(key, in_features, UPDATE, self.update_bias))

    def mix(self, *pre_activations: Float[Array, "*B H"]) -> tuple[Float[Array, "*B H"], Float[Array, "*B H"]]:
        """Computes 1 - z and z as the logistic functions of -z and z, so neither loses digits near zero."""
        (z,) = pre_activations
        return sigmoid(-z), sigmoid(z)
