"""Zoneout: at random, units keep their old state for a step."""

import dataclasses
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp

from jaxnorm._typing import Array, Bool, Float
from jaxnorm.cells.base import Carry, Key, Ready
from jaxnorm.cells.wrappers import randomness
from jaxnorm.cells.wrappers.base import Wrapper, carry_shapes
from jaxnorm.norms.base import Stats
from jaxnorm.norms.core.moments import statistics_dtype


@final
@dataclasses.dataclass(frozen=True)
class Zoneout(Wrapper):
    r"""A cell whose units keep their old state at random, each unit of each example at each step by itself.

    .. math::
       \tilde c_t, \tilde h_t &= \text{cell}(c_{t-1}, h_{t-1}, x_t) \\
       c_t &= m_c \odot \tilde c_t + (1 - m_c) \odot c_{t-1}, \qquad m_c \sim \text{Bernoulli}(1 - z_c) \\
       h_t &= m_h \odot \tilde h_t + (1 - m_h) \odot h_{t-1}, \qquad m_h \sim \text{Bernoulli}(1 - z_h)

    :math:`\tilde h_t` is computed from :math:`\tilde c_t`, which knows nothing of :math:`m_c`; the output is
    :math:`h_t`. At test time :math:`1 - z` takes the place of m.

    Attributes:
      cell: any cell, also one that is wrapped already.
      deterministic: whether expectations are computed, as at test time; see :func:`jaxnorm.deterministic`.
      rate: :math:`z_h`, the probability of keeping the old h; in [0, 1].
      cell_rate: :math:`z_c`, that of keeping the other entries of the carry (c of an LSTM). They are kept together:
        entries of one shape have one mask. Only for cells that have such entries.

    Raises:
      ValueError: a rate is not in [0, 1], or ``cell_rate`` is given for a cell whose carry is h alone.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.Zoneout(jaxnorm.ln_lstm(4), rate=0.05, cell_rate=0.5)
      >>> params = cell.init(jax.random.key(0), in_features=3)  # those of the LSTM
      >>> xs = jnp.ones((5, 2, 3))
      >>> jaxnorm.unroll(cell, params, xs, key=jax.random.key(1)).outputs.shape
      (5, 2, 4)
      >>> jaxnorm.unroll(jaxnorm.deterministic(cell), params, xs).outputs.shape
      (5, 2, 4)

    Notes:
      Rates are probabilities of keeping the old state, as in the paper's text; options of some published scripts are
      probabilities of the update. With normalizers in the cell zoneout comes last, after all of them.

    Reference:
      D. Krueger et al., "Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations", 2017,
      arXiv:1606.01305, section 3.
    """

    _: dataclasses.KW_ONLY
    rate: float = 0.0
    cell_rate: float = 0.0

    rates: ClassVar[tuple[str, ...]] = ("rate", "cell_rate")

    def __post_init__(self) -> None:
        super().__post_init__()
        others = [name for name in carry_shapes(self.cell, ())._fields if name != "h"]
        if self.cell_rate > 0.0 and not others:
            raise ValueError(
                f"Zoneout: cell_rate={self.cell_rate!r} is for entries of the carry besides h, and "
                f"{type(self.cell).__name__} has none. Leave it out."
            )

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
        """A step of the cell, after which some units have their old state again."""
        own, inner = self.keys(key_t)
        new, y_t, measured = self.cell.step(ready, carry, z_t, a_t, stats_t, where_t, inner)
        if y_t.shape != new.h.shape:
            raise ValueError(
                f"Zoneout: the outputs of {type(self.cell).__name__} have shape {y_t.shape}, but its h has "
                f"{new.h.shape}. Zoneout needs a cell whose output is its h."
            )
        h_key, cell_key = (None, None) if own is None else jax.random.split(own)

        def zone(name: str) -> Any:
            rate, key = (self.rate, h_key) if name == "h" else (self.cell_rate, cell_key)
            return jax.tree.map(lambda a, b: self._zone(a, b, rate, key), getattr(new, name), getattr(carry, name))

        zoned = type(new)(**{name: zone(name) for name in new._fields})
        # From the output itself: h may be kept in another dtype.
        return zoned, self._zone(y_t, carry.h.astype(y_t.dtype), self.rate, h_key), measured

    def _zone(self, new: Array, old: Array, rate: float, key: Key | None) -> Array:
        if rate == 0.0 or not jnp.issubdtype(new.dtype, jnp.floating):
            return new
        if key is not None:
            return jnp.where(randomness.keep(key, rate, new.shape), new, old)
        dtype = statistics_dtype(new.dtype)
        return ((1.0 - rate) * new.astype(dtype) + rate * old.astype(dtype)).astype(new.dtype)
