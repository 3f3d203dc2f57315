"""Long short-term memory, with a normalizer at each of its three sites."""

import dataclasses
from functools import partial
from typing import NamedTuple, cast, final

import jax
import jax.numpy as jnp

from jaxnorm import _validate
from jaxnorm._typing import Array, Bool, DTypeLike, Float, Initializer, Int
from jaxnorm.cells import base, initializers, products
from jaxnorm.cells.base import Key, Sites, Timed
from jaxnorm.cells.lstm_derivative import cell_state, output
from jaxnorm.norms.base import Normalizer
from jaxnorm.norms.identity import Identity
from jaxnorm.norms.moments import statistics_dtype

GATES = 4


class LSTMCarry(NamedTuple):
    """The state of an LSTM, in Flax's order: cell state c, hidden state h."""

    c: Float[Array, "*B H"]
    h: Float[Array, "*B H"]


class LSTMParams(NamedTuple):
    """The weights of an :class:`LSTM`; gates in the order i f g o."""

    kernel: Float[Array, "I 4 H"]
    recurrent: Float[Array, "H 4 H"]
    bias: Float[Array, "4 H"] | None
    norm: Sites
    carry: LSTMCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class LSTM:
    r"""Long short-term memory with normalizers.

    .. math::
       z_t &= N_x(x_t W), \qquad a_t = h_{t-1} U \\
       i, f, g, o &= z_t + N_h(a_t) + b \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(N_c(c_t))

    with the normalizers :math:`N_x` (site ``input``), :math:`N_h` (``recurrent``) and :math:`N_c` (``cell``). The
    carried c is raw. With Identity at all sites this is the plain LSTM, with LayerNorm the LN-LSTM, with RMSNorm the
    RMS-LSTM, with BatchNorm the BN-LSTM.

    Attributes:
      hidden_features: H.
      norm: one normalizer for all three sites, or Sites(input=..., recurrent=..., cell=...).
      gate_groups: how many consecutive gates (order i f g o) share statistics at the input and recurrent sites:
        (4,) all of them, (1, 1, 1, 1) each gate alone.
      use_bias: whether there is b.
      forget_bias: initial value of b for the forget gate; part of the parameter, never added at run time.
      kernel_init: initializer of W, drawn for each gate (I, H) apart; a tuple gives one for each gate.
      recurrent_init: initializer of U, drawn for each gate (H, H) apart; a tuple gives one for each gate.
      learn_carry: whether the initial carry is a parameter (zero at first).
      initial_noise: standard deviation of Gaussian noise on the initial h, for each example apart; needs a key.
      max_steps: rows of running statistics, one a time step, the last for all later steps; 1 pools over time.
      dtype: of the products, of h and of the outputs; None promotes inputs and weights.
      param_dtype: of the weights.
      carry_dtype: of c; None means at least float32. Gates and statistics are computed in at least float32.

    Raises:
      ValueError: a size is not positive, or a normalizer does not fit a site.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.LSTM(2, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 2)

    Reference:
      S. Hochreiter, J. Schmidhuber, "Long Short-Term Memory", 1997; F. Gers et al., 2000 (forget gate). The
      normalized forms are documented with their presets.
    """

    hidden_features: int
    _: dataclasses.KW_ONLY
    norm: Normalizer | Sites = Identity()
    gate_groups: tuple[int, ...] = (GATES,)
    use_bias: bool = True
    forget_bias: float = 1.0
    kernel_init: Initializer | tuple[Initializer, ...] = initializers.lecun_normal
    recurrent_init: Initializer | tuple[Initializer, ...] = initializers.orthogonal
    learn_carry: bool = False
    initial_noise: float = 0.0
    max_steps: int = 1
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    carry_dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        base.check_common("LSTM", self)
        base.check_groups("LSTM", self.gate_groups, GATES)
        base.settle_dtypes(self)
        object.__setattr__(self, "norm", base.resolve_sites("LSTM", self.norm, Sites._fields))

    @property
    def sites(self) -> Sites:
        """The normalizers at all sites."""
        return cast(Sites, self.norm)  # __post_init__ made it so

    @property
    def _shapes(self) -> Sites:
        gates = (GATES, self.hidden_features)
        return Sites(gates, gates, (self.hidden_features,))

    def init(self, key: Key, in_features: int) -> LSTMParams:
        """Fresh weights for inputs with ``in_features`` features."""
        params: LSTMParams = self._draw(key, _validate.positive_int("LSTM.init", "in_features", in_features))
        return params

    @partial(jax.jit, static_argnums=(0, 2))
    def _draw(self, key: Key, size: int) -> LSTMParams:
        hidden, dtype = self.hidden_features, self.param_dtype
        input_key, recurrent_key = jax.random.split(key)
        bias = jnp.zeros((GATES, hidden), dtype).at[1].set(self.forget_bias) if self.use_bias else None
        zeros = jnp.zeros((hidden,), dtype)
        return LSTMParams(
            kernel=initializers.blocks(
                "LSTM.init", "kernel_init", self.kernel_init, input_key, (size, hidden), GATES, dtype
            ),
            recurrent=initializers.blocks(
                "LSTM.init", "recurrent_init", self.recurrent_init, recurrent_key, (hidden, hidden), GATES, dtype
            ),
            bias=bias,
            norm=base.site_params(self.sites, self._shapes, dtype),
            carry=LSTMCarry(zeros, zeros) if self.learn_carry else None,
        )

    def initial_stats(self) -> Sites:
        """Running statistics with ``max_steps`` rows at each site that has any."""
        return base.site_stats(self.sites, self._shapes, self.max_steps)

    def initial_carry(
        self,
        batch_shape: tuple[int, ...],
        *,
        params: LSTMParams | None = None,
        key: Key | None = None,
        dtype: DTypeLike | None = None,
    ) -> LSTMCarry | Timed:
        """Zeros, or ``params.carry`` where it is learned, plus noise; ``Timed`` if ``max_steps`` exceeds one."""
        dtype = jnp.dtype(dtype or self.dtype or self.param_dtype)
        shape = (*batch_shape, self.hidden_features)
        learned = None if params is None else params.carry
        c = base.initial_entry(learned and learned.c, shape, self.carry_dtype or statistics_dtype(dtype))
        h = base.initial_entry(learned and learned.h, shape, dtype)
        return base.timed(LSTMCarry(c, base.add_noise("LSTM", h, self.initial_noise, key)), batch_shape, self.max_steps)

    def prepare(self, params: LSTMParams, dtype: DTypeLike | None = None) -> LSTMParams:
        """Merges gates with features, gathers biases, centres the kernels (where that saves a mean) and casts them."""
        merged = products.merge_weights(params, ("kernel", "recurrent", "bias"))
        input_norm, recurrent_norm, _ = self.sites
        input_weights, bias = products.gather_bias(input_norm, merged.norm.input, merged.bias)
        recurrent_weights, bias = products.gather_bias(recurrent_norm, merged.norm.recurrent, bias)
        norm = merged.norm._replace(input=input_weights, recurrent=recurrent_weights)
        gathered = merged._replace(bias=bias, norm=norm)
        return products.ready_kernels(gathered, input_norm, recurrent_norm, self.gate_groups, dtype or self.dtype)

    def project(
        self, ready: LSTMParams, xs: Float[Array, "T *B I"], stats: Sites | None, where: Bool[Array, "T *B"] | None
    ) -> tuple[Float[Array, "T *B GH"], Sites]:
        """The normalized input products of all steps plus all biases, in the compute dtype."""
        products.check_features("LSTM.project", xs, ready.kernel)
        normalize = partial(base.normalize_gates, self.sites.input, self.gate_groups, ready.norm.input)
        zs = products.matmul(xs, ready.kernel)
        zs, measured = base.over_steps(normalize, zs, None if stats is None else stats.input, where)
        return base.add_bias(zs, ready.bias).astype(ready.kernel.dtype), Sites(input=measured)

    def recur(self, ready: LSTMParams, carry: LSTMCarry) -> Float[Array, "*B GH"]:
        """The recurrent product a_t, in at least float32."""
        return products.matmul(carry.h, ready.recurrent)

    def step(
        self,
        ready: LSTMParams,
        carry: LSTMCarry,
        z_t: Float[Array, "*B GH"],
        a_t: Float[Array, "*B GH"],
        stats_t: Sites | None,
        where_t: Bool[Array, "*B"] | None,
        key_t: Key | None,
    ) -> tuple[LSTMCarry, Float[Array, "*B H"], Sites]:
        """Gates, cell state and output of one step."""
        norm, p = self.sites, ready.norm
        s = Sites(None, None, None) if stats_t is None else stats_t
        r, m_recurrent = base.normalize_gates(norm.recurrent, self.gate_groups, p.recurrent, a_t, s.recurrent, where_t)
        i, f, g, o = jnp.split(z_t.astype(r.dtype) + r, GATES, axis=-1)
        c = cell_state(i, f, g, carry.c.astype(r.dtype))
        c_hat, m_cell = base.normalize_features(norm.cell, p.cell, c, s.cell, where_t)
        h = output(o, c_hat).astype(carry.h.dtype)
        return LSTMCarry(c.astype(carry.c.dtype), h), h, Sites(recurrent=m_recurrent, cell=m_cell)

    def fold(self, stats: Sites, moments: Sites, start: int | Int[Array, "..."] = 0) -> Sites:
        """Folds the moments of a call into running statistics; ``start`` is ``carry.step`` where a carry was given."""
        return base.fold_sites(self.sites, stats, moments, start)
