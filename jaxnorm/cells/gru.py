"""Gated recurrent unit, with a normalizer at each of its two sites."""

import dataclasses
from functools import partial
from typing import Literal, NamedTuple, cast, final

import jax
import jax.numpy as jnp

from jaxnorm import _validate
from jaxnorm._typing import Array, Bool, DTypeLike, Float, Initializer, Int
from jaxnorm.cells import base, initializers, products
from jaxnorm.cells.base import Key, Sites, Timed
from jaxnorm.cells.gru_derivative import new_state
from jaxnorm.norms.base import Normalizer
from jaxnorm.norms.identity import Identity

GATES = 3


class GRUCarry(NamedTuple):
    """The state of a GRU: hidden state h."""

    h: Float[Array, "*B H"]


class GRUParams(NamedTuple):
    """The weights of a :class:`GRU`; gates in the order r z n."""

    kernel: Float[Array, "I 3 H"]
    recurrent: Float[Array, "H 3 H"]
    bias: Float[Array, "3 H"] | None
    recurrent_bias: Float[Array, "3 H"] | None
    norm: Sites
    carry: GRUCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class GRU:
    r"""Gated recurrent unit with normalizers; the reset gate acts after the recurrent product.

    .. math::
       r_x, z_x, n_x &= N_x(x_t W) + b, \qquad r_h, z_h, n_h = N_h(h_{t-1} U) + b_h \\
       r &= \sigma(r_x + r_h), \qquad z = \sigma(z_x + z_h), \qquad n = \tanh(n_x + r \odot n_h)

    and, by ``update_gate``,

    .. math::
       \text{"keep":}\quad h_t = (1 - z) \odot n + z \odot h_{t-1} \qquad\qquad
       \text{"renew":}\quad h_t = (1 - z) \odot h_{t-1} + z \odot n

    with the normalizers :math:`N_x` (site ``input``) and :math:`N_h` (``recurrent``). Statistics of r and z are joint,
    those of n apart, as in the LN-GRU. The two conventions for z are the same model with the sign of one
    pre-activation turned.

    Attributes:
      hidden_features: H.
      norm: one normalizer for both sites, or Sites(input=..., recurrent=...).
      gate_groups: how many consecutive gates (order r z n) share statistics: (2, 1) as in the LN paper, (3,) all,
        (1, 1, 1) each alone.
      update_gate: whether z keeps the old state (Cho et al. 2014, Flax, PyTorch, Keras) or renews it (Chung et al.
        2014, Ba et al. 2016).
      use_bias: whether there are b and b_h.
      kernel_init: initializer of W, drawn for each gate (I, H) apart; a tuple gives one for each gate.
      recurrent_init: initializer of U, drawn for each gate (H, H) apart; a tuple gives one for each gate.
      learn_carry: whether the initial carry is a parameter (zero at first).
      initial_noise: standard deviation of Gaussian noise on the initial h, for each example apart; needs a key.
      max_steps: rows of running statistics, one a time step, the last for all later steps; 1 pools over time.
      dtype: of the products and of the outputs; None promotes inputs and weights.
      param_dtype: of the weights.
      carry_dtype: of h; None means the compute dtype. Gates and statistics are computed in at least float32.

    Raises:
      ValueError: a size is not positive, a word is unknown, or a normalizer does not fit a site.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.GRU(2, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 2)

    Reference:
      K. Cho et al., 2014, arXiv:1406.1078; J. Chung et al., 2014, arXiv:1412.3555.
    """

    hidden_features: int
    _: dataclasses.KW_ONLY
    norm: Normalizer | Sites = Identity()
    gate_groups: tuple[int, ...] = (2, 1)
    update_gate: Literal["keep", "renew"] = "keep"
    use_bias: bool = True
    kernel_init: Initializer | tuple[Initializer, ...] = initializers.lecun_normal
    recurrent_init: Initializer | tuple[Initializer, ...] = initializers.orthogonal
    learn_carry: bool = False
    initial_noise: float = 0.0
    max_steps: int = 1
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    carry_dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        base.check_common("GRU", self)
        base.check_groups("GRU", self.gate_groups, GATES)
        _validate.choice("GRU", "update_gate", self.update_gate, ("keep", "renew"))
        base.settle_dtypes(self)
        object.__setattr__(self, "norm", base.resolve_sites("GRU", self.norm, ("input", "recurrent")))

    @property
    def sites(self) -> Sites:
        """The normalizers at all sites."""
        return cast(Sites, self.norm)  # __post_init__ made it so

    @property
    def _shapes(self) -> Sites:
        gates = (GATES, self.hidden_features)
        return Sites(gates, gates, ())

    def init(self, key: Key, in_features: int) -> GRUParams:
        """Fresh weights for inputs with ``in_features`` features."""
        params: GRUParams = self._draw(key, _validate.positive_int("GRU.init", "in_features", in_features))
        return params

    @partial(jax.jit, static_argnums=(0, 2))
    def _draw(self, key: Key, size: int) -> GRUParams:
        hidden, dtype = self.hidden_features, self.param_dtype
        input_key, recurrent_key = jax.random.split(key)
        return GRUParams(
            kernel=initializers.blocks(
                "GRU.init", "kernel_init", self.kernel_init, input_key, (size, hidden), GATES, dtype
            ),
            recurrent=initializers.blocks(
                "GRU.init", "recurrent_init", self.recurrent_init, recurrent_key, (hidden, hidden), GATES, dtype
            ),
            bias=jnp.zeros((GATES, hidden), dtype) if self.use_bias else None,
            recurrent_bias=jnp.zeros((GATES, hidden), dtype) if self.use_bias else None,
            norm=base.site_params(self.sites, self._shapes, dtype),
            carry=GRUCarry(jnp.zeros((hidden,), dtype)) if self.learn_carry else None,
        )

    def initial_stats(self) -> Sites:
        """Running statistics with ``max_steps`` rows at each site that has any."""
        return base.site_stats(self.sites, self._shapes, self.max_steps)

    def initial_carry(
        self,
        batch_shape: tuple[int, ...],
        *,
        params: GRUParams | None = None,
        key: Key | None = None,
        dtype: DTypeLike | None = None,
    ) -> GRUCarry | Timed:
        """Zeros, or ``params.carry`` where it is learned, plus noise; ``Timed`` if ``max_steps`` exceeds one."""
        dtype = jnp.dtype(self.carry_dtype or dtype or self.dtype or self.param_dtype)
        learned = None if params is None else params.carry
        h = base.initial_entry(learned and learned.h, (*batch_shape, self.hidden_features), dtype)
        return base.timed(GRUCarry(base.add_noise("GRU", h, self.initial_noise, key)), batch_shape, self.max_steps)

    def prepare(self, params: GRUParams, dtype: DTypeLike | None = None) -> GRUParams:
        """Merges gates with features, gathers biases, centres the kernels (where that saves a mean) and casts them.

        What is added to r and z is gathered in ``bias``; ``recurrent_bias`` keeps that of n, which r multiplies.
        """
        merged = products.merge_weights(params, ("kernel", "recurrent", "bias", "recurrent_bias"))
        input_norm, recurrent_norm, _ = self.sites
        input_weights, bias = products.gather_bias(input_norm, merged.norm.input, merged.bias)
        recurrent_weights, b_h = products.gather_bias(recurrent_norm, merged.norm.recurrent, merged.recurrent_bias)
        if b_h is not None:
            gates, b_h = jnp.split(b_h, [2 * self.hidden_features])
            bias = products.add_biases(bias, jnp.concatenate([gates, jnp.zeros_like(b_h)]))
        norm = merged.norm._replace(input=input_weights, recurrent=recurrent_weights)
        gathered = merged._replace(bias=bias, recurrent_bias=b_h, norm=norm)
        return products.ready_kernels(gathered, input_norm, recurrent_norm, self.gate_groups, dtype or self.dtype)

    def project(
        self, ready: GRUParams, xs: Float[Array, "T *B I"], stats: Sites | None, where: Bool[Array, "T *B"] | None
    ) -> tuple[Float[Array, "T *B GH"], Sites]:
        """The normalized input products of all steps plus b (and what else r and z get), in the compute dtype."""
        products.check_features("GRU.project", xs, ready.kernel)
        normalize = partial(base.normalize_gates, self.sites.input, self.gate_groups, ready.norm.input)
        zs = products.matmul(xs, ready.kernel)
        zs, measured = base.over_steps(normalize, zs, None if stats is None else stats.input, where)
        return base.add_bias(zs, ready.bias).astype(ready.kernel.dtype), Sites(input=measured)

    def recur(self, ready: GRUParams, carry: GRUCarry) -> Float[Array, "*B GH"]:
        """The recurrent product a_t, in at least float32."""
        return products.matmul(carry.h, ready.recurrent)

    def step(
        self,
        ready: GRUParams,
        carry: GRUCarry,
        z_t: Float[Array, "*B GH"],
        a_t: Float[Array, "*B GH"],
        stats_t: Sites | None,
        where_t: Bool[Array, "*B"] | None,
        key_t: Key | None,
    ) -> tuple[GRUCarry, Float[Array, "*B H"], Sites]:
        """Gates, candidate and output of one step."""
        stats = None if stats_t is None else stats_t.recurrent
        a_hat, m_recurrent = base.normalize_gates(
            self.sites.recurrent, self.gate_groups, ready.norm.recurrent, a_t, stats, where_t
        )
        r_x, z_x, n_x = jnp.split(z_t.astype(a_hat.dtype), GATES, axis=-1)
        r_h, z_h, n_h = jnp.split(a_hat, GATES, axis=-1)
        n_h = base.add_bias(n_h, ready.recurrent_bias)
        z = z_x + z_h if self.update_gate == "keep" else -(z_x + z_h)
        h = new_state(r_x + r_h, z, n_x, n_h, carry.h.astype(a_hat.dtype))
        return GRUCarry(h.astype(carry.h.dtype)), h.astype(ready.kernel.dtype), Sites(recurrent=m_recurrent)

    def fold(self, stats: Sites, moments: Sites, start: int | Int[Array, "..."] = 0) -> Sites:
        """Folds the moments of a call into running statistics; ``start`` is ``carry.step`` where a carry was given."""
        return base.fold_sites(self.sites, stats, moments, start)
