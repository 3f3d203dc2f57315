"""Variational dropout: one mask on the inputs and one on the recurrent state, shared by all steps of a sequence."""

import dataclasses
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp

from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, Bool, DTypeLike, Float
from jaxnorm.cells.base import Carry, Cell, CellNorms, Key, Ready
from jaxnorm.cells.preactivation.centering import uncentered
from jaxnorm.cells.preactivation.products import GateKernels, Kernel, scaled
from jaxnorm.cells.wrappers import randomness
from jaxnorm.cells.wrappers.base import (
    Drawn,
    Wrapper,
    carry_shapes,
    change_innermost,
    change_ready,
    innermost,
    innermost_ready,
)
from jaxnorm.norms.base import Params, Stats
from jaxnorm.norms.identity import Identity


class Masks(NamedTuple):
    """The factors of inputs and recurrent state at all steps; None means no mask."""

    input: Float[Array, "*B I"] | None
    recurrent: Float[Array, "*B H"] | None


@final
@dataclasses.dataclass(frozen=True)
class VariationalDropout(Wrapper):
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
      rate: :math:`p_h`, the probability of dropping a unit of the recurrent state; in [0, 1).
      input_rate: :math:`p_x`, the probability of dropping an input; in [0, 1).
      tied: whether all gates share the masks. Otherwise each gate needs a product of its own, in place of one for all.

    Raises:
      ValueError: a rate is not in [0, 1), or the cell lacks the kernel that a mask needs: one recurrent kernel, and
        with ``tied=False`` kernels that concatenate all gates.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.VariationalDropout(jaxnorm.ln_lstm(4), rate=0.3, input_rate=0.5)
      >>> params = cell.init(jax.random.key(0), in_features=3)  # those of the LSTM
      >>> xs = jnp.ones((5, 2, 3))
      >>> jaxnorm.unroll(cell, params, xs, key=jax.random.key(1)).outputs.shape
      (5, 2, 4)

    Notes:
      A sequence is one call of :func:`jaxnorm.unroll`: a reset does not draw new masks. Masks act on the product before
      the loop and on the product of ``recur``; products that a cell computes later in a step see their whole input. To
      average over masks in evaluation, call the training cell with several keys.

    Reference:
      Y. Gal, Z. Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks", 2016,
      arXiv:1512.05287.
    """

    _: dataclasses.KW_ONLY
    rate: float = 0.0
    input_rate: float = 0.0
    tied: bool = True

    rates: ClassVar[tuple[str, ...]] = ("rate", "input_rate")
    below_one: ClassVar[bool] = True

    @property
    def run(self) -> Cell:
        """The inner cell; without centered kernels if masks are not tied, since each gate then sees another input."""
        if self.tied or not self.active:
            return self.cell
        run: Cell = change_innermost(self.cell, _without_centering)
        return run

    def prepare(self, params: Params, dtype: DTypeLike | None = None) -> Ready:
        """Prepares the weights of the inner cell, once a sequence."""
        return self.run.prepare(params, dtype)

    def sample(self, ready: Ready, batch_shape: tuple[int, ...], key: Key | None) -> Ready:
        """Draws the masks."""
        own, inner = self.keys(key)
        ready = self.run.sample(ready, batch_shape, inner)
        if own is None:
            return ready
        weights, where = innermost_ready(ready), type(innermost(self.cell)).__name__
        for name, rate in (("kernel", self.input_rate), ("recurrent", self.rate)):
            if rate > 0.0 and not hasattr(weights, name):
                raise ValueError(
                    f"VariationalDropout: {where} has no {name} whose input could be masked. Leave its rate out."
                )
        count = 1 if self.tied else _gates(innermost(self.cell), weights)
        gates = () if self.tied else (count,)
        input_key, state_key = jax.random.split(own)
        masks = Masks(None, None)
        if self.input_rate > 0.0:
            shape = (*gates, *batch_shape, weights.kernel.shape[0])
            masks = masks._replace(input=randomness.inverted(input_key, self.input_rate, shape))
        if self.rate > 0.0:
            shape = (*gates, *carry_shapes(self.cell, batch_shape).h.shape)
            masks = masks._replace(recurrent=randomness.inverted(state_key, self.rate, shape))
        return (
            Drawn(ready, masks) if self.tied else change_ready(ready, lambda weights: _by_gates(weights, masks, count))
        )

    def project(
        self, ready: Ready, xs: Float[Array, "T *B I"], stats: Stats | None, where: Bool[Array, "T *B"] | None
    ) -> tuple[Float[Array, "..."], Stats]:
        """Computes the products of the masked inputs of all steps."""
        ready, masks = self._open(ready)
        xs = xs if masks.input is None else scaled(xs, masks.input)
        return self.run.project(ready, xs, stats, where)

    def recur(self, ready: Ready, carry: Carry) -> Float[Array, "..."]:
        """Computes the recurrent product of the masked state."""
        ready, masks = self._open(ready)
        carry = carry if masks.recurrent is None else carry._replace(h=scaled(carry.h, masks.recurrent))
        return self.run.recur(ready, carry)

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
        """Does the rest of a step, with the whole state."""
        return self.run.step(self._open(ready)[0], carry, z_t, a_t, stats_t, where_t, self.keys(key_t)[1])

    def _open(self, ready: Ready) -> tuple[Ready, Masks]:
        """Splits the prepared weights into those of the inner cell and the masks."""
        if self.active and self.tied:
            return ready.ready, ready.masks
        return ready, Masks(None, None)


def _gates(cell: Any, weights: Any) -> int:
    """Returns the number of gates that both kernels concatenate."""
    count: int = getattr(cell, "gate_count", 1)
    recurrent = getattr(weights, "recurrent", None)
    matrix = recurrent.matrix if isinstance(recurrent, Kernel) else None
    width = weights.kernel.shape[-1] if isinstance(weights.kernel, jax.Array) else 0
    if matrix is None or matrix.shape[-1] != width or width % count:
        raise ValueError(
            f"VariationalDropout: tied=False needs the kernels of all gates side by side, for the inputs and for the "
            f"state, and {type(cell).__name__} does not have them so. Leave tied out."
        )
    return count


def _without_centering(cell: Any) -> Any:
    """Returns the cell with normalizers that subtract their means themselves."""
    sites = getattr(cell, "sites", None)
    if sites is None:
        return cell
    kept = {name: norm for name, norm in sites._asdict().items() if norm != Identity()}
    return dataclasses.replace(cell, norm=CellNorms(**{name: uncentered(norm) for name, norm in kept.items()}))


def _by_gates(weights: Any, masks: Masks, count: int) -> Any:
    """Splits the kernels into one piece per gate, each with its own mask of the input."""
    if masks.input is not None:
        kernels = tuple(jnp.split(weights.kernel, count, axis=-1))
        weights = weights._replace(kernel=GateKernels(kernels, masks.input))
    if masks.recurrent is not None:
        pieces = tuple(Kernel(piece) for piece in jnp.split(weights.recurrent.matrix, count, axis=-1))
        weights = weights._replace(recurrent=GateKernels(pieces, masks.recurrent))
    return weights
