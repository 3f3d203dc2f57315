"""Long short-term memory that projects its output to fewer features before feeding it back."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, final

import jax

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Axis, DTypeLike, Float, Initializer
from jaxnorm.cells import initializers
from jaxnorm.cells.activation import Gated
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.gate_functions import lstm_functions
from jaxnorm.cells.lstm import FORGET, GATES
from jaxnorm.cells.preactivation.centering import after_centering, center, subtracts_mean
from jaxnorm.cells.preactivation.gated_base import GatedCellBase
from jaxnorm.cells.preactivation.matmul import RecurrentKernel, matmul
from jaxnorm.cells.preactivation.weights import GateWeights
from jaxnorm.cells.sites import CellNorms, normalize

__all__ = ["ProjectedLSTM", "ProjectedLSTMCarry", "ProjectedLSTMParams"]


class ProjectedLSTMCarry(NamedTuple):
    """The state of a projected LSTM: cell state c with H features, and projected hidden state h with P."""

    c: Float[Array, "*B H"]
    h: Float[Array, "*B P"]


class ProjectedLSTMParams(NamedTuple):
    """The weights of a :class:`ProjectedLSTM`, with gates in the order i f g o; vectors hold gate after gate."""

    kernel: Float[Array, "I 4 H"]
    recurrent: Float[Array, "P 4 H"]
    projection: Float[Array, "H P"]
    bias: Float[Array, " 4H"] | None
    norm: CellNorms
    carry: ProjectedLSTMCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class ProjectedLSTM(Gated, GatedCellBase):
    r"""LSTM with a recurrent projection (LSTMP), and normalizers.

    .. math::
       i, f, g, o &= N_s\bigl(N_x(x_t W) + N_h(h_{t-1} U)\bigr) + b \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       m_t &= \sigma(o) \odot \tanh(N_c(c_t)) \\
       h_t &= N_p(m_t P)

    c has H features; h, both output and feedback, has P. The normalizers are :math:`N_x` (site ``input``),
    :math:`N_h` (``recurrent``), :math:`N_c` (``cell``) and, only if you name them, :math:`N_s` (``summed``) and
    :math:`N_p` (``projection``). The carried c is raw. Without normalizers this is ``torch.nn.LSTM(proj_size=P)``.

    Attributes:
      hidden_features: H, the size of c.
      projected_features: P, the size of h and of the outputs.
      norm: one normalizer for the sites input, recurrent and cell, or CellNorms(...) with one for each site you name.
      gate_fn: the function :math:`\sigma` of the gates, see :class:`jaxnorm.LSTM`.
      activation_fn: the function of the candidate g and of the output, for which the equations have tanh.
      gate_groups: sizes of consecutive groups of gates (order i f g o) that share statistics: (4,) all, (1, 1, 1, 1)
        each alone.
      forget_bias: initial value of b for the forget gate, a number or an initializer. It is part of the parameter, not
        added at run time. If use_bias is False, it initializes the bias of the last norm before the gates that has one.
        None leaves it to ``bias_init``.
      recurrent_init: initializer of U. It draws each gate (P, H) separately; a tuple gives one initializer per gate.
      projection_init: initializer of the projection (H, P).
      carry_dtype: dtype of c; None means at least float32.

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.CellBase`).

    Raises:
      ValueError: a size is not positive, or a normalizer does not fit a site.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.ProjectedLSTM(4, 2, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> out = jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3)))
      >>> out.outputs.shape, out.carry.c.shape  # (T, B, P), (B, H)
      ((5, 1, 2), (1, 4))

    Notes:
      The paper also has peepholes, and optionally a second projection that is not fed back; we have neither. The paper
      has no normalizers: we normalize c as the LN-LSTM does, and the norm of the projection is our own choice.

    Reference:
      H. Sak, A. Senior, F. Beaufays, "Long Short-Term Memory Based Recurrent Neural Network Architectures for Large
      Vocabulary Speech Recognition", 2014, arXiv:1402.1128.
    """

    projected_features: int
    _: dataclasses.KW_ONLY
    gate_groups: tuple[int, ...] = (GATES,)
    forget_bias: float | Initializer | None = 1.0
    projection_init: Initializer = initializers.lecun_normal

    kernel_axes: ClassVar[Mapping[str, Axis]] = MappingProxyType({"kernel": 0, "recurrent": 0, "projection": 0})
    gate_count: ClassVar[int] = GATES
    default_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent", "cell")
    optional_sites: ClassVar[tuple[str, ...]] = ("summed", "projection")
    carry_type: ClassVar[type[ProjectedLSTMCarry]] = ProjectedLSTMCarry
    float32_carry: ClassVar[tuple[str, ...]] = ("c",)
    supports_candidate_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        validate.positive_int("ProjectedLSTM", "projected_features", self.projected_features)

    @property
    def out_features(self) -> int:
        """P, the number of features of h."""
        return self.projected_features

    def site_shapes(self) -> CellNorms:
        """The shape of the features that a normalizer sees at each site."""
        return super().site_shapes()._replace(projection=(self.projected_features,))

    def carry_features(self) -> dict[str, int]:
        """Returns the number of features of each entry of the carry."""
        return {"c": self.hidden_features, "h": self.projected_features}

    def init_params(self, key: Key, in_features: int) -> ProjectedLSTMParams:
        """Draws the weights; ``init`` compiles this."""
        gates_key, projection_key = jax.random.split(key)
        shape = (self.hidden_features, self.projected_features)
        return ProjectedLSTMParams(
            **self.init_gated(gates_key, in_features, FORGET, self.forget_bias),
            projection=self.projection_init(projection_key, shape, self.param_dtype),
        )

    def extra(self, params: ProjectedLSTMParams, dtype: DTypeLike) -> RecurrentKernel:
        """The projection."""
        kernel = params.projection
        kernel = center((1,), kernel) if subtracts_mean(self.sites.projection) else kernel
        return RecurrentKernel(kernel.astype(dtype))

    def step(
        self, weights: GateWeights, carry: ProjectedLSTMCarry, t: StepInput
    ) -> tuple[ProjectedLSTMCarry, Float[Array, "*B P"], CellNorms]:
        """Computes the gates, the cell state and the projected output of one step."""
        parts = lstm_functions(self.gate_fn, self.activation_fn)
        (i, f, g, o), measured = self.gates(weights, t)
        c = parts.cell_state(i, f, g, carry.c, t.candidate_scale)
        c_hat, m_cell = self.normalize_site("cell", weights, c, t)
        projected = matmul(parts.output(o, c_hat), weights.extra)
        norm = after_centering(self.sites.projection)
        h, m_projection = normalize(norm, weights.norm.projection, projected, t.at("projection"))
        h = h.astype(carry.h.dtype)
        measured = measured._replace(cell=m_cell, projection=m_projection)
        return ProjectedLSTMCarry(c.astype(carry.c.dtype), h), h, measured
