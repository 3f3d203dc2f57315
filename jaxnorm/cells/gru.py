"""Gated recurrent unit with a normalizer at each site."""

import dataclasses
from typing import ClassVar, Literal, final

import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Float, Initializer
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.gates.activation import Gated
from jaxnorm.cells.gates.functions import gru_functions
from jaxnorm.cells.preactivation.gated_base import GatedCellBase, shift_last_norm
from jaxnorm.cells.preactivation.preactivation import PreActivation, split_gates
from jaxnorm.cells.preactivation.weights import Biases, GateWeights
from jaxnorm.cells.sites import CellNorms
from jaxnorm.norms.identity import Identity

GATES = 3
UPDATE = 1


class GRUCarry(NamedTuple):
    """The state of a GRU: hidden state h."""

    h: Float[Array, "*B H"]


class GRUParams(NamedTuple):
    """The weights of a :class:`GRU`, with gates in the order r z n; vectors hold gate after gate."""

    kernel: Float[Array, "I 3 H"]
    recurrent: Float[Array, "H 3 H"]
    bias: Float[Array, " 3H"] | None
    recurrent_bias: Float[Array, " 3H"] | None
    norm: CellNorms
    carry: GRUCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class GRU(Gated, GatedCellBase):
    r"""Gated recurrent unit with normalizers; the reset gate acts after the recurrent product.

    .. math::
       r_x, z_x, n_x &= N_x(x_t W) + b, \qquad r_h, z_h, n_h = N_h(h_{t-1} U) + b_h \\
       r &= \sigma(r_x + r_h), \qquad z = \sigma(z_x + z_h), \qquad n = \tanh(n_x + r \odot n_h)

    and, by ``update_gate``,

    .. math::
       \text{"keep":}\quad h_t = (1 - z) \odot n + z \odot h_{t-1} \qquad\qquad
       \text{"renew":}\quad h_t = (1 - z) \odot h_{t-1} + z \odot n

    with the normalizers :math:`N_x` (site ``input``) and :math:`N_h` (``recurrent``). By default r and z share their
    statistics and n has its own, as in the LN-GRU. With ``reset="candidate"`` r multiplies the whole candidate, and you
    can normalize the sum (:math:`N_s`, site ``summed``, only if you name it):

    .. math:: r, z, n' = N_s\bigl(N_x(x_t W) + N_h(h_{t-1} U)\bigr) + b, \qquad n = \tanh(\sigma(r) \odot n')

    The two conventions for z are the same model with the sign of one pre-activation flipped.

    Attributes:
      hidden_features: H.
      norm: one normalizer for the sites input and recurrent, or CellNorms(...) with one for each site that you name.
      gate_fn: the function :math:`\sigma` of the gates, see :class:`LSTM`.
      activation_fn: the function of the candidate n, for which the equations have tanh.
      gate_groups: sizes of the groups of consecutive gates (order r z n) that share statistics: (2, 1) as in the LN
        paper, (3,) pools all, (1, 1, 1) normalizes each gate alone.
      update_gate: whether z keeps the old state (Cho et al. 2014, Flax, PyTorch, Keras) or renews it (Chung et al.
        2014, Ba et al. 2016).
      reset: whether r multiplies the recurrent part of the candidate (``"recurrent"``) or all of it
        (``"candidate"``; b_h is omitted, since b would be redundant with it).
      use_bias: whether there are biases b and b_h.
      bias_init: initial value of b, and of b_h, a number or an initializer, which draws each gate (H,) separately.
      bias_at: where b enters: ``"end"`` after all norms, as above; ``"input"`` before the input norm (and so before
        the norm of the sum), :math:`N_x(x_t W + b)`, which also omits b_h.
      update_bias: initial value of b for the update gate z, a number or an initializer, in place of that of
        ``bias_init``; b_h is zero there then. None leaves both to ``bias_init``. It is part of the parameter and not
        added at run time. If use_bias is False, it initializes the bias of the last norm before the gates that
        has one.
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
      ValueError: a size is not positive, a word is unknown, or a normalizer does not fit a site.
      TypeError: ``gate_fn`` or ``activation_fn`` is no function of one array.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.GRU(2, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 2)

    Reference:
      K. Cho et al., 2014, arXiv:1406.1078; J. Chung et al., 2014, arXiv:1412.3555.
    """

    _: dataclasses.KW_ONLY
    gate_groups: tuple[int, ...] = (2, 1)
    update_gate: Literal["keep", "renew"] = "keep"
    reset: Literal["recurrent", "candidate"] = "recurrent"
    bias_at: Literal["end", "input"] = "end"
    update_bias: float | Initializer | None = None

    gate_count: ClassVar[int] = GATES
    gates_apart: ClassVar[bool] = True
    default_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent")
    optional_sites: ClassVar[tuple[str, ...]] = ("summed",)
    carry_type: ClassVar[type[GRUCarry]] = GRUCarry
    supports_candidate_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        validate.choice("GRU", "update_gate", self.update_gate, ("keep", "renew"))
        validate.choice("GRU", "reset", self.reset, ("recurrent", "candidate"))
        validate.choice("GRU", "bias_at", self.bias_at, ("end", "input"))
        if self.reset == "recurrent" and self.sites.summed != Identity():
            raise ValueError(
                "GRU: norm.summed needs the whole candidate before the reset gate multiplies it. "
                "Pass reset='candidate', or leave the site out."
            )
        if self.bias_at != "end" and not self.use_bias:
            raise ValueError(f"GRU: bias_at={self.bias_at!r} says where b enters, but use_bias is False.")

    @property
    def gates(self) -> PreActivation:
        """The pre-activation object; with the reset gate on the recurrent part, both sides of n stay apart."""
        return dataclasses.replace(super().gates, separate=self.reset == "recurrent", added_gates=GATES - 1)

    def init_params(self, key: Key, in_features: int) -> GRUParams:
        """Draws the weights; ``init`` compiles this."""
        kernel, recurrent = self.init_kernels(self.recurrent_init, key, in_features)
        bias, norm = self.start_bias(key, UPDATE, self.update_bias), self.fresh_norms(key)
        set_apart = () if self.update_bias is None else (UPDATE,)
        each_side = self.use_bias and self.reset == "recurrent" and self.bias_at == "end"
        return GRUParams(
            kernel=kernel,
            recurrent=recurrent,
            bias=bias if self.use_bias else None,
            recurrent_bias=self.second_bias(key, *set_apart) if each_side else None,
            norm=norm if self.use_bias else shift_last_norm(self.sites, norm, bias),
            carry=self.fresh_carry(),
        )

    def biases(self, params: GRUParams) -> Biases:
        """The bias b enters where ``bias_at`` says, b_h after the recurrent norm."""
        at_end = self.bias_at == "end"
        return Biases(
            end=params.bias if at_end else None,
            input=None if at_end else params.bias,
            recurrent_out=params.recurrent_bias,
        )

    def step(
        self, weights: GateWeights, carry: GRUCarry, t: StepInput
    ) -> tuple[GRUCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the gates, the candidate and the output of one step."""
        if self.reset == "recurrent":
            x, h, measured = self.gates.sides(weights, t)
            r_x, z_x, n_x = split_gates(x, GATES, weights)
            r_h, z_h, n_h = split_gates(h, GATES, weights)
            r, z = r_x + r_h, z_x + z_h
        else:
            (r, z, n_h), measured = self.gates(weights, t)
            n_x = jnp.zeros_like(n_h)  # r then multiplies the whole candidate
        parts = gru_functions(self.gate_fn, self.activation_fn, self.update_gate)
        h = parts.new_state(r, z, n_x, n_h, carry.h, t.candidate_scale)
        return GRUCarry(h.astype(carry.h.dtype)), h.astype(weights.dtype), measured
