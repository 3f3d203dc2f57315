"""Recurrent dropout without memory loss: drops random updates of the memory."""

import dataclasses
from typing import Literal, final

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Float
from jaxnorm.cells.base import Carry, Key, StepInput
from jaxnorm.cells.hooks import hooks
from jaxnorm.cells.wrappers import randomness
from jaxnorm.cells.wrappers.base import StochasticWrapper, WithMasks, carry_shapes, unwrap
from jaxnorm.norms.base import Params, Stats


@final
@dataclasses.dataclass(frozen=True)
class RecurrentDropout(StochasticWrapper):
    r"""Drops candidates of a gated cell at random, but never its memory.

    .. math::
       c_t &= \sigma(f) \odot c_{t-1} + d\bigl(\sigma(i) \odot \tanh(g)\bigr) && \text{(LSTM)} \\
       h_t &= (1 - z) \odot h_{t-1} + z \odot d(\hat h_t) && \text{(GRU; z and 1 - z may change places)}

    In training :math:`d(v) = m \odot v` with :math:`m \sim \text{Bernoulli}(1 - p)`, **not** scaled up. In evaluation
    :math:`d(v) = (1 - p) v`.

    Attributes:
      cell: a cell that can scale its candidate (``supports_candidate_scale``), such as an LSTM or a GRU,
        with any normalizers, including one that is already wrapped.
      deterministic: whether to compute expectations, as in evaluation; see :func:`jaxnorm.deterministic`.
      rate: p, in [0, 1].
      per: whether to draw a new m at each ``"step"``, or one for the whole ``"sequence"``; always independent for each
        unit of each example.

    Raises:
      ValueError: the rate is not in [0, 1], the word is unknown, or the cell has no candidate.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.RecurrentDropout(jaxnorm.ln_gru(4), rate=0.25)
      >>> params = cell.init(jax.random.key(0), in_features=3)  # those of the GRU
      >>> xs = jnp.ones((5, 2, 3))
      >>> jaxnorm.unroll(cell, params, xs, key=jax.random.key(1)).outputs.shape
      (5, 2, 4)

    Notes:
      One mask per sequence means one per call of :func:`jaxnorm.unroll`: a reset does not draw a new mask. The paper's
      variant for simple recurrent networks masks the old h; except for the scale this is
      :class:`jaxnorm.VariationalDropout`.

    Reference:
      S. Semeniuta, A. Severyn, E. Barth, "Recurrent Dropout without Memory Loss", 2016, arXiv:1603.05118.
    """

    _: dataclasses.KW_ONLY
    rate: float = 0.0
    per: Literal["step", "sequence"] = "step"

    def __post_init__(self) -> None:
        super().__post_init__()
        validate.choice("RecurrentDropout", "per", self.per, ("step", "sequence"))
        if not hooks(self.cell).supports_candidate_scale:
            raise ValueError(
                f"RecurrentDropout: {type(unwrap(self.cell)).__name__} has no candidate that could be dropped. Use it "
                "with an LSTM or a GRU or their gated relatives; Zoneout and VariationalDropout work with every cell."
            )

    def draw_masks(self, key: Key, params: Params, batch_shape: tuple[int, ...]) -> Array | None:
        """Draws one mask for the whole sequence if ``per="sequence"``."""
        if self.per == "step":
            return None
        return self._draw(key, carry_shapes(self.cell, batch_shape).h.shape)

    def step(self, weights: WithMasks, carry: Carry, t: StepInput) -> tuple[Carry, Float[Array, "*B H"], Stats]:
        """Runs a step of the cell with a scaled candidate."""
        own, _ = self.keys(t.key)
        if own is not None:
            scale = weights.masks if self.per == "sequence" else self._draw(own, carry.h.shape)
        elif self.rate > 0.0:
            scale = jnp.full((), 1.0 - self.rate)
        else:
            return super().step(weights, carry, t)
        if t.candidate_scale is not None:  # of a recurrent dropout around this one
            scale = t.candidate_scale.astype(scale.dtype) * scale
        return super().step(weights, carry, t._replace(candidate_scale=scale))

    def _draw(self, key: Key, state_shape: tuple[int, ...]) -> Array:
        # h may have fewer features than the candidate, in a cell that projects its output.
        mask = randomness.draw_mask(key, self.rate, (*state_shape[:-1], self.hidden_features))
        return jax.lax.stop_gradient(mask.astype(jnp.float32))
