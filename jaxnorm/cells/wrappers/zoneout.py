"""Zoneout: random units keep their old state for a step."""

import dataclasses
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp

from jaxnorm._base import objects
from jaxnorm._base.typing import Array, Float
from jaxnorm.cells.base import Carry, Key, StepInput
from jaxnorm.cells.wrappers import randomness
from jaxnorm.cells.wrappers.base import StochasticWrapper, WithMasks, carry_shapes
from jaxnorm.norms.base import Stats
from jaxnorm.norms.core.moments import statistics_dtype


@final
@dataclasses.dataclass(frozen=True)
class Zoneout(StochasticWrapper):
    r"""Lets random units of a cell keep their old state, independently for each unit, example and step.

    .. math::
       \tilde c_t, \tilde h_t &= \text{cell}(c_{t-1}, h_{t-1}, x_t) \\
       c_t &= m_c \odot \tilde c_t + (1 - m_c) \odot c_{t-1}, \qquad m_c \sim \text{Bernoulli}(1 - z_c) \\
       h_t &= m_h \odot \tilde h_t + (1 - m_h) \odot h_{t-1}, \qquad m_h \sim \text{Bernoulli}(1 - z_h)

    The cell computes :math:`\tilde h_t` from :math:`\tilde c_t`, before :math:`m_c` acts; the output is :math:`h_t`. In
    evaluation, :math:`1 - z` replaces m.

    Attributes:
      cell: any cell, including one that is already wrapped.
      deterministic: whether to compute expectations, as in evaluation; see :func:`jaxnorm.deterministic`.
      rate: :math:`z_h`, the probability of keeping the old h; in [0, 1].
      cell_rate: :math:`z_c`, the probability of keeping the other entries of the carry (c of an LSTM). Entries of the
        same shape share one mask. Only for cells that have such entries.

    Raises:
      TypeError: the carry of the cell has no h.
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
      Rates are probabilities of keeping the old state, as in the paper's text; some published scripts take the
      probability of an update instead. Zoneout acts after all normalizers of the cell.

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
        fields = getattr(carry := carry_shapes(self.cell, ()), "_fields", ())
        if "h" not in fields:
            raise TypeError(
                f"Zoneout: the carry of {type(self.cell).__name__} must be a NamedTuple with an entry h, got "
                f"{objects.describe(carry)}. Let it be jaxnorm.ElmanCarry(h), or another one."
            )
        others = [name for name in fields if name != "h"]
        if self.cell_rate > 0.0 and not others:
            raise ValueError(
                f"Zoneout: cell_rate={self.cell_rate!r} is for entries of the carry besides h, and "
                f"{type(self.cell).__name__} has none. Leave it out."
            )

    def step(self, weights: WithMasks, carry: Carry, t: StepInput) -> tuple[Carry, Float[Array, "*B H"], Stats]:
        """Runs a step of the cell, then restores the old state of some units."""
        own, _ = self.keys(t.key)
        new, y, moments = super().step(weights, carry, t)
        if y.shape != new.h.shape:
            raise ValueError(
                f"Zoneout: the outputs of {type(self.cell).__name__} have shape {y.shape}, but its h has "
                f"{new.h.shape}. Zoneout needs a cell whose output is its h."
            )
        h_key, cell_key = (None, None) if own is None else jax.random.split(own)

        def zone(name: str) -> Any:
            rate, key = (self.rate, h_key) if name == "h" else (self.cell_rate, cell_key)
            return jax.tree.map(lambda a, b: self._zone(a, b, rate, key), getattr(new, name), getattr(carry, name))

        mixed = type(new)(**{name: zone(name) for name in new._fields})
        # Mix the output itself instead of casting h: the carry may hold h in another dtype.
        return mixed, self._zone(y, carry.h.astype(y.dtype), self.rate, h_key), moments

    def _zone(self, new: Array, old: Array, rate: float, key: Key | None) -> Array:
        if rate == 0.0 or not jnp.issubdtype(new.dtype, jnp.floating):
            return new
        if key is not None:
            mask = randomness.draw_mask(key, rate, new.shape)
            sharding = jax.typeof(new).sharding
            if any(sharding.spec):  # on a mesh with explicit axes a choice is made where the state lies
                mask = jax.reshard(mask, sharding)  # type: ignore[no-untyped-call]
            return jnp.where(mask, new, old)
        dtype = statistics_dtype(new.dtype)
        return ((1.0 - rate) * new.astype(dtype) + rate * old.astype(dtype)).astype(new.dtype)
