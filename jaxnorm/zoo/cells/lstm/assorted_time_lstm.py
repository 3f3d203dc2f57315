"""The LSTM of assorted-time normalization: layer normalization with statistics of the last few steps."""

import dataclasses
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm import _validate
from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, Bool, DTypeLike, Float
from jaxnorm.cells import base, initializers
from jaxnorm.cells.base import Key
from jaxnorm.cells.sites import CellNorms
from jaxnorm.cells.cell_base import Frame
from jaxnorm.cells.initializers import GatesInitializer, Joint
from jaxnorm.cells.lstm import GATES
from jaxnorm.cells.lstm_derivative import cell_state, output
from jaxnorm.cells.preactivation import products
from jaxnorm.cells.preactivation.products import Kernel
from jaxnorm.norms.base import init_affine

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
    """The weights of an :class:`AssortedTimeLSTM`; gates in the order i f g o."""

    kernel: Float[Array, "I 4 H"]
    recurrent: Float[Array, "H 4 H"]
    bias: Float[Array, "4 H"] | None
    recurrent_bias: Float[Array, "4 H"] | None
    norm: CellNorms
    carry: AssortedTimeCarry | None = None


class ReadyAssorted(NamedTuple):
    """The weights prepared for a sequence: gates concatenated, kernels cast."""

    kernel: Float[Array, "I GH"]
    recurrent: Kernel
    bias: Float[Array, " GH"] | None
    recurrent_bias: Float[Array, " GH"] | None
    norm: CellNorms


@final
@dataclasses.dataclass(frozen=True)
class AssortedTimeLSTM(Frame):
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

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.Frame`). The norms are built in, so there
    is no site for another one. A learned initial carry has only c and h.

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
    wide_entries: ClassVar[tuple[str, ...]] = ("c", "means", "variances", "real")

    def __post_init__(self) -> None:
        super().__post_init__()
        _validate.positive_int("AssortedTimeLSTM", "steps", self.steps)
        _validate.epsilon("AssortedTimeLSTM", self.epsilon)

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

    def draw(self, key: Key, in_features: int) -> AssortedTimeLSTMParams:
        """Draws the weights; ``init`` compiles this."""
        gates, dtype = (GATES, self.hidden_features), self.param_dtype
        kernel, recurrent = self.draw_kernels(self.recurrent_init, key, in_features)
        return AssortedTimeLSTMParams(
            kernel=kernel,
            recurrent=recurrent,
            bias=jnp.zeros(gates, dtype) if self.use_bias else None,
            recurrent_bias=jnp.zeros(gates, dtype) if self.use_bias else None,
            norm=CellNorms(
                input=init_affine(gates, dtype, 1.0, 0.0),
                recurrent=init_affine(gates, dtype, 1.0, 0.0),
                cell=init_affine(gates[1:], dtype, 1.0, 0.0),
            ),
            carry=self.fresh_carry(),
        )

    def prepare(self, params: AssortedTimeLSTMParams, dtype: DTypeLike | None = None) -> ReadyAssorted:
        """Merges gates with features and casts the kernels. Nothing is centered: later steps need the means."""
        kernel, recurrent = products.merge_gates(params.kernel), products.merge_gates(params.recurrent)
        if dtype or self.dtype:
            kernel, recurrent = kernel.astype(dtype or self.dtype), recurrent.astype(dtype or self.dtype)
        norm = params.norm
        return ReadyAssorted(
            kernel=kernel,
            recurrent=Kernel(recurrent),
            bias=None if params.bias is None else products.merge_gates(params.bias),
            recurrent_bias=None if params.recurrent_bias is None else products.merge_gates(params.recurrent_bias),
            norm=CellNorms(
                input=jax.tree.map(products.merge_gates, norm.input),
                recurrent=jax.tree.map(products.merge_gates, norm.recurrent),
                cell=norm.cell,
            ),
        )

    def project(
        self,
        ready: ReadyAssorted,
        xs: Float[Array, "T *B I"],
        stats: CellNorms | None,
        where: Bool[Array, "T *B"] | None,
    ) -> tuple[Float[Array, "T *B GH2"], CellNorms]:
        """Computes the input products of all steps plus b_x and, as the last two features, their mean and variance."""
        products.check_features("AssortedTimeLSTM.project", xs, ready.kernel)
        zs = base.add_bias(products.matmul(xs, ready.kernel), ready.bias)
        return jnp.concatenate([zs, *_own(zs)], axis=-1), CellNorms()

    def recur(self, ready: ReadyAssorted, carry: AssortedTimeCarry) -> Float[Array, "*B GH"]:
        """Computes the recurrent product a_t in at least float32."""
        return products.matmul(carry.h, ready.recurrent)

    def step(
        self,
        ready: ReadyAssorted,
        carry: AssortedTimeCarry,
        z_t: Float[Array, "*B GH2"],
        a_t: Float[Array, "*B GH"],
        stats_t: CellNorms | None,
        where_t: Bool[Array, "*B"] | None,
        key_t: Key | None,
    ) -> tuple[AssortedTimeCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the gates, the cell state and the output of one step, and appends its statistics to the window."""
        dtype = a_t.dtype
        z_t, mean, var = z_t[..., :-2], z_t[..., -2:-1], z_t[..., -1:]
        a_t = base.add_bias(a_t, ready.recurrent_bias)
        real = carry.real > 0
        means = jnp.split(jnp.where(jnp.tile(real, PLACES), carry.means.astype(dtype), 0.0), PLACES, axis=-1)
        spreads = jnp.maximum(carry.variances.astype(dtype), 0.0)
        variances = jnp.split(jnp.where(jnp.tile(real, PLACES), spreads, 0.0), PLACES, axis=-1)
        weight = jnp.concatenate([real.astype(dtype), jnp.ones_like(mean)], axis=-1)
        weight = weight / jnp.sum(weight, axis=-1, keepdims=True)
        z_hat = self._normalize(ready.norm.input, z_t, (mean, var), (means[0], variances[0]), weight)
        own_a = _own(a_t)
        a_hat = self._normalize(ready.norm.recurrent, a_t, own_a, (means[1], variances[1]), weight)
        i, f, g, o = jnp.split(z_hat + a_hat, GATES, axis=-1)
        c = cell_state(i, f, g, carry.c.astype(dtype))
        own_c = _own(c)
        c_hat = self._normalize(ready.norm.cell, c, own_c, (means[2], variances[2]), weight)
        h = output(o, c_hat).astype(carry.h.dtype)
        latest_means, latest_variances = zip((mean, var), own_a, own_c, strict=True)
        new = AssortedTimeCarry(
            c.astype(carry.c.dtype),
            h,
            _remember(carry.means, latest_means),
            _remember(carry.variances, latest_variances),
            _remember(carry.real, (jnp.ones_like(mean),)),
        )
        return new, h.astype(ready.kernel.dtype), CellNorms()

    def _normalize(
        self,
        affine: tuple[Array, Array],
        x: Float[Array, "*B F"],
        own: tuple[Array, Array],
        past: tuple[Array, Array],
        weight: Float[Array, "*B K1"],
    ) -> Float[Array, "*B F"]:
        """Normalizes by the statistics of a window: of the previous steps, with their weights, and of this step."""
        mean, _ = own
        means, variances = (jnp.concatenate([before, now], axis=-1) for before, now in zip(past, own, strict=True))
        # Subtract this step's own mean first, which keeps the digits if the mean is far from zero.
        shift = jnp.where(weight > 0, means - mean, 0.0)
        delta = jnp.sum(weight * shift, axis=-1, keepdims=True)
        square = jnp.sum(weight * (variances + jnp.square(shift - delta)), axis=-1, keepdims=True) + self.epsilon
        still = square == 0  # the inner where keeps the gradient of the root finite there
        inverse = jnp.where(still, jnp.zeros_like(square), lax.rsqrt(jnp.where(still, jnp.ones_like(square), square)))
        lead = (1,) * (x.ndim - 1)
        scale, bias = (w.astype(x.dtype).reshape(lead + w.shape) for w in affine)
        return scale * ((x - mean) - delta) * inverse + bias


def _own(x: Array) -> tuple[Array, Array]:
    """Computes mean and variance over the features of a step and keeps a feature axis of size one."""
    mean = jnp.mean(x, axis=-1, keepdims=True)
    return mean, jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)


def _remember(memory: Array, latest: tuple[Array, ...]) -> Array:
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
