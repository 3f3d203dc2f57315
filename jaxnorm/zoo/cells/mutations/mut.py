"""The three best architectures of a search over ten thousand, with normalizers on both sides."""

import dataclasses
from typing import ClassVar, Literal, final

import jax.numpy as jnp
from jax.nn import sigmoid

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Float
from jaxnorm.cells.base import StepInput
from jaxnorm.cells.gates.gru_derivative import mixed_state
from jaxnorm.cells.gru import GRUCarry
from jaxnorm.cells.preactivation.groups import join_moments
from jaxnorm.cells.sites import CellNorms
from jaxnorm.zoo.cells.mutations.base import GATES, MutationBase, MUTWeights

__all__ = ["MUT1", "MUT2", "MUT3"]


@final
@dataclasses.dataclass(frozen=True)
class MUT1(MutationBase):
    r"""The first mutation: the update gate sees only the input, and the candidate sees the input without weights.

    .. math::
       z &= \sigma(N_x(x_t W_z) + b_z) \\
       r &= \sigma(N_x(x_t W_r) + N_h(h_{t-1} U_r) + b_r) \\
       n &= \tanh(N_h((r \odot h_{t-1}) U_n) + \tanh(x_t) + b_n) \\
       h_t &= z \odot n + (1 - z) \odot h_{t-1}

    with the normalizers :math:`N_x` (site ``input``) and :math:`N_h` (``recurrent``), which see each gate alone.
    The cell adds x to a vector with H features, so I = H; with ``raw_input="projected"``
    :math:`\tanh(N_x(x_t W_n))` replaces x.

    Attributes:
      hidden_features: H.
      norm: one normalizer for both sites, or CellNorms(input=..., recurrent=...).
      raw_input: whether the candidate gets x itself, or a product of it.
      kernel_init: initializer of W. It draws each gate (I, H) separately; a tuple gives one for each gate with a
        product (r, z, and n with "projected").
      recurrent_init: initializer of U. It draws r and n (H, H) separately; a tuple gives one for each.

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.CellBase`).

    Raises:
      ValueError: a size is not positive, a word is unknown, or a normalizer does not fit a site. In ``init``: the
        inputs do not have H features.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.MUT1(3, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 3)

    Notes:
      z multiplies the new candidate, the opposite of the GRU in the same paper. We compared the equations with a public
      re-implementation, not with the paper. It has a bias inside the hyperbolic tangent of a projected x; we do not.
      The paper has no normalizers.

    Reference:
      R. Jozefowicz, W. Zaremba, I. Sutskever, "An Empirical Exploration of Recurrent Network Architectures", 2015.
    """

    _: dataclasses.KW_ONLY
    raw_input: Literal["raw", "projected"] = "raw"

    recurrent_gates: ClassVar[str] = "rn"

    def __post_init__(self) -> None:
        super().__post_init__()
        validate.choice("MUT1", "raw_input", self.raw_input, ("raw", "projected"))

    @property
    def input_gates(self) -> str:
        """The gates with an input product; the candidate only with ``raw_input="projected"``."""
        return "rz" if self.raw_input == "raw" else GATES

    def input_side(self, gate: str, x: Float[Array, "T *B H"]) -> Float[Array, "T *B H"]:
        """Applies the hyperbolic tangent to the candidate's input."""
        return jnp.tanh(x) if gate == "n" else x

    def step(
        self, weights: MUTWeights, carry: GRUCarry, t: StepInput
    ) -> tuple[GRUCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the gates, the candidate's product and the output of one step."""
        (r_h,), measured = self.recurrent_sides(weights, t)
        r_x, z, n_x = jnp.split(t.x_proj.astype(r_h.dtype), len(GATES), axis=-1)
        h = carry.h.astype(r_h.dtype)
        n_h, m_n = self.later_side(weights, "n", sigmoid(r_x + r_h) * h, t)
        h = mixed_state(-z, n_h + n_x, h)
        return GRUCarry(h.astype(carry.h.dtype)), h.astype(weights.dtype), join_moments(measured, m_n)


@final
@dataclasses.dataclass(frozen=True)
class MUT2(MutationBase):
    r"""The second mutation: the reset gate sees the input without weights.

    .. math::
       z &= \sigma(N_x(x_t W_z) + N_h(h_{t-1} U_z) + b_z) \\
       r &= \sigma(x_t + N_h(h_{t-1} U_r) + b_r) \\
       n &= \tanh(N_h((r \odot h_{t-1}) U_n) + N_x(x_t W_n) + b_n) \\
       h_t &= z \odot n + (1 - z) \odot h_{t-1}

    with the normalizers :math:`N_x` (site ``input``) and :math:`N_h` (``recurrent``), which see each gate alone.
    The cell adds x to a vector with H features, so I = H; with ``raw_input="projected"`` :math:`N_x(x_t W_r)`
    replaces x.

    Attributes:
      hidden_features: H.
      norm: one normalizer for both sites, or CellNorms(input=..., recurrent=...).
      raw_input: whether the reset gate gets x itself, or a product of it.
      kernel_init: initializer of W. It draws each gate (I, H) separately; a tuple gives one for each gate with a
        product (z, n, and before them r with "projected").
      recurrent_init: initializer of U. It draws each gate (H, H) separately; a tuple gives one for each (r, z, n).

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.CellBase`).

    Raises:
      ValueError: a size is not positive, a word is unknown, or a normalizer does not fit a site; by ``init`` if the
        inputs do not have H features.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.MUT2(2, norm=jaxnorm.LayerNorm(), raw_input="projected")
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 2)

    Notes:
      As for :class:`MUT1`.

    Reference:
      R. Jozefowicz, W. Zaremba, I. Sutskever, "An Empirical Exploration of Recurrent Network Architectures", 2015.
    """

    _: dataclasses.KW_ONLY
    raw_input: Literal["raw", "projected"] = "raw"

    gates_of_h: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        validate.choice("MUT2", "raw_input", self.raw_input, ("raw", "projected"))

    @property
    def input_gates(self) -> str:
        """The gates with an input product; the reset gate only with ``raw_input="projected"``."""
        return "zn" if self.raw_input == "raw" else GATES

    def step(
        self, weights: MUTWeights, carry: GRUCarry, t: StepInput
    ) -> tuple[GRUCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the gates, the candidate's product and the output of one step."""
        (r_h, z_h), measured = self.recurrent_sides(weights, t)
        r_x, z_x, n_x = jnp.split(t.x_proj.astype(r_h.dtype), len(GATES), axis=-1)
        h = carry.h.astype(r_h.dtype)
        n_h, m_n = self.later_side(weights, "n", sigmoid(r_x + r_h) * h, t)
        h = mixed_state(-(z_x + z_h), n_h + n_x, h)
        return GRUCarry(h.astype(carry.h.dtype)), h.astype(weights.dtype), join_moments(measured, m_n)


@final
@dataclasses.dataclass(frozen=True)
class MUT3(MutationBase):
    r"""The third mutation: the update gate sees the hyperbolic tangent of the state.

    .. math::
       z &= \sigma(N_x(x_t W_z) + N_h(\tanh(h_{t-1}) U_z) + b_z) \\
       r &= \sigma(N_x(x_t W_r) + N_h(h_{t-1} U_r) + b_r) \\
       n &= \tanh(N_h((r \odot h_{t-1}) U_n) + N_x(x_t W_n) + b_n) \\
       h_t &= z \odot n + (1 - z) \odot h_{t-1}

    with the normalizers :math:`N_x` (site ``input``) and :math:`N_h` (``recurrent``), which see each gate alone.

    Attributes:
      hidden_features: H.
      norm: one normalizer for both sites, or CellNorms(input=..., recurrent=...).
      recurrent_init: initializer of U. It draws each gate (H, H) separately; a tuple gives one for each (r, z, n).

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.CellBase`).

    Raises:
      ValueError: a size is not positive, or a normalizer does not fit a site.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.MUT3(2, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 2)

    Notes:
      As for :class:`MUT1`. A step computes three products in sequence.

    Reference:
      R. Jozefowicz, W. Zaremba, I. Sutskever, "An Empirical Exploration of Recurrent Network Architectures", 2015.
    """

    def step(
        self, weights: MUTWeights, carry: GRUCarry, t: StepInput
    ) -> tuple[GRUCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the gates, two more products and the output of one step."""
        (r_h,), measured = self.recurrent_sides(weights, t)
        r_x, z_x, n_x = jnp.split(t.x_proj.astype(r_h.dtype), len(GATES), axis=-1)
        h = carry.h.astype(r_h.dtype)
        z_h, m_z = self.later_side(weights, "z", jnp.tanh(h), t)
        n_h, m_n = self.later_side(weights, "n", sigmoid(r_x + r_h) * h, t)
        h = mixed_state(-(z_x + z_h), n_h + n_x, h)
        return GRUCarry(h.astype(carry.h.dtype)), h.astype(weights.dtype), join_moments(measured, m_z, m_n)
