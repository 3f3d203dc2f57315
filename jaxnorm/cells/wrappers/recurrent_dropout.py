"""Recurrent dropout without memory loss: drops random updates of the memory."""

import dataclasses
from typing import Any, Literal, final

import jax
import jax.numpy as jnp

from jaxnorm import _validate
from jaxnorm._typing import Array, Bool, Float
from jaxnorm.cells.base import Carry, Key, Ready
from jaxnorm.cells.wrappers import randomness
from jaxnorm.cells.wrappers.base import Wrapper, change_ready, innermost
from jaxnorm.norms.base import Stats


@final
@dataclasses.dataclass(frozen=True)
class RecurrentDropout(Wrapper):
    r"""Drops candidates of a gated cell at random, but never its memory.

    .. math::
       c_t &= \sigma(f) \odot c_{t-1} + d\bigl(\sigma(i) \odot \tanh(g)\bigr) && \text{(LSTM)} \\
       h_t &= (1 - z) \odot h_{t-1} + z \odot d(\hat h_t) && \text{(GRU; z and 1 - z may change places)}

    In training :math:`d(v) = m \odot v` with :math:`m \sim \text{Bernoulli}(1 - p)`, **not** scaled up. In evaluation
    :math:`d(v) = (1 - p) v`.

    Attributes:
      cell: a cell that can scale its candidate (``scales_candidate``), such as an LSTM, a GRU or a similar cell, with
        any normalizers, including one that is already wrapped.
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
        _validate.choice("RecurrentDropout", "per", self.per, ("step", "sequence"))
        inner = innermost(self.cell)
        if not getattr(inner, "scales_candidate", False):
            raise ValueError(
                f"RecurrentDropout: {type(inner).__name__} has no candidate that could be dropped. Use it with an "
                "LSTM or a GRU or their gated relatives; Zoneout and VariationalDropout work with every cell."
            )

    def sample(self, ready: Ready, batch_shape: tuple[int, ...], key: Key | None) -> Ready:
        """Draws one mask for the whole sequence if ``per="sequence"``."""
        own, inner = self.keys(key)
        ready = self.cell.sample(ready, batch_shape, inner)
        if own is None or self.per == "step":
            return ready
        mask = randomness.keep(own, self.rate, (*batch_shape, self.hidden_features))
        return _scale_candidate(ready, jax.lax.stop_gradient(mask.astype(jnp.float32)))

    def step(
        self,
        ready: Ready,
        carry: Carry,
        z_t: Float[Array, "..."],
        a_t: Float[Array, "..."],
        stats_t: Stats | None,
        where_t: Bool[Array, "*B"] | None,
        key_t: Key | None,
    ) -> tuple[Carry, Float[Array, "*B H"], Stats]:
        """Runs a step of the cell with a scaled candidate."""
        own, inner = self.keys(key_t)
        if own is not None and self.per == "step":
            mask = randomness.keep(own, self.rate, (*carry.h.shape[:-1], self.hidden_features))
            ready = _scale_candidate(ready, mask.astype(jnp.float32))
        elif own is None and self.rate > 0.0:
            ready = _scale_candidate(ready, jnp.full((), 1.0 - self.rate))
        return self.cell.step(ready, carry, z_t, a_t, stats_t, where_t, inner)


def _scale_candidate(ready: Ready, scale: Array) -> Ready:
    """Multiplies the factor of the candidate that the cell reads, if any, by another one."""

    def change(weights: Any) -> Any:
        before = weights.scale_of_candidate(scale)
        return weights._replace(candidate_scale=scale if before is None else before * scale)

    return change_ready(ready, change)
