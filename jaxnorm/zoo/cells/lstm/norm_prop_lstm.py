"""The LSTM of normalization propagation: no statistics, but kernels with unit rows and two constants."""

import dataclasses
from typing import Any, ClassVar, Literal, final

import jax.numpy as jnp

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Float
from jaxnorm.cells import initializers
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.cell_base import CellBase
from jaxnorm.cells.gates.lstm_derivative import cell_state, output
from jaxnorm.cells.initializers import GatesInitializer
from jaxnorm.cells.lstm import GATES, LSTMCarry, LSTMParams
from jaxnorm.cells.preactivation.layout import by_gate
from jaxnorm.cells.preactivation.methods import PreActivationMethods
from jaxnorm.cells.preactivation.preactivation import PreActivation
from jaxnorm.cells.preactivation.vectors import align
from jaxnorm.cells.preactivation.weights import GateWeights
from jaxnorm.cells.sites import CellNorms
from jaxnorm.norms.core.moments import statistics_dtype
from jaxnorm.weight_norms.weight_norm import weight_norm
from jaxnorm.zoo.norms.propagation.lstm_variances import LSTMVariances, norm_prop_lstm_variances

__all__ = ["NormPropLSTM", "NormPropLSTMParams", "NormPropScales", "norm_prop_lstm"]


class NormPropScales(NamedTuple):
    """The gains of a :class:`NormPropLSTM`, one for each unit."""

    input: Float[Array, " 4H"]
    recurrent: Float[Array, " 4H"]
    cell: Float[Array, " H"]


class NormPropLSTMParams(NamedTuple):
    """The weights of a :class:`NormPropLSTM`, with gates in the order i f g o; vectors hold gate after gate."""

    kernel: Float[Array, "I 4 H"]
    recurrent: Float[Array, "H 4 H"]
    bias: Float[Array, " 4H"] | None
    scale: NormPropScales
    carry: LSTMCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class NormPropLSTM(PreActivationMethods, CellBase):
    r"""Normalized LSTM: it propagates unit variance instead of measuring it.

    .. math::
       v &= g_x \odot \frac{x_t W_v}{\lVert W_v \rVert} + g_h \odot \frac{h_{t-1} U_v}{\lVert U_v \rVert} + b_v
            \quad \text{for each unit of } i, f, g, o \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \frac{1}{\sqrt{V_h}} \, \sigma(o) \odot \tanh\Bigl(\frac{g_c \odot c_t}{\sqrt{V_c}}\Bigr)

    The gains are trained. :math:`V_c, V_h` are constants that :func:`jaxnorm.zoo.norm_prop_lstm_variances` computes
    from their initial values. ``prepare`` normalizes kernels once a sequence, so a step costs no more than that of a
    plain LSTM.

    Attributes:
      hidden_features: H.
      use_bias: whether there is a bias b.
      input_scale: initial value of :math:`g_x`.
      recurrent_scale: initial value of :math:`g_h`.
      cell_scale: initial value of :math:`g_c`.
      combine: how the two gains combine to the standard deviation behind the constants: ``"sum"`` as in eqs. 9 and 10
        of the paper, ``"independent"`` as in its eq. 22.
      kernel_init: initializer of W. It draws each gate (I, H) separately, or jointly inside
        :class:`jaxnorm.initializers.Joint`; a tuple gives one initializer per gate.
      recurrent_init: initializer of U (H, H), used in the same way. With None, ``kernel_init`` draws W and U as one
        kernel of [x, h] (I + H, H).

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.CellBase`). There is no site for a norm.

    Raises:
      ValueError: a size is not positive, a scale is negative, or a normalizer is given.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.NormPropLSTM(2)
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape, params.scale.cell.tolist()
      ((5, 1, 2), [1.0, 1.0])

    Notes:
      The outputs have mean zero and variance one only if the inputs do; multiply one-hot vectors by a fixed orthogonal
      matrix. The paper uses scales of 2, 2 and 1 for characters of the Penn Treebank, and 0.5 each in DRAW. A unit
      with zero weights gives its bias. The constants assume that successive pre-activations are independent, which a
      recurrent product violates: with gains of 0.5, an orthogonal U and H = 256 we saw the variance of the outputs
      settle near 1.6.

    Reference:
      C. Laurent, N. Ballas, P. Vincent, "Recurrent Normalization Propagation", 2017.
    """

    _: dataclasses.KW_ONLY
    input_scale: float = 2.0
    recurrent_scale: float = 2.0
    cell_scale: float = 1.0
    combine: Literal["sum", "independent"] = "sum"
    recurrent_init: GatesInitializer | None = initializers.orthogonal

    gate_count: ClassVar[int] = GATES
    carry_type: ClassVar[type[LSTMCarry]] = LSTMCarry
    float32_carry: ClassVar[tuple[str, ...]] = ("c",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.variances  # checks the scales

    @property
    def variances(self) -> LSTMVariances:
        """Computes the two constants from the initial gains."""
        return norm_prop_lstm_variances(
            input_scale=self.input_scale,
            recurrent_scale=self.recurrent_scale,
            cell_scale=self.cell_scale,
            combine=self.combine,
        )

    @property
    def gates(self) -> PreActivation:
        """The pre-activation object of all gates; nothing is measured."""
        return PreActivation(self.sites, (GATES,), caller="NormPropLSTM")

    def init_params(self, key: Key, in_features: int) -> NormPropLSTMParams:
        """Draws the weights; ``init`` compiles this."""
        hidden, dtype = self.hidden_features, self.param_dtype
        kernel, recurrent = self.init_kernels(self.recurrent_init, key, in_features)
        return NormPropLSTMParams(
            kernel=kernel,
            recurrent=recurrent,
            bias=self.fresh_bias(key) if self.use_bias else None,
            scale=NormPropScales(
                input=jnp.full((GATES * hidden,), self.input_scale, dtype),
                recurrent=jnp.full((GATES * hidden,), self.recurrent_scale, dtype),
                cell=jnp.full((hidden,), self.cell_scale, dtype),
            ),
            carry=self.fresh_carry(),
        )

    def prepare(self, params: NormPropLSTMParams, **options: Any) -> GateWeights:
        """Normalizes the kernels, multiplies by the gains, flattens and casts; ``extra`` scales c."""
        scale = params.scale
        kernel = weight_norm(params.kernel, by_gate(scale.input, GATES), axis=0)
        recurrent = weight_norm(params.recurrent, by_gate(scale.recurrent, GATES), axis=0)
        plain = LSTMParams(kernel, recurrent, params.bias, CellNorms())
        weights = super().prepare(plain, **options)
        cell_scale = scale.cell.astype(statistics_dtype(scale.cell.dtype)) / self.variances.cell**0.5
        return weights._replace(extra=cell_scale)

    def step(
        self, weights: GateWeights, carry: LSTMCarry, t: StepInput
    ) -> tuple[LSTMCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the gates, the cell state and the output of one step."""
        (i, f, g, o), measured = self.gates(weights, t)
        c = cell_state(i, f, g, carry.c)
        h = (output(o, align(weights.extra, c) * c) / self.variances.hidden**0.5).astype(carry.h.dtype)
        return LSTMCarry(c.astype(carry.c.dtype), h), h, measured


def norm_prop_lstm(
    hidden_features: int,
    *,
    input_scale: float = 2.0,
    recurrent_scale: float = 2.0,
    cell_scale: float = 1.0,
    **options: object,
) -> NormPropLSTM:
    r"""The normalized LSTM with the gains of the paper.

    .. math::
       v &= g_x \odot \frac{x_t W_v}{\lVert W_v \rVert} + g_h \odot \frac{h_{t-1} U_v}{\lVert U_v \rVert} + b_v \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \frac{1}{\sqrt{V_h}} \, \sigma(o) \odot \tanh(g_c \odot c_t / \sqrt{V_c})

    Kernels start orthogonal. We draw each gate separately; the paper does not say. b starts at zero, including the
    forget gate.

    Args:
      hidden_features: H.
      input_scale: initial :math:`g_x`: 2 for characters of the Penn Treebank, 0.5 in DRAW.
      recurrent_scale: initial :math:`g_h`, with the same values.
      cell_scale: initial :math:`g_c`: 1 for characters, 0.5 in DRAW.
      **options: further fields of :class:`NormPropLSTM`.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> [round(v, 3) for v in jaxnorm.zoo.norm_prop_lstm(8).variances]
      [0.557, 0.161]

    Reference:
      C. Laurent, N. Ballas, P. Vincent, "Recurrent Normalization Propagation", 2017.
    """
    defaults = {
        "input_scale": input_scale,
        "recurrent_scale": recurrent_scale,
        "cell_scale": cell_scale,
        "kernel_init": initializers.orthogonal,
    }
    return NormPropLSTM(hidden_features, **(defaults | options))  # type: ignore[arg-type]
