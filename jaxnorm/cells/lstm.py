"""Long short-term memory with a normalizer at each site."""

import dataclasses
from typing import ClassVar, Literal, final

import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Float, Initializer
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.gates.activation import Gated
from jaxnorm.cells.gates.functions import lstm_functions
from jaxnorm.cells.preactivation.gated_base import GatedCellBase, shift_last_norm
from jaxnorm.cells.preactivation.layout import gate_slice, with_gate
from jaxnorm.cells.preactivation.weights import Biases, GateWeights
from jaxnorm.cells.sites import CellNorms

GATES = 4
INPUT, FORGET = 0, 1


class LSTMCarry(NamedTuple):
    """The state of an LSTM, in Flax's order: cell state c, hidden state h."""

    c: Float[Array, "*B H"]
    h: Float[Array, "*B H"]


class LSTMParams(NamedTuple):
    """The weights of an :class:`LSTM`, with gates in the order i f g o; vectors hold gate after gate."""

    kernel: Float[Array, "I 4 H"]
    recurrent: Float[Array, "H 4 H"]
    bias: Float[Array, " 4H"] | None
    norm: CellNorms
    carry: LSTMCarry | None = None
    recurrent_bias: Float[Array, " 4H"] | None = None
    """Only with ``bias_at="each"``."""


@final
@dataclasses.dataclass(frozen=True)
class LSTM(Gated, GatedCellBase):
    r"""Long short-term memory with normalizers.

    .. math::
       z_t &= N_x(x_t W), \qquad a_t = h_{t-1} U \\
       i, f, g, o &= N_s\bigl(z_t + N_h(a_t)\bigr) + b \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(N_c(c_t))

    with the normalizers :math:`N_x` (site ``input``), :math:`N_h` (``recurrent``), :math:`N_s` (``summed``, only if you
    name it) and :math:`N_c` (``cell``). The carried c is raw unless ``carried_cell`` says otherwise. With Identity at
    all sites this is the plain LSTM, with LayerNorm the LN-LSTM, with RMSNorm the RMS-LSTM, with BatchNorm the BN-LSTM.

    Attributes:
      hidden_features: H.
      norm: one normalizer for the sites input, recurrent and cell, or CellNorms(...) with one for each site you name.
      gate_fn: the function :math:`\sigma` of the gates: any function of one array that acts on each element, such as
        ``jax.nn.hard_sigmoid``. Compared by identity: define yours once, since each new lambda compiles again.
      activation_fn: the function for which the equations have tanh, of the candidate g and of the output.
      gate_groups: sizes of the groups of consecutive gates (order i f g o) that share statistics at the sites input,
        recurrent and summed: (4,) pools all of them, (1, 1, 1, 1) normalizes each gate alone.
      use_bias: whether there is a bias b.
      bias_init: initial value of b, a number or an initializer, which draws each gate (H,) separately.
      bias_at: where b enters: ``"end"`` after all norms, as above; ``"input"`` before the input norm (and so before
        the norm of the sum), :math:`N_x(x_t W + b)`; ``"both"`` adds the same b at both places; ``"each"`` has one b
        before the input norm and another before the recurrent norm.
      forget_bias: initial value of b for the forget gate, a number or an initializer, in place of that of
        ``bias_init``, as with Keras' ``unit_forget_bias``; None leaves it to ``bias_init``, as in Flax. It is part of
        the parameter, not added at run time. If use_bias is False, it initializes the bias of the last norm before the
        gates that has one.
      input_bias: ``"opposite"`` starts b for the input gate at minus the value of the forget gate, as
        :class:`jaxnorm.initializers.Chrono` needs it; None leaves it to ``bias_init``.
      carried_cell: whether the next step gets the raw c (``"raw"``) or :math:`N_c(c)` (``"normalized"``).
      cell_clip: clips c to [-cell_clip, cell_clip]; None does not clip.
      kernel_init: initializer of W. It draws each gate (I, H) separately, or jointly inside
        :class:`jaxnorm.initializers.Joint`; a tuple gives one initializer per gate.
      recurrent_init: initializer of U (H, H), used in the same way. With None, ``kernel_init`` draws W and U as one
        kernel of [x, h] (I + H, H).
      learn_carry: whether the initial carry is a parameter (zero at first).
      initial_noise: standard deviation of Gaussian noise on the initial h, independent for each example; needs a key.
      max_steps: rows of running statistics, one per time step; the last serves all later steps, and 1 pools over time.
      dtype: dtype of the products, of h and of the outputs; None promotes inputs and weights.
      param_dtype: dtype of the weights.
      carry_dtype: dtype of c; None means at least float32. Gates and statistics are computed in at least float32.

    Raises:
      ValueError: a size is not positive, a word is unknown, or a normalizer does not fit a site.
      TypeError: ``gate_fn`` or ``activation_fn`` is no function of one array.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.LSTM(2, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 2)

    Notes:
      With ``jax.nn.sigmoid`` and ``jnp.tanh`` a step has derivatives by hand, which keep the least for the backward
      pass; JAX differentiates other functions.

    Reference:
      S. Hochreiter, J. Schmidhuber, "Long Short-Term Memory", 1997; F. Gers et al., 2000 (forget gate). The
      normalized forms are documented with their presets.
    """

    _: dataclasses.KW_ONLY
    gate_groups: tuple[int, ...] = (GATES,)
    bias_at: Literal["end", "input", "both", "each"] = "end"
    forget_bias: float | Initializer | None = 1.0
    input_bias: Literal["opposite"] | None = None
    carried_cell: Literal["raw", "normalized"] = "raw"
    cell_clip: float | None = None

    gate_count: ClassVar[int] = GATES
    gates_apart: ClassVar[bool] = True
    default_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent", "cell")
    optional_sites: ClassVar[tuple[str, ...]] = ("summed",)
    carry_type: ClassVar[type[LSTMCarry]] = LSTMCarry
    float32_carry: ClassVar[tuple[str, ...]] = ("c",)
    supports_candidate_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        validate.choice("LSTM", "bias_at", self.bias_at, ("end", "input", "both", "each"))
        validate.choice("LSTM", "input_bias", self.input_bias, (None, "opposite"))
        validate.choice("LSTM", "carried_cell", self.carried_cell, ("raw", "normalized"))
        if self.cell_clip is not None:
            validate.positive("LSTM", "cell_clip", self.cell_clip)
        if self.bias_at != "end" and not self.use_bias:
            raise ValueError(
                f"LSTM: bias_at={self.bias_at!r} says where b enters, but use_bias is False. Leave it out."
            )

    def init_params(self, key: Key, in_features: int) -> LSTMParams:
        """Draws the weights; ``init`` compiles this."""
        kernel, recurrent = self.init_kernels(self.recurrent_init, key, in_features)
        bias, norm = self.start_bias(key, FORGET, self.forget_bias), self.fresh_norms(key)
        set_apart: tuple[int, ...] = () if self.forget_bias is None else (FORGET,)
        if self.input_bias == "opposite":
            bias = with_gate(bias, INPUT, -bias[gate_slice(FORGET, self.hidden_features)])
            set_apart = (INPUT, FORGET)
        return LSTMParams(
            kernel=kernel,
            recurrent=recurrent,
            bias=bias if self.use_bias else None,
            norm=norm if self.use_bias else shift_last_norm(self.sites, norm, bias),
            carry=self.fresh_carry(),
            recurrent_bias=self.second_bias(key, *set_apart) if self.bias_at == "each" else None,
        )

    def biases(self, params: LSTMParams) -> Biases:
        """The bias b enters where ``bias_at`` says."""
        return Biases(
            end=params.bias if self.bias_at in ("end", "both") else None,
            input=params.bias if self.bias_at != "end" else None,
            recurrent=params.recurrent_bias,
        )

    def step(
        self, weights: GateWeights, carry: LSTMCarry, t: StepInput
    ) -> tuple[LSTMCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the gates, the cell state and the output of one step."""
        parts = lstm_functions(self.gate_fn, self.activation_fn)
        (i, f, g, o), measured = self.gates(weights, t)
        c = clip_state(parts.cell_state(i, f, g, carry.c, t.candidate_scale), self.cell_clip)
        c_hat, m_cell = self.normalize_site("cell", weights, c, t)
        h = parts.output(o, c_hat).astype(carry.h.dtype)
        c = c if self.carried_cell == "raw" else c_hat
        return LSTMCarry(c.astype(carry.c.dtype), h), h, measured._replace(cell=m_cell)


def clip_state(c: Float[Array, "*B H"], bound: float | None) -> Float[Array, "*B H"]:
    """Clips the cell state to [-bound, bound]; None does not clip."""
    return c if bound is None else jnp.clip(c, -bound, bound)
