"""Variational dropout: one mask on the inputs and one on the recurrent state, shared by all steps of a sequence."""

import dataclasses
from typing import ClassVar, final

import jax

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Bool, DTypeLike, Float, PyTree
from jaxnorm.cells.base import Carry, Key, Products
from jaxnorm.cells.hooks import GateMasks, hooks
from jaxnorm.cells.preactivation.matmul import scaled
from jaxnorm.cells.wrappers import randomness
from jaxnorm.cells.wrappers.base import StochasticWrapper, WithMasks, carry_shapes, unwrap
from jaxnorm.norms.base import Params, Stats


class Masks(NamedTuple):
    """Factors of the inputs and of the state, the same for all gates; None means no mask."""

    input: Float[Array, "*B I"] | None
    state: Float[Array, "*B H"] | None


@final
@dataclasses.dataclass(frozen=True)
class VariationalDropout(StochasticWrapper):
    r"""Masks the inputs and the old state of a cell, with the same masks for a whole sequence.

    .. math::
       z_t &= (x_t \odot m_x) W, \qquad a_t = (h_{t-1} \odot m_h) U \\
       m_x &\sim \text{Bernoulli}(1 - p_x) / (1 - p_x), \qquad m_h \sim \text{Bernoulli}(1 - p_h) / (1 - p_h)

    for each unit of each example. Only the products see the masks: elsewhere in a step, as in :math:`z \odot h_{t-1}`
    of a GRU, :math:`h_{t-1}` is whole. With ``tied=False`` each gate has its own masks, :math:`(x_t \odot m_x^k)
    W_k` and :math:`(h_{t-1} \odot m_h^k) U_k` for gate k. In evaluation there are no masks.

    Attributes:
      cell: any cell, including one that is already wrapped.
      deterministic: whether to run in evaluation mode; see :func:`jaxnorm.deterministic`.
      rate: :math:`p_h`, the probability of dropping a unit of the recurrent state; in [0, 1], where 1 drops all.
      input_rate: :math:`p_x`, the probability of dropping an input; in [0, 1].
      tied: whether all gates share the masks. Otherwise each gate needs a product of its own, in place of one for all.

    Raises:
      ValueError: a rate is not in [0, 1]. In ``prepare``: the cell lacks the kernel that a mask needs, a recurrent one
        for ``rate``, and kernels that concatenate all gates for ``tied=False``.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.VariationalDropout(jaxnorm.ln_lstm(4), rate=0.3, input_rate=0.5)
      >>> params = cell.init(jax.random.key(0), in_features=3)  # those of the LSTM
      >>> xs = jnp.ones((5, 2, 3))
      >>> jaxnorm.unroll(cell, params, xs, key=jax.random.key(1)).outputs.shape
      (5, 2, 4)

    Notes:
      A sequence is one call of :func:`jaxnorm.unroll`: a reset does not draw new masks. Masks act on the products
      of ``project_inputs`` and ``project_state``; products that a cell computes later in a step see their whole input.
      To average over masks in evaluation, call the training cell with several keys.

    Reference:
      Y. Gal, Z. Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks", 2016,
      arXiv:1512.05287.
    """

    _: dataclasses.KW_ONLY
    rate: float = 0.0
    input_rate: float = 0.0
    tied: bool = True

    rates: ClassVar[tuple[str, ...]] = ("rate", "input_rate")

    def prepare(
        self,
        params: Params,
        *,
        dtype: DTypeLike | None = None,
        batch_shape: tuple[int, ...] = (),
        key: Key | None = None,
        gate_masks: GateMasks | None = None,
    ) -> WithMasks:
        """Prepares the weights of the inner cell and draws the masks; those of single gates go to the inner cell."""
        own, _ = self.keys(key)
        if own is not None and not self.tied:
            gate_masks = _multiply(self._draw_gate_masks(own, params, batch_shape), gate_masks or GateMasks())
        return super().prepare(params, dtype=dtype, batch_shape=batch_shape, key=key, gate_masks=gate_masks)

    def draw_masks(self, key: Key, params: Params, batch_shape: tuple[int, ...]) -> Masks | None:
        """Draws the masks that all gates share; None with ``tied=False``."""
        return Masks(*self._draw(key, params, batch_shape, ())) if self.tied else None

    def project_inputs(self, weights: WithMasks, xs: Float[Array, "T *B I"]) -> Products:
        """Computes the products of the masked inputs of all steps."""
        return super().project_inputs(weights, self._mask_inputs(weights, xs))

    def normalize_inputs(
        self,
        weights: WithMasks,
        xs: Float[Array, "T *B I"],
        products: Products,
        stats: Stats | None,
        where: Bool[Array, "T ..."] | None,
        measured: Stats | None = None,
    ) -> tuple[PyTree, Stats]:
        """Normalizes the products; what a cell computes of the inputs besides, it computes of the masked ones."""
        return super().normalize_inputs(weights, self._mask_inputs(weights, xs), products, stats, where, measured)

    def project_state(self, weights: WithMasks, carry: Carry) -> Products:
        """Computes the recurrent products of the masked state."""
        mask = None if weights.masks is None else weights.masks.state
        return super().project_state(weights, carry if mask is None else carry._replace(h=scaled(carry.h, mask)))

    def _mask_inputs(self, weights: WithMasks, xs: Float[Array, "T *B I"]) -> Float[Array, "T *B I"]:
        mask = None if weights.masks is None else weights.masks.input
        return xs if mask is None else scaled(xs, mask)

    def _draw(
        self, key: Key, params: Params, batch_shape: tuple[int, ...], gates: tuple[int, ...]
    ) -> tuple[Array | None, Array | None]:
        """Draws factors of the inputs and of the state, shaped ``(*gates, *batch_shape, features)``."""
        input_key, state_key = jax.random.split(key)
        inputs = state = None
        # Features that lie along several axes share a factor at all positions of the axes before the last one.
        lead = (*gates, *batch_shape, *(1,) * (hooks(self.cell).feature_axes - 1))
        if self.input_rate > 0.0:
            size = hooks(self.cell).in_features(params)
            if size is None:
                raise ValueError(
                    f"VariationalDropout: {type(unwrap(self.cell)).__name__} has no kernel whose input could be "
                    "masked. Leave input_rate out."
                )
            inputs = randomness.draw_factors(input_key, self.input_rate, (*lead, size))
        if self.rate > 0.0:
            if not hooks(self.cell).multiplies_state:
                raise ValueError(
                    f"VariationalDropout: {type(unwrap(self.cell)).__name__} has no recurrent kernel whose input could "
                    "be masked. Leave rate out."
                )
            features = carry_shapes(self.cell, batch_shape).h.shape[-1]
            state = randomness.draw_factors(state_key, self.rate, (*lead, features))
        return inputs, state

    def _draw_gate_masks(self, key: Key, params: Params, batch_shape: tuple[int, ...]) -> GateMasks:
        if not hooks(self.cell).supports_gate_masks:
            raise ValueError(
                "VariationalDropout: tied=False needs the kernels of all gates side by side, for the inputs and for "
                f"the state, and {type(unwrap(self.cell)).__name__} does not have them so. Leave tied out."
            )
        return GateMasks(*self._draw(key, params, batch_shape, (hooks(self.cell).gate_count,)))


def _multiply(a: GateMasks, b: GateMasks) -> GateMasks:
    """Multiplies the factors of two wrappers around the same cell; None is one."""
    return GateMasks(*(y if x is None else x if y is None else x * y for x, y in zip(a, b, strict=True)))
