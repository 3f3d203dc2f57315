"""The LSTM of assorted-time normalization: layer normalization with statistics of the last few steps."""

import dataclasses
from typing import Any, ClassVar, final

import jax.numpy as jnp
from jax import lax

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Bool, DType, Float
from jaxnorm.cells import initializers
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.cell_base import CellBase
from jaxnorm.cells.gates.lstm_derivative import cell_state, output
from jaxnorm.cells.initializers import GatesInitializer, Joint
from jaxnorm.cells.lstm import GATES
from jaxnorm.cells.preactivation.methods import PreActivationMethods
from jaxnorm.cells.preactivation.preactivation import PreActivation
from jaxnorm.cells.preactivation.vectors import add_bias, align
from jaxnorm.cells.preactivation.weights import Biases, GateWeights
from jaxnorm.cells.sites import CellNorms
from jaxnorm.norms.base import init_affine

__all__ = ["AssortedTimeCarry", "AssortedTimeLSTM", "AssortedTimeLSTMParams", "assorted_time_lstm"]


PLACES = 3
"""The number of norms: on the input product, the recurrent product and c."""


class AssortedTimeCarry(NamedTuple):
    """The state of an :class:`AssortedTimeLSTM`: c, h, and statistics of the last k - 1 steps.

    Means and variances are those of the input products, the recurrent products and c, in this order, each with the
    latest step last. ``real`` is positive for steps that the cell has run, and zero before the start.
    """

    c: Float[Array, "*B H"]
    h: Float[Array, "*B H"]
    means: Float[Array, "*B 3K"]
    variances: Float[Array, "*B 3K"]
    real: Float[Array, "*B K"]


class AssortedTimeLSTMParams(NamedTuple):
    """The weights of an :class:`AssortedTimeLSTM`, with gates in the order i f g o; vectors hold gate after gate."""

    kernel: Float[Array, "I 4 H"]
    recurrent: Float[Array, "H 4 H"]
    bias: Float[Array, " 4H"] | None
    recurrent_bias: Float[Array, " 4H"] | None
    norm: CellNorms
    carry: AssortedTimeCarry | None = None


class Measured(NamedTuple):
    """The features of a step with their mean and variance."""

    data: Float[Array, "*B F"]
    mean: Float[Array, "*B 1"]
    var: Float[Array, "*B 1"]


class Past(NamedTuple):
    """The statistics of the previous steps at one norm; ``weight`` is the share of each step, with this one last."""

    means: Float[Array, "*B K"]
    variances: Float[Array, "*B K"]
    weight: Float[Array, "*B K1"]


@final
@dataclasses.dataclass(frozen=True)
class AssortedTimeLSTM(PreActivationMethods, CellBase):
    r"""Long short-term memory with assorted-time normalization.

    .. math::
       i, f, g, o &= ATN_x(x_t W + b_x) + ATN_h(h_{t-1} U + b_h) \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(ATN_c(c_t)) \\
       ATN(a_t) &= \alpha \odot \frac{a_t - \mu_t}{\sqrt{\sigma_t^2 + \epsilon}} + \beta

    with mean and variance over all features of :math:`a_{t-k+1}, \dots, a_t` of the same example, or of fewer steps at
    the start of a sequence. One step is the wiring of ``ln_lstm`` with both biases inside the norms.

    The carry holds the mean and the variance of each of the last k - 1 steps, which determine those of the window. It
    holds no activations. Gradients flow into these statistics.

    Attributes:
      hidden_features: H.
      steps: k, the number of steps that share statistics.
      epsilon: added to the variance, inside the root.
      use_bias: whether there are biases b_x and b_h.
      kernel_init: initializer of W. It draws each gate (I, H) separately, or jointly inside
        :class:`jaxnorm.initializers.Joint`; a tuple gives one initializer per gate.
      recurrent_init: initializer of U (H, H), used in the same way. With None, ``kernel_init`` draws W and U as one
        kernel of [x, h] (I + H, H).

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.CellBase`). The norms are built in, so
    there is no site for another one. A learned initial carry has only c and h.

    Raises:
      ValueError: a size is not positive, epsilon is negative, or a normalizer is given.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.AssortedTimeLSTM(2, steps=4)
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> out = jaxnorm.unroll(cell, params, jnp.ones((2, 1, 3)))
      >>> out.outputs.shape, out.carry.real.tolist()
      ((2, 1, 2), [[0.0, 1.0, 1.0]])

    Notes:
      The window skips masked steps: it holds the last k steps that the cell has run. A window without spread gives the
      bias, with finite gradients, even without epsilon.

    Reference:
      C. Pospisil, V. Zadorozhnyy, Q. Ye, "Assorted-Time Normalization for Sequence Models", 2022, arXiv:2209.14439.
    """

    _: dataclasses.KW_ONLY
    steps: int = 25
    epsilon: float = 1e-5
    recurrent_init: GatesInitializer | None = initializers.orthogonal

    gate_count: ClassVar[int] = GATES
    carry_type: ClassVar[type[AssortedTimeCarry]] = AssortedTimeCarry
    float32_carry: ClassVar[tuple[str, ...]] = ("c", "means", "variances", "real")

    def __post_init__(self) -> None:
        super().__post_init__()
        validate.positive_int("AssortedTimeLSTM", "steps", self.steps)
        validate.epsilon("AssortedTimeLSTM", self.epsilon)

    def carry_features(self) -> dict[str, int]:
        """Returns the number of features of each entry of the carry."""
        hidden, past = self.hidden_features, self.steps - 1
        return {"c": hidden, "h": hidden, "means": PLACES * past, "variances": PLACES * past, "real": past}

    def fresh_carry(self) -> AssortedTimeCarry | None:
        """Makes the parameters of the initial c and h; a sequence always begins with an empty window."""
        if not self.learn_carry:
            return None
        zeros: Any = jnp.zeros((self.hidden_features,), self.param_dtype)
        nothing: Any = None
        return AssortedTimeCarry(zeros, zeros, nothing, nothing, nothing)

    @property
    def gates(self) -> PreActivation:
        """The pre-activation object of all gates. Nothing is centered: later steps need the means."""
        return PreActivation(self.sites, (GATES,), separate=True, caller="AssortedTimeLSTM")

    def init_params(self, key: Key, in_features: int) -> AssortedTimeLSTMParams:
        """Draws the weights; ``init`` compiles this."""
        gates, dtype = (GATES * self.hidden_features,), self.param_dtype
        kernel, recurrent = self.init_kernels(self.recurrent_init, key, in_features)
        return AssortedTimeLSTMParams(
            kernel=kernel,
            recurrent=recurrent,
            bias=self.fresh_bias(key) if self.use_bias else None,
            recurrent_bias=self.second_bias(key) if self.use_bias else None,
            norm=CellNorms(
                input=init_affine(gates, dtype, 1.0, 0.0),
                recurrent=init_affine(gates, dtype, 1.0, 0.0),
                cell=init_affine((self.hidden_features,), dtype, 1.0, 0.0),
            ),
            carry=self.fresh_carry(),
        )

    def biases(self, params: AssortedTimeLSTMParams) -> Biases:
        """Both biases enter before the norms."""
        return Biases(input=params.bias, recurrent=params.recurrent_bias)

    def normalize_inputs(
        self,
        weights: GateWeights,
        xs: Float[Array, "T *B I"],
        products: Float[Array, "T *B GH"],
        stats: CellNorms | None,
        where: Bool[Array, "T *B"] | None,
        measured: CellNorms | None = None,
    ) -> tuple[Measured, CellNorms]:
        """Adds b_x to the input products of all steps; also computes mean and variance of each step."""
        return _measure(add_bias(products, weights.input_bias)), CellNorms()

    def step(
        self, weights: GateWeights, carry: AssortedTimeCarry, t: StepInput
    ) -> tuple[AssortedTimeCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the gates, the cell state and the output of one step, and appends its statistics to the window."""
        x, h = t.x_proj, _measure(add_bias(t.h_proj, weights.recurrent_bias))
        past_x, past_h, past_c = _past(carry, h.data.dtype)
        x_hat = self._normalize(weights.norm.input, x, past_x)
        h_hat = self._normalize(weights.norm.recurrent, h, past_h)
        i, f, g, o = jnp.split(x_hat + h_hat, GATES, axis=-1)
        c = _measure(cell_state(i, f, g, carry.c))
        c_hat = self._normalize(weights.norm.cell, c, past_c)
        new_h = output(o, c_hat).astype(carry.h.dtype)
        new = AssortedTimeCarry(
            c.data.astype(carry.c.dtype),
            new_h,
            _remember(carry.means, x.mean, h.mean, c.mean),
            _remember(carry.variances, x.var, h.var, c.var),
            _remember(carry.real, jnp.ones_like(x.mean)),
        )
        return new, new_h.astype(weights.dtype), CellNorms()

    def _normalize(self, affine: tuple[Array, Array], x: Measured, past: Past) -> Float[Array, "*B F"]:
        """Normalizes by the statistics of a window: of the previous steps, with their weights, and of this step."""
        (scale, bias), weight = affine, past.weight
        means = jnp.concatenate([past.means, x.mean], axis=-1)
        variances = jnp.concatenate([past.variances, x.var], axis=-1)
        # Subtract this step's own mean first, which keeps the digits if the mean is far from zero.
        shift = jnp.where(weight > 0, means - x.mean, 0.0)
        delta = jnp.sum(weight * shift, axis=-1, keepdims=True)
        square = jnp.sum(weight * (variances + jnp.square(shift - delta)), axis=-1, keepdims=True) + self.epsilon
        still = square == 0  # the inner where keeps the gradient of the root finite there
        inverse = jnp.where(still, jnp.zeros_like(square), lax.rsqrt(jnp.where(still, jnp.ones_like(square), square)))
        return add_bias(align(scale, x.data) * ((x.data - x.mean) - delta) * inverse, bias)


def _measure(data: Float[Array, "*B F"]) -> Measured:
    """Computes mean and variance over the features of a step and keeps a feature axis of size one."""
    mean = jnp.mean(data, axis=-1, keepdims=True)
    return Measured(data, mean, jnp.mean(jnp.square(data - mean), axis=-1, keepdims=True))


def _past(carry: AssortedTimeCarry, dtype: DType) -> list[Past]:
    """Splits the statistics of the previous steps by norm; those before the start are zeros without weight."""
    real = carry.real > 0
    everywhere = jnp.tile(real, PLACES)
    means = jnp.where(everywhere, carry.means.astype(dtype), 0.0)
    variances = jnp.where(everywhere, jnp.maximum(carry.variances.astype(dtype), 0.0), 0.0)
    weight = jnp.concatenate([real, jnp.ones_like(real, shape=(*real.shape[:-1], 1))], axis=-1).astype(dtype)
    weight = weight / jnp.sum(weight, axis=-1, keepdims=True)
    parts = zip(*(jnp.split(leaf, PLACES, axis=-1) for leaf in (means, variances)), strict=True)
    return [Past(mean, var, weight) for mean, var in parts]


def _remember(memory: Array, *latest: Array) -> Array:
    """Drops the oldest step of each norm and appends the latest."""
    if memory.shape[-1] == 0:
        return memory
    parts = zip(jnp.split(memory, len(latest), axis=-1), latest, strict=True)
    return jnp.concatenate([leaf for old, new in parts for leaf in (old[..., 1:], new.astype(memory.dtype))], axis=-1)


def assorted_time_lstm(hidden_features: int, *, steps: int = 25, **options: Any) -> AssortedTimeLSTM:
    r"""The LSTM of assorted-time normalization, with the initial values of its code.

    .. math::
       i, f, g, o &= ATN_x(x_t W + b_x) + ATN_h(h_{t-1} U + b_h) \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(ATN_c(c_t))

    W starts orthogonal, all gates in one matrix, U as the identity for each gate, all biases at zero.

    Args:
      hidden_features: H.
      steps: k, the number of steps that share statistics: 25 in the adding problem, 20 for characters.
      **options: further fields of :class:`AssortedTimeLSTM`.

    Returns:
      The cell.

    Example:
      >>> import jax, jaxnorm
      >>> params = jaxnorm.zoo.assorted_time_lstm(2).init(jax.random.key(0), in_features=3)
      >>> params.recurrent[:, 0].tolist()
      [[1.0, 0.0], [0.0, 1.0]]

    Reference:
      C. Pospisil, V. Zadorozhnyy, Q. Ye, "Assorted-Time Normalization for Sequence Models", 2022, arXiv:2209.14439;
      code vasily789/atn, ``atn_lstm.py``.
    """
    defaults: dict[str, Any] = {
        "steps": steps,
        "kernel_init": Joint(initializers.orthogonal),
        "recurrent_init": initializers.eye,
    }
    return AssortedTimeLSTM(hidden_features, **(defaults | options))
