"""The sLSTM: exponential gates with a stabilizer, and heads that do not see the past of other heads."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid, sigmoid

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.starts import filled
from jaxnorm._base.typing import Array, Axis, Float, Initializer
from jaxnorm.cells import initializers
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.initializers import GatesInitializer
from jaxnorm.cells.preactivation.gated_base import GatedCellBase, shift_last_norm
from jaxnorm.cells.preactivation.layout import by_gate, with_gate
from jaxnorm.cells.preactivation.matmul import block_matmul
from jaxnorm.cells.preactivation.preactivation import PreActivation
from jaxnorm.cells.preactivation.weights import GateWeights
from jaxnorm.cells.sites import CellNorms

__all__ = ["SLSTM", "SLSTMCarry", "SLSTMParams"]


GATES = 4
FORGET = 1


class SLSTMCarry(NamedTuple):
    """The state of an sLSTM: cell state c, normalizer n, stabilizer m, hidden state h. n = 0 marks the start."""

    c: Float[Array, "*B H"]
    n: Float[Array, "*B H"]
    m: Float[Array, "*B H"]
    h: Float[Array, "*B H"]


class SLSTMParams(NamedTuple):
    """The weights of an :class:`SLSTM` with N heads of S = H / N units, and gates in the order i f z o.

    Vectors hold gate after gate.
    """

    kernel: Float[Array, "I 4 H"]
    recurrent: Float[Array, "N S 4 S"]
    bias: Float[Array, " 4H"] | None
    norm: CellNorms
    carry: SLSTMCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class SLSTM(GatedCellBase):
    r"""The sLSTM of xLSTM, with normalizers.

    .. math::
       i, f, z, o &= N_s\bigl(N_x(x_t W) + N_h(h_{t-1} R)\bigr) + b \\
       m_t &= \max(i, \; m_{t-1} + \log \sigma(f)), \qquad m_t = i \text{ at the first step} \\
       i', f' &= \exp(i - m_t), \; \exp(m_{t-1} + \log \sigma(f) - m_t) \\
       c_t &= f' \odot c_{t-1} + i' \odot \tanh(z), \qquad n_t = f' \odot n_{t-1} + i' \\
       h_t &= \sigma(o) \odot N_c(c_t / n_t)

    with the normalizers :math:`N_x` (site ``input``), :math:`N_h` (``recurrent``), :math:`N_s` (``summed``) and
    :math:`N_c` (``cell``). R is block-diagonal: the units of a head see only the outputs of their own head. m
    keeps the exponentials at one or below and cancels from h.

    The published block normalizes the outputs of each head after the cell: apply :class:`GroupNorm` with as many groups
    as heads to the outputs. It is not part of the cell.

    Attributes:
      hidden_features: H.
      norm: one normalizer for the sites input and recurrent, or CellNorms(...) with one for each site you name.
      heads: N; must divide H.
      gate_groups: sizes of the groups of consecutive gates (order i f z o) that share statistics: (4,) pools all of
        them, over all heads; (1, 1, 1, 1) normalizes each gate alone.
      use_bias: whether there is a bias b, added after all norms.
      bias_init: initial value of b, a number or an initializer, which draws each gate (H,) separately.
      forget_bias: initial value of b for the forget gate, a number or an initializer, which gets the shape (N, S). If
        use_bias is False, it is added to the initial bias of the last norm before the gates that has one. None leaves
        it to ``bias_init``.
      kernel_init: initializer of W. It draws each gate (I, H) separately, or jointly inside
        :class:`jaxnorm.initializers.Joint`; a tuple gives one initializer per gate.
      recurrent_init: initializer of R (S, S), used in the same way, separately for each head.
      learn_carry: whether the initial carry is a parameter (zero at first).
      initial_noise: standard deviation of Gaussian noise on the initial h, independent for each example; needs a key.
      max_steps: rows of running statistics, one per time step; the last serves all later steps, and 1 pools over time.
      dtype: dtype of the products, of h and of the outputs; None promotes inputs and weights.
      param_dtype: dtype of the weights.
      carry_dtype: dtype of c, n and m; None means at least float32. Gates and statistics are in at least float32.

    Raises:
      ValueError: a size is not positive, ``heads`` does not divide H, or a normalizer does not fit a site.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.SLSTM(4, heads=2)
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> out = jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3)))
      >>> per_head = jaxnorm.GroupNorm(2, axis=-1, use_bias=False)
      >>> y, _ = per_head(per_head.init((4,)), out.outputs)
      >>> y.shape, params.recurrent.shape  # (T, B, H), (N, S, 4, S)
      ((5, 1, 4), (2, 2, 4, 2))

    Notes:
      We detect the first step of each unit and example by n = 0, which is correct after resets and in ragged batches
      too. The published code tests whether all of n is zero, which is the same at the start of a whole batch. After the
      first step n is at least one, so nothing divides by zero.

    Reference:
      M. Beck, K. Pöppel, M. Spanring, A. Auer, O. Prudnikova, M. Kopp, G. Klambauer, J. Brandstetter, S. Hochreiter,
      "xLSTM: Extended Long Short-Term Memory", 2024, arXiv:2405.04517. Initial values are those of the published code,
      without its convolution before the gates i and f.
    """

    _: dataclasses.KW_ONLY
    heads: int = 1
    gate_groups: tuple[int, ...] = (GATES,)
    forget_bias: float | Initializer | None = initializers.PowerLaw()
    kernel_init: GatesInitializer = initializers.small_normal
    recurrent_init: GatesInitializer = jax.nn.initializers.zeros

    kernel_axes: ClassVar[Mapping[str, Axis]] = MappingProxyType({"kernel": 0, "recurrent": 1})
    gate_count: ClassVar[int] = GATES
    default_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent")
    optional_sites: ClassVar[tuple[str, ...]] = ("summed", "cell")
    carry_type: ClassVar[type[SLSTMCarry]] = SLSTMCarry
    float32_carry: ClassVar[tuple[str, ...]] = ("c", "n", "m")
    supports_gate_masks: ClassVar[bool] = False  # the recurrent kernels hold the gates of a head side by side

    def __post_init__(self) -> None:
        super().__post_init__()
        validate.positive_int("SLSTM", "heads", self.heads)
        if self.hidden_features % self.heads:
            raise ValueError(
                f"SLSTM: heads must divide hidden_features = {self.hidden_features}, got {self.heads}. "
                "Each head has as many units as the others."
            )

    @property
    def gates(self) -> PreActivation:
        """The pre-activation object of all gates; the recurrent kernels of the heads are not centered."""
        return PreActivation(self.sites, self.gate_groups, center_recurrent=False, caller="SLSTM")

    def init_params(self, key: Key, in_features: int) -> SLSTMParams:
        """Draws the weights; ``init`` compiles this."""
        hidden, heads, dtype = self.hidden_features, self.heads, self.param_dtype
        size = hidden // heads
        input_key, recurrent_key = jax.random.split(key)
        bias, norm = self.fresh_bias(key), self.fresh_norms(key)
        if self.forget_bias is not None:
            forget = filled(self.forget_bias, jax.random.fold_in(key, 2), (heads, size), dtype)
            bias = with_gate(bias, FORGET, forget.reshape(hidden))

        def head(key: Key) -> Array:
            return self.init_gates("recurrent_init", self.recurrent_init, key, (size, size))

        return SLSTMParams(
            kernel=self.init_gates("kernel_init", self.kernel_init, input_key, (in_features, hidden)),
            recurrent=jax.vmap(head)(jax.random.split(recurrent_key, heads)),
            bias=bias if self.use_bias else None,
            norm=norm if self.use_bias else shift_last_norm(self.sites, norm, bias),
            carry=self.fresh_carry(),
        )

    def project_state(self, weights: GateWeights, carry: SLSTMCarry) -> Float[Array, "*B GH"]:
        """Computes the recurrent product of each head with its own kernel, in at least float32."""
        kernels: Any = weights.recurrent
        by_head = by_gate(block_matmul(carry.h, kernels), GATES)  # N heads, G gates, S units
        return jnp.swapaxes(by_head, -3, -2).reshape(*carry.h.shape[:-1], GATES * self.hidden_features)

    def step(
        self, weights: GateWeights, carry: SLSTMCarry, t: StepInput
    ) -> tuple[SLSTMCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the gates, the stabilizer, the cell state, the normalizer and the output of one step."""
        (i, f, z, o), measured = self.gates(weights, t)
        c, n, m = (entry.astype(o.dtype) for entry in (carry.c, carry.n, carry.m))
        kept = m + log_sigmoid(f)
        m = jnp.where(n == 0, i, jnp.maximum(i, kept))
        i = jnp.exp(i - m)
        f = jnp.exp(jnp.minimum(kept - m, 0.0))  # clipped only at a first step, where c and n are zero
        c = f * c + i * jnp.tanh(z)
        n = f * n + i
        c_hat, m_cell = self.normalize_site("cell", weights, c / n, t)
        h = (sigmoid(o) * c_hat).astype(carry.h.dtype)
        c, n, m = (entry.astype(carry.c.dtype) for entry in (c, n, m))
        return SLSTMCarry(c, n, m, h), h, measured._replace(cell=m_cell)
