"""The block-diagonal GRU of DreamerV3: blocks of the state communicate through one dense layer."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.starts import filled
from jaxnorm._base.typing import Array, Axis, Bool, DType, DTypeLike, Float, Initializer
from jaxnorm.cells import initializers
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.cell_base import RECURRENT_BIAS, CellBase
from jaxnorm.cells.gates.activation import NamedFunctions
from jaxnorm.cells.gates.gru_derivative import new_state
from jaxnorm.cells.gru import GRUCarry
from jaxnorm.cells.preactivation.matmul import RecurrentKernel, block_matmul, check_features, matmul
from jaxnorm.cells.preactivation.vectors import add_bias
from jaxnorm.cells.preset_options import overridden
from jaxnorm.cells.sites import CellNorms
from jaxnorm.norms.rms_norm import RMSNorm

__all__ = ["BlockGRU", "BlockGRUParams", "dreamer_v3_block_gru"]


GATES = 3
UPDATE = 1


class BlockGRUParams(NamedTuple):
    """The weights of a :class:`BlockGRU` with K blocks of S = H / K units, and gates in the order r z n.

    Vectors hold gate after gate.
    """

    kernel: Float[Array, "I H"]
    recurrent: Float[Array, "H E"]
    """The dense layer that reads the state."""
    block: Float[Array, "K S S"]
    """The part of the hidden layer that reads its own block."""
    mix: Float[Array, "E H"]
    """The part of the hidden layer that reads the dense layer."""
    gates: Float[Array, "K S 3 S"]
    recurrent_bias: Float[Array, " E"] | None
    bias: Float[Array, " H"] | None
    gates_bias: Float[Array, " 3H"] | None
    norm: CellNorms
    carry: GRUCarry | None = None


class BlockGRUWeights(NamedTuple):
    """The weights prepared for a sequence: kernels cast, the gates of each block side by side."""

    kernel: Float[Array, "I H"]
    recurrent: RecurrentKernel
    block: RecurrentKernel
    mix: RecurrentKernel
    gates: RecurrentKernel
    recurrent_bias: Float[Array, " E"] | None
    bias: Float[Array, " H"] | None
    gates_bias: Float[Array, " 3H"] | None
    norm: CellNorms

    @property
    def dtype(self) -> DType:
        """The compute dtype."""
        dtype: DType = self.kernel.dtype
        return dtype


class BlockProducts(NamedTuple):
    """The recurrent products of a step."""

    dense: Float[Array, "*B E"]
    own: Float[Array, "*B H"]
    """The product of each block with its own kernel."""


@final
@dataclasses.dataclass(frozen=True)
class BlockGRU(NamedFunctions, CellBase):
    r"""Gated recurrent unit with a state in blocks.

    .. math::
       e &= \phi\bigl(N_h(h_{t-1} U + b_e)\bigr) \\
       u &= \phi\bigl(N_s(x_t W + e M + [h^{(k)} B_k]_k + b)\bigr) \\
       r^{(k)}, z^{(k)}, n'^{(k)} &= u^{(k)} G_k + b_g^{(k)} \\
       h_t &= (1 - \sigma(z)) \odot h_{t-1} + \sigma(z) \odot \tanh(\sigma(r) \odot n')

    for blocks k, with normalizers :math:`N_h` (site ``recurrent``, E features) and :math:`N_s` (site ``summed``, H
    features, over all blocks). Every block sees all of x and e, but only its own part of h. The cell computes the
    product :math:`x_t W` before the loop; the loop contains four products.

    Attributes:
      hidden_features: H.
      norm: one normalizer for both sites, or CellNorms(...).
      blocks: K; must divide H.
      embedding_features: E, the width of the dense layer; None means H / 2.
      activation: :math:`\phi`.
      use_bias: whether there are biases.
      update_bias: initial value of :math:`b_g` for the update gate z, a number or an initializer. It is part of the
        parameter, not added at run time. None leaves it to ``bias_init``.
      kernel_init: initializer of all kernels. It draws the kernels of the blocks in one matrix, stacked vertically, as
        the published code does: an initializer that scales by the number of inputs makes each block :math:`\sqrt K`
        times smaller than it would alone.

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.CellBase`).

    Raises:
      ValueError: a size is not positive, K does not divide H, a normalizer does not fit a site, or ``update_bias``
        needs a bias and there is none.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.BlockGRU(8, blocks=4, norm=jaxnorm.RMSNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape, params.block.shape
      ((5, 1, 8), (4, 2, 2))

    Reference:
      D. Hafner, J. Pasukonis, J. Ba, T. Lillicrap, "Mastering Diverse Domains through World Models", 2023,
      arXiv:2301.04104; ``_core`` in ``dreamerv3/rssm.py`` of its published code.
    """

    _: dataclasses.KW_ONLY
    blocks: int = 8
    embedding_features: int | None = None
    activation: Callable[[Array], Array] = jax.nn.gelu
    update_bias: float | Initializer | None = None
    kernel_init: Initializer = initializers.lecun_normal

    kernel_axes: ClassVar[Mapping[str, Axis]] = MappingProxyType(
        {"kernel": 0, "recurrent": 0, "block": 1, "mix": 0, "gates": 1}
    )
    gate_count: ClassVar[int] = GATES
    default_sites: ClassVar[tuple[str, ...]] = ("recurrent", "summed")
    carry_type: ClassVar[type[GRUCarry]] = GRUCarry

    def __post_init__(self) -> None:
        super().__post_init__()
        validate.positive_int("BlockGRU", "blocks", self.blocks)
        if self.hidden_features % self.blocks:
            raise ValueError(f"BlockGRU: {self.blocks} blocks do not divide {self.hidden_features} hidden features.")
        if self.embedding_features is not None:
            validate.positive_int("BlockGRU", "embedding_features", self.embedding_features)
        if self.update_bias not in (None, 0.0) and not self.use_bias:
            raise ValueError(f"BlockGRU: update_bias={self.update_bias} is where a bias starts, but use_bias is False.")

    @property
    def embedding(self) -> int:
        """E, the width of the dense layer."""
        return self.embedding_features or max(self.hidden_features // 2, 1)

    def site_shapes(self) -> CellNorms:
        """E features at the dense layer, H at the hidden one; there is no other site."""
        hidden = (self.hidden_features,)
        return CellNorms(input=hidden, recurrent=(self.embedding,), summed=hidden, cell=hidden)

    def init_params(self, key: Key, in_features: int) -> BlockGRUParams:
        """Draws the weights; ``init`` compiles this. A block has one kernel of [its h, e, x]."""
        hidden, embedding, blocks, dtype = self.hidden_features, self.embedding, self.blocks, self.param_dtype
        size = hidden // blocks
        dense_key, hidden_key, gates_key = jax.random.split(key, 3)

        def all_blocks(key: Key, rows: int, columns: int) -> Array:
            # Draw one matrix, as the published code does: its initializer counts the inputs of all blocks.
            drawn: Array = self.kernel_init(key, (blocks * rows, columns), dtype)
            return drawn.reshape(blocks, rows, columns)

        layer = all_blocks(hidden_key, size + embedding + in_features, size)
        block, mix, kernel = jnp.split(layer, [size, size + embedding], axis=1)
        of_dense, of_hidden = jax.random.split(jax.random.fold_in(key, RECURRENT_BIAS))
        return BlockGRUParams(
            kernel=jnp.moveaxis(kernel, 0, 1).reshape(in_features, hidden),
            recurrent=self.kernel_init(dense_key, (hidden, embedding), dtype),
            block=block,
            mix=jnp.moveaxis(mix, 0, 1).reshape(embedding, hidden),
            gates=all_blocks(gates_key, size, GATES * size).reshape(blocks, size, GATES, size),
            recurrent_bias=filled(self.bias_init, of_dense, (embedding,), dtype) if self.use_bias else None,
            bias=filled(self.bias_init, of_hidden, (hidden,), dtype) if self.use_bias else None,
            gates_bias=self.start_bias(key, UPDATE, self.update_bias) if self.use_bias else None,
            norm=self.fresh_norms(key),
            carry=self.fresh_carry(),
        )

    def prepare(
        self,
        params: BlockGRUParams,
        *,
        dtype: DTypeLike | None = None,
        batch_shape: tuple[int, ...] = (),
        key: Key | None = None,
    ) -> BlockGRUWeights:
        """Casts the kernels, and puts the gates of each block side by side."""
        target = dtype or self.dtype

        def cast(leaf: Array) -> Array:
            return leaf if target is None else leaf.astype(target)

        return BlockGRUWeights(
            kernel=cast(params.kernel),
            recurrent=RecurrentKernel(cast(params.recurrent)),
            block=RecurrentKernel(cast(params.block)),
            mix=RecurrentKernel(cast(params.mix)),
            gates=RecurrentKernel(cast(params.gates).reshape(*params.gates.shape[:2], -1)),
            recurrent_bias=params.recurrent_bias,
            bias=params.bias,
            gates_bias=params.gates_bias,
            norm=params.norm,
        )

    def project_inputs(self, weights: BlockGRUWeights, xs: Float[Array, "T *B I"]) -> Float[Array, "T *B H"]:
        """Computes the input products of all steps, in at least float32."""
        check_features("BlockGRU.project_inputs", xs, weights.kernel.shape[0])
        return matmul(xs, weights.kernel)

    def normalize_inputs(
        self,
        weights: BlockGRUWeights,
        xs: Float[Array, "T *B I"],
        products: Float[Array, "T *B H"],
        stats: CellNorms | None,
        where: Bool[Array, "T *B"] | None,
        measured: CellNorms | None = None,
    ) -> tuple[Float[Array, "T *B H"], CellNorms]:
        """Adds b, in the compute dtype; there is no norm of the input product alone."""
        return add_bias(products, weights.bias).astype(weights.dtype), CellNorms()

    def project_state(self, weights: BlockGRUWeights, carry: GRUCarry) -> BlockProducts:
        """Computes the products of h with the dense layer and with each block's kernel, in at least float32."""
        own = block_matmul(carry.h, weights.block)
        return BlockProducts(matmul(carry.h, weights.recurrent), own.reshape(carry.h.shape))

    def step(
        self, weights: BlockGRUWeights, carry: GRUCarry, t: StepInput
    ) -> tuple[GRUCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the dense layer, the hidden layer, the gates and the output of one step."""
        dense, own = t.h_proj
        e, m_recurrent = self.normalize_site("recurrent", weights, add_bias(dense, weights.recurrent_bias), t)
        u = t.x_proj.astype(own.dtype) + matmul(self.activation(e), weights.mix) + own
        u, m_summed = self.normalize_site("summed", weights, u, t)
        v = _gate_after_gate(block_matmul(self.activation(u), weights.gates))
        r, z, n = jnp.split(add_bias(v, weights.gates_bias), GATES, axis=-1)
        h = new_state(r, -z, jnp.zeros_like(n), n, carry.h)
        measured = CellNorms(recurrent=m_recurrent, summed=m_summed)
        return GRUCarry(h.astype(carry.h.dtype)), h.astype(weights.dtype), measured


def _gate_after_gate(v: Float[Array, "*B K GS"]) -> Float[Array, "*B GKS"]:
    """Gathers each gate over all blocks."""
    by_gate = jnp.moveaxis(v.reshape(*v.shape[:-1], GATES, -1), -2, -3)
    return by_gate.reshape(*v.shape[:-2], -1)


def dreamer_v3_block_gru(hidden_features: int, *, blocks: int = 8, epsilon: float = 1e-4, **options: Any) -> BlockGRU:
    r"""The recurrent core of DreamerV3's world model; it takes embeddings of the inputs.

    .. math::
       e &= \phi(RMS(h_{t-1} U + b_e)) \\
       u &= \phi(RMS(x_t W + e M + [h^{(k)} B_k]_k + b)) \\
       r^{(k)}, z^{(k)}, n'^{(k)} &= u^{(k)} G_k + b_g^{(k)} \\
       h_t &= (1 - \sigma(z)) \odot h_{t-1} + \sigma(z) \odot \tanh(\sigma(r) \odot n')

    Defaults come from the source's class: the Gaussian error linear unit :math:`\phi`, 8 blocks, E = H / 2. Its
    configurations differ: ``activation=jax.nn.silu`` and ``embedding_features=H // 8``, with H of 512 (1m), 2048
    (12m), 3072 (25m), 4096 (50m), 6144 (100m), 8192 (200m, the default one) and 12288 (400m), and inputs of 2 E.

    Kernels start truncated normal with variance 1 over their number of inputs. The source counts inputs over all
    blocks: H for U and G, :math:`H + K (E + I)` for W, M and B. Biases start at zero, except :math:`b_g` of z, which
    starts at -1; the gains of the norms start at one.

    Args:
      hidden_features: H, the width of the deterministic state.
      blocks: K; must divide H.
      epsilon: added to the mean square, inside the root.
      **options: further fields of :class:`BlockGRU`.

    Returns:
      The cell.

    Example:
      >>> import jax, jaxnorm
      >>> cell = jaxnorm.zoo.dreamer_v3_block_gru(512, embedding_features=64, activation=jax.nn.silu)  # of size 1m
      >>> cell.blocks, cell.embedding, cell.update_bias
      (8, 64, -1.0)

    Notes:
      x are the concatenated embeddings (a layer, a norm and an activation each) of stochastic state and action. The
      source computes them in the same function. Compute them before the loop, or step by step if the stochastic state
      of a step depends on h. There is one hidden layer, the source's default. The -1 is part of a bias here, but a
      constant there.

    Reference:
      D. Hafner, J. Pasukonis, J. Ba, T. Lillicrap, "Mastering Diverse Domains through World Models", 2023,
      arXiv:2301.04104; code danijar/dreamerv3, ``dreamerv3/rssm.py``, ``_core``, with ``BlockLinear`` and
      ``Initializer`` of ``embodied/jax/nets.py`` and the sizes of ``dreamerv3/configs.yaml``.
    """
    defaults: dict[str, Any] = {"norm": RMSNorm(epsilon=epsilon), "blocks": blocks, "update_bias": -1.0}
    return BlockGRU(hidden_features, **overridden(dreamer_v3_block_gru, defaults, options, epsilon=epsilon))
