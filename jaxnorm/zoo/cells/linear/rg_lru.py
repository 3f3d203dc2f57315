"""The real-gated linear recurrent unit of Griffin: a decay that the input gates, so all steps can run at once."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid, sigmoid

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Axis, Bool, DType, DTypeLike, Float, Int
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.cell_base import CellBase
from jaxnorm.cells.preactivation.gated_base import check_groups, check_vectors
from jaxnorm.cells.preactivation.groups import normalize_groups
from jaxnorm.cells.preactivation.layout import flat_kernel
from jaxnorm.cells.preactivation.matmul import RecurrentKernel, block_matmul, check_features
from jaxnorm.cells.preactivation.vectors import add_bias, align
from jaxnorm.cells.sites import CellNorms, normalize_steps
from jaxnorm.norms.core.moments import statistics_dtype

__all__ = ["RGLRU", "RGLRUCarry", "RGLRUParams"]

GATES = 2


class RGLRUCarry(NamedTuple):
    """The state of an RG-LRU: hidden state h, in at least float32."""

    h: Float[Array, "*B H"]


class RGLRUParams(NamedTuple):
    """The weights of an :class:`RGLRU` with N blocks of S = H / N features, and gates in the order r i.

    Vectors hold gate after gate.
    """

    kernel: Float[Array, "N S 2 S"]
    bias: Float[Array, " 2H"] | None
    decay_logit: Float[Array, " H"]
    r"""The paper's :math:`\Lambda`."""
    norm: CellNorms
    carry: RGLRUCarry | None = None


class RGLRUWeights(NamedTuple):
    """The weights prepared for a sequence: the kernel cast, the gates of each block side by side."""

    kernel: RecurrentKernel
    bias: Float[Array, " 2H"] | None
    decay_logit: Float[Array, " H"]
    norm: CellNorms

    @property
    def dtype(self) -> DType:
        """The compute dtype."""
        matrix: Any = self.kernel.matrix
        dtype: DType = matrix.dtype
        return dtype


class RGLRUInput(NamedTuple):
    """What a step makes of the carry: ``decay * h + increment``, in at least float32."""

    decay: Float[Array, "*B H"]
    increment: Float[Array, "*B H"]
    first: Float[Array, "*B H"]
    """The increment at the first step of a sequence."""


@final
@dataclasses.dataclass(frozen=True)
class RGLRU(CellBase):
    r"""Real-gated linear recurrent unit with a normalizer.

    .. math::
       r_t &= \sigma\bigl(N_x(x_t W_a) + b_a\bigr), \qquad i_t = \sigma\bigl(N_x(x_t W_x) + b_x\bigr) \\
       a_t &= a^{c \, r_t}, \qquad a = \sigma(\Lambda) \\
       h_t &= a_t \odot h_{t-1} + \sqrt{1 - a_t^2} \odot (i_t \odot x_t)

    with the normalizer :math:`N_x` (site ``input``). Both kernels are block-diagonal: a feature of a gate sees the
    features of its own block. At the first step of a sequence, also after a reset, the factor :math:`\sqrt{1 - a_t^2}`
    is one, as in the published code. Gates depend only on the input, so all steps can run in parallel.

    Attributes:
      hidden_features: H, the number of inputs as well.
      norm: the normalizer of the site input, or CellNorms(input=...); the paper has none.
      blocks: N, the number of blocks; must divide H.
      exponent: c.
      decay_range: the numbers between which :math:`a^c` starts, uniformly distributed.
      gate_groups: sizes of consecutive groups of gates (order r i) that share statistics: (1, 1) each alone, (2,) both.
      use_bias: whether there are biases b.
      kernel_init: initializer of W. It draws the kernel (S, S) of each gate and block separately.

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.CellBase`); ``carry_dtype`` is that of h.

    Raises:
      ValueError: a size is not positive, ``blocks`` does not divide H, a number is out of range, or a normalizer does
        not fit the site. In ``init``: the number of inputs is not H.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.RGLRU(4, blocks=2)
      >>> params = cell.init(jax.random.key(0), in_features=4)
      >>> xs = jax.random.normal(jax.random.key(1), (5, 1, 4))  # T, B, I
      >>> outputs = jaxnorm.unroll(cell, params, xs, method="associative").outputs
      >>> bool(jnp.allclose(outputs, jaxnorm.unroll(cell, params, xs).outputs, atol=1e-6))
      True

    Notes:
      The carry is a :class:`jaxnorm.CountedCarry`: a carry that an earlier call returned is no first step. One without
      a count is the beginning of a sequence. :math:`\log a_t` is computed first, and :math:`1 - a_t^2` from it without
      cancellation. Where it is zero (in float32, for :math:`c \, r_t \log a` nearer to zero than 1e-38), the gradient
      of the root is zero, its limit.

    Reference:
      S. De et al., "Griffin: Mixing Gated Linear Recurrences with Local Attention for Efficient Language Models", 2024,
      arXiv:2402.19427, eqs. 1 to 4; code google-deepmind/recurrentgemma, ``RGLRU``, as we remember it. Its parameter
      has the opposite sign, and its :math:`a^2` starts uniformly distributed.
    """

    _: dataclasses.KW_ONLY
    blocks: int = 1
    exponent: float = 8.0
    decay_range: tuple[float, float] = (0.9, 0.999)
    gate_groups: tuple[int, ...] = (1, 1)

    gate_count: ClassVar[int] = GATES
    kernel_axes: ClassVar[Mapping[str, Axis]] = MappingProxyType({"kernel": 1})
    default_sites: ClassVar[tuple[str, ...]] = ("input",)
    carry_type: ClassVar[type[RGLRUCarry]] = RGLRUCarry
    float32_carry: ClassVar[tuple[str, ...]] = ("h",)
    multiplies_state: ClassVar[bool] = False
    uses_age: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_groups("RGLRU", self.gate_groups, GATES)
        check_vectors("RGLRU", self.sites, self.site_shapes(), self.gate_groups)
        validate.positive("RGLRU", "exponent", self.exponent)
        if self.hidden_features % validate.positive_int("RGLRU", "blocks", self.blocks):
            raise ValueError(f"RGLRU: blocks must divide hidden_features = {self.hidden_features}, got {self.blocks}.")
        low, high = self.decay_range
        if not 0.0 < low <= high < 1.0:
            raise ValueError(f"RGLRU: decay_range must be two numbers in (0, 1) in their order, got {(low, high)!r}.")

    def in_features(self, params: RGLRUParams) -> int:
        """I, the number of inputs that the weights are made for."""
        blocks, size = params.kernel.shape[:2]
        return blocks * size

    def init_params(self, key: Key, in_features: int) -> RGLRUParams:
        """Draws the weights; ``init`` compiles this."""
        hidden, dtype = self.hidden_features, self.param_dtype
        if in_features != hidden:
            raise ValueError(
                f"RGLRU.init: h is a sum of gated inputs, so in_features must be H = {hidden}, got {in_features}. "
                "Project the inputs before."
            )
        size = hidden // self.blocks
        kernel_key, decay_key = jax.random.split(key)

        def block(key: Key) -> Array:
            return self.init_gates("kernel_init", self.kernel_init, key, (size, size))

        return RGLRUParams(
            kernel=jax.vmap(block)(jax.random.split(kernel_key, self.blocks)),
            bias=self.fresh_bias(key) if self.use_bias else None,
            decay_logit=self._start_decay(decay_key).astype(dtype),
            norm=self.fresh_norms(key),
            carry=self.fresh_carry(),
        )

    def _start_decay(self, key: Key) -> Float[Array, " H"]:
        """Draws Lambda so that a^c is uniformly distributed."""
        low, high = self.decay_range
        wide = statistics_dtype(self.param_dtype)
        log_a = jnp.log(jax.random.uniform(key, (self.hidden_features,), wide, low, high)) / self.exponent
        return log_a - jnp.log(-jnp.expm1(log_a))

    def prepare(
        self,
        params: RGLRUParams,
        *,
        dtype: DTypeLike | None = None,
        batch_shape: tuple[int, ...] = (),
        key: Key | None = None,
    ) -> RGLRUWeights:
        """Casts the kernel, and puts the gates of each block side by side."""
        target = dtype or self.dtype or params.kernel.dtype
        kernel = RecurrentKernel(flat_kernel(params.kernel).astype(target))
        return RGLRUWeights(kernel, params.bias, params.decay_logit, params.norm)

    def project_inputs(self, weights: RGLRUWeights, xs: Float[Array, "T *B H"]) -> Float[Array, "T *B GH"]:
        """Computes the products of each block with its own kernel, in at least float32."""
        check_features("RGLRU.project_inputs", xs, self.hidden_features)
        hidden, batch = self.hidden_features, xs.shape[:-1]
        by_block = block_matmul(xs, weights.kernel).reshape(*batch, self.blocks, GATES, hidden // self.blocks)
        return jnp.swapaxes(by_block, -3, -2).reshape(*batch, GATES * hidden)

    def normalize_inputs(
        self,
        weights: RGLRUWeights,
        xs: Float[Array, "T *B H"],
        products: Float[Array, "T *B GH"],
        stats: CellNorms | None,
        where: Bool[Array, "T *B"] | None,
        measured: CellNorms | None = None,
    ) -> tuple[RGLRUInput, CellNorms]:
        """Computes decay and increments of all steps, in at least float32."""
        function = partial(normalize_groups, self.sites.input, self.gate_groups, weights.norm.input)
        v, moments = normalize_steps(function, products, StepInput((), (), stats, where, None, measured).at("input"))
        r, i = jnp.split(sigmoid(add_bias(v, weights.bias)), GATES, axis=-1)
        log_a = self.exponent * log_sigmoid(align(weights.decay_logit, v)) * r
        gated = i * xs.astype(v.dtype)
        return RGLRUInput(jnp.exp(log_a), root(-jnp.expm1(2 * log_a)) * gated, gated), CellNorms(input=moments)

    def coefficients(
        self, weights: RGLRUWeights, x_proj: RGLRUInput, *, age: Int[Array, "*B"] | None = None
    ) -> tuple[RGLRUCarry, RGLRUCarry]:
        """Returns decay and increment of the carry; at age zero the increment is that of a first step."""
        increment = x_proj.increment if age is None else jnp.where(age[..., None] == 0, x_proj.first, x_proj.increment)
        return RGLRUCarry(x_proj.decay), RGLRUCarry(increment)

    def project_state(self, weights: RGLRUWeights, carry: RGLRUCarry) -> tuple[()]:
        """There is no recurrent product."""
        return ()

    def step(
        self, weights: RGLRUWeights, carry: RGLRUCarry, t: StepInput
    ) -> tuple[RGLRUCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the new state."""
        decay, increment = self.coefficients(weights, t.x_proj, age=t.age)
        h = decay.h * carry.h.astype(decay.h.dtype) + increment.h
        return RGLRUCarry(h.astype(carry.h.dtype)), h.astype(weights.dtype), CellNorms()


def root(square: Float[Array, "..."]) -> Float[Array, "..."]:
    """The square root, with gradient zero at zero."""
    positive = square > 0
    one = jnp.ones((), square.dtype)
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, one)), jnp.zeros((), square.dtype))
