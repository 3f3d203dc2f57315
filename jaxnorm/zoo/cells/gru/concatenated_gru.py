"""The GRU of DreamerV3: it normalizes input and state together, then one product gives all gates."""

import dataclasses
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Bool, Float, Initializer
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.cell_base import NORMS, CellBase
from jaxnorm.cells.gates.activation import Gated
from jaxnorm.cells.gates.functions import gru_functions
from jaxnorm.cells.gru import GRUCarry
from jaxnorm.cells.initializers import GatesInitializer
from jaxnorm.cells.preactivation.layout import flat_kernel
from jaxnorm.cells.preactivation.methods import PreActivationMethods
from jaxnorm.cells.preactivation.preactivation import PreActivation
from jaxnorm.cells.preactivation.vectors import add_bias, sum_biases
from jaxnorm.cells.preactivation.weights import GateWeights
from jaxnorm.cells.preset_options import overridden
from jaxnorm.cells.sites import CellNorms, init_sites
from jaxnorm.norms.base import affine_of
from jaxnorm.norms.core.moments import statistics_dtype
from jaxnorm.norms.identity import Identity
from jaxnorm.norms.rms_norm import RMSNorm

__all__ = ["ConcatenatedGRU", "ConcatenatedGRUParams", "dreamer_v3_gru"]


GATES = 3
UPDATE = 1


class ConcatenatedGRUParams(NamedTuple):
    """The weights of a :class:`ConcatenatedGRU`, with gates in the order r z n and features in the order [x, h].

    Vectors over gates hold gate after gate.
    """

    kernel: Float[Array, "I 3 H"]
    recurrent: Float[Array, "H 3 H"]
    bias: Float[Array, " 3H"] | None
    norm: CellNorms
    """The scale at the site ``input`` has the features of x and of h, (I + H)."""
    carry: GRUCarry | None = None


class ConcatenatedInput(NamedTuple):
    """The contribution of the input to a step, in at least float32."""

    products: Float[Array, "*B GH"]
    squares: Float[Array, "*B 1"]
    """The sum of squares."""


@final
@dataclasses.dataclass(frozen=True)
class ConcatenatedGRU(Gated, PreActivationMethods, CellBase):
    r"""Gated recurrent unit of the normalized concatenation of input and state.

    .. math::
       r, z, n' &= N([x_t, h_{t-1}]) \begin{bmatrix} W \\ U \end{bmatrix} + b \\
       n &= \tanh(\sigma(r) \odot n') \\
       h_t &= (1 - \sigma(z)) \odot h_{t-1} + \sigma(z) \odot n

    with root-mean-square normalization :math:`N` (site ``input``). The reset gate multiplies the whole candidate. The
    cell still computes the product of all inputs before the loop:

    .. math:: N(v) K = \frac{v (\operatorname{diag}(s) K)}{\sqrt{(|x_t|^2 + |h_{t-1}|^2)/(I + H) + \epsilon}}

    x contributes its product and its sum of squares, and a step adds those of h.

    Attributes:
      hidden_features: H.
      norm: RMSNorm, or CellNorms(input=...).
      gate_fn: the function :math:`\sigma` of the gates, see :class:`jaxnorm.GRU`.
      activation_fn: the function of the candidate n, for which the equations have tanh.
      use_bias: whether there is a bias b.
      update_bias: initial value of b for the update gate z, a number or an initializer. It is part of the parameter,
        not added at run time. None leaves it to ``bias_init``.
      kernel_init: initializer of W. It draws each gate (I, H) separately, or jointly inside
        :class:`jaxnorm.initializers.Joint`; a tuple gives one initializer per gate.
      recurrent_init: initializer of U (H, H), used in the same way. With None, ``kernel_init`` draws W and U as one
        kernel of [x, h] (I + H, H).

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.CellBase`).

    Raises:
      ValueError: a size is not positive, the normalizer is another one, or ``update_bias`` needs a bias and there is
        none.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.ConcatenatedGRU(2, norm=jaxnorm.RMSNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape, params.norm.input.scale.shape
      ((5, 1, 2), (5,))

    Notes:
      The projected inputs stay in at least float32, since the sum of squares is among them. If inputs and state are all
      zero, the cell gives the bias, with finite gradients, even without epsilon.

    Reference:
      D. Hafner, J. Pasukonis, J. Ba, T. Lillicrap, "Mastering Diverse Domains through World Models", 2023,
      arXiv:2301.04104; the ``GRU`` of its published code.
    """

    _: dataclasses.KW_ONLY
    update_bias: float | Initializer | None = None
    recurrent_init: GatesInitializer | None = None

    gate_count: ClassVar[int] = GATES
    default_sites: ClassVar[tuple[str, ...]] = ("input",)
    carry_type: ClassVar[type[GRUCarry]] = GRUCarry
    supports_gate_masks: ClassVar[bool] = False  # one norm of [x, h] serves all gates

    def __post_init__(self) -> None:
        super().__post_init__()
        norm = self.sites.input
        whole = isinstance(norm, RMSNorm) and norm.fraction == 1.0 and norm.axis_name is None
        if norm != Identity() and not whole:
            raise ValueError(
                f"ConcatenatedGRU: norm must be RMSNorm() with fraction=1 and no axis_name, got {norm!r}. It acts on "
                "[x, h] before the product, and only a sum of squares can be split into two parts."
            )
        if self.update_bias not in (None, 0.0) and not self.use_bias:
            raise ValueError(
                f"ConcatenatedGRU: update_bias={self.update_bias} is where a bias starts, but use_bias is False."
            )

    @property
    def gates(self) -> PreActivation:
        """The pre-activation object of all gates; the norm acts before the products."""
        return PreActivation(self.sites._replace(input=Identity()), (GATES,), caller="ConcatenatedGRU")

    def init_params(self, key: Key, in_features: int) -> ConcatenatedGRUParams:
        """Draws the weights; ``init`` compiles this."""
        kernel, recurrent = self.init_kernels(self.recurrent_init, key, in_features)
        shapes = CellNorms(input=(in_features + self.hidden_features,))
        return ConcatenatedGRUParams(
            kernel=kernel,
            recurrent=recurrent,
            bias=self.start_bias(key, UPDATE, self.update_bias) if self.use_bias else None,
            norm=init_sites(self.sites, shapes, self.param_dtype, jax.random.fold_in(key, NORMS)),
            carry=self.fresh_carry(),
        )

    def prepare(self, params: ConcatenatedGRUParams, **options: Any) -> GateWeights:
        """Multiplies the scale of the norm into the kernels, and its bias by them; flattens and casts."""
        if self.sites.input == Identity():
            return super().prepare(params, **options)
        inputs = params.kernel.shape[0]
        scale, shift = affine_of(params.norm.input, "ConcatenatedGRU")
        both = flat_kernel(jnp.concatenate([params.kernel, params.recurrent]))
        both = both.astype(statistics_dtype(both.dtype))
        bias = params.bias if shift is None else sum_biases(params.bias, shift.astype(both.dtype) @ both)
        if scale is not None:
            both = both * scale.astype(both.dtype)[:, None]
        kernel, recurrent = both[:inputs].astype(params.kernel.dtype), both[inputs:].astype(params.recurrent.dtype)
        scaled = params._replace(kernel=kernel, recurrent=recurrent, bias=bias, norm=CellNorms())
        return super().prepare(scaled, **options)

    def normalize_inputs(
        self,
        weights: GateWeights,
        xs: Float[Array, "T *B I"],
        products: Float[Array, "T *B GH"],
        stats: CellNorms | None,
        where: Bool[Array, "T *B"] | None,
        measured: CellNorms | None = None,
    ) -> tuple[ConcatenatedInput, CellNorms]:
        """Computes the sum of squares of the inputs of all steps; a step can normalize only when it knows h."""
        squares = jnp.sum(jnp.square(xs.astype(products.dtype)), axis=-1, keepdims=True)
        return ConcatenatedInput(products, squares), CellNorms()

    def step(
        self, weights: GateWeights, carry: GRUCarry, t: StepInput
    ) -> tuple[GRUCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the joint norm, the gates, the candidate and the output of one step."""
        x, h = t.x_proj, carry.h.astype(t.h_proj.dtype)
        squares = x.squares + jnp.sum(jnp.square(h), axis=-1, keepdims=True)
        v = self._normalize(x.products + t.h_proj, squares / (weights.in_features + self.hidden_features))
        r, z, n = jnp.split(add_bias(v, weights.bias), GATES, axis=-1)
        parts = gru_functions(self.gate_fn, self.activation_fn, "renew")
        h = parts.new_state(r, z, jnp.zeros_like(n), n, h)
        return GRUCarry(h.astype(carry.h.dtype)), h.astype(weights.dtype), CellNorms()

    def _normalize(self, products: Float[Array, "*B GH"], mean_square: Float[Array, "*B 1"]) -> Float[Array, "*B GH"]:
        """Divides the products of [x, h] by its root mean square."""
        norm = self.sites.input
        return products if norm == Identity() else products * _inverse_root(mean_square, norm.epsilon)


def _inverse_root(mean_square: Array, epsilon: float) -> Array:
    """Computes 1 / sqrt(mean_square + epsilon); if the argument of the root is zero, value and gradient are zero."""
    square = mean_square + epsilon
    still = square == 0  # the inner where keeps the gradient of the root finite there
    return jnp.where(still, jnp.zeros((), square.dtype), lax.rsqrt(jnp.where(still, jnp.ones_like(square), square)))


def dreamer_v3_gru(hidden_features: int, *, epsilon: float = 1e-4, **options: Any) -> ConcatenatedGRU:
    r"""The generic GRU of DreamerV3.

    .. math::
       r, n', z &= RMS([x_t, h_{t-1}]; s) K + b \\
       h_t &= \sigma(z - 1) \odot \tanh(\sigma(r) \odot n') + (1 - \sigma(z - 1)) \odot h_{t-1}

    The kernel starts truncated normal with variance 1 / (I + H). b starts at zero, except at -1 for z; the gain s
    starts at one.

    Args:
      hidden_features: H.
      epsilon: added to the mean square, inside the root.
      **options: further fields of :class:`ConcatenatedGRU`.

    Returns:
      The cell.

    Example:
      >>> import jax, jaxnorm
      >>> jaxnorm.zoo.dreamer_v3_gru(2).init(jax.random.key(0), in_features=3).bias.tolist()  # r z n
      [0.0, 0.0, -1.0, -1.0, 0.0, 0.0]

    Notes:
      The -1 is part of b here and a constant there; the function is the same. The source orders [h, x] and r n z. It
      sets h to zero at the start of an episode: use ``reset`` of :func:`jaxnorm.unroll`. For the recurrent core of its
      world model see ``dreamer_v3_block_gru``.

    Reference:
      D. Hafner, J. Pasukonis, J. Ba, T. Lillicrap, "Mastering Diverse Domains through World Models", 2023,
      arXiv:2301.04104; code danijar/dreamerv3, ``embodied/jax/nets.py``, ``GRU``.
    """
    validate.epsilon("dreamer_v3_gru", epsilon)
    defaults: dict[str, Any] = {"norm": RMSNorm(epsilon=epsilon), "update_bias": -1.0}
    return ConcatenatedGRU(hidden_features, **overridden(dreamer_v3_gru, defaults, options, epsilon=epsilon))
