"""The block-diagonal GRU of DreamerV3: blocks of the state communicate through one dense layer."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp

from jaxnorm import _validate
from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, Axis, Bool, DTypeLike, Float, Initializer
from jaxnorm.cells import base, initializers
from jaxnorm.cells.activation import NamedActivation
from jaxnorm.cells.base import Key
from jaxnorm.cells.sites import CellNorms
from jaxnorm.cells.cell_base import Frame
from jaxnorm.cells.gru import GRUCarry
from jaxnorm.cells.gru_derivative import new_state
from jaxnorm.cells.preactivation import products
from jaxnorm.cells.preactivation.products import Kernel
from jaxnorm.norms.core.moments import statistics_dtype
from jaxnorm.norms.rms_norm import RMSNorm

GATES = 3
UPDATE = 1


class BlockGRUParams(NamedTuple):
    """The weights of a :class:`BlockGRU` with K blocks of S = H / K units; gates in the order r z n."""

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
    gates_bias: Float[Array, "3 H"] | None
    norm: CellNorms
    carry: GRUCarry | None = None


class ReadyBlockGRU(NamedTuple):
    """The weights prepared for a sequence: kernels cast, the gates of each block concatenated."""

    kernel: Float[Array, "I H"]
    recurrent: Kernel
    block: Float[Array, "K S S"]
    mix: Kernel
    gates: Float[Array, "K S 3S"]
    recurrent_bias: Float[Array, " E"] | None
    bias: Float[Array, " H"] | None
    gates_bias: Float[Array, "3 H"] | None
    norm: CellNorms


@final
@dataclasses.dataclass(frozen=True)
class BlockGRU(NamedActivation, Frame):
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
        parameter, not added at run time.
      kernel_init: initializer of all kernels. It draws the kernels of the blocks in one matrix, stacked vertically, as
        the published code does: an initializer that scales by the number of inputs makes each block :math:`\sqrt K`
        times smaller than it would alone.

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.Frame`).

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
    update_bias: float | Initializer = 0.0
    kernel_init: Initializer = initializers.lecun_normal

    kernel_axes: ClassVar[Mapping[str, Axis]] = MappingProxyType(
        {"kernel": 0, "recurrent": 0, "block": 1, "mix": 0, "gates": 1}
    )
    gate_count: ClassVar[int] = GATES
    has_sites: ClassVar[tuple[str, ...]] = ("recurrent", "summed")
    carry_type: ClassVar[type[GRUCarry]] = GRUCarry

    def __post_init__(self) -> None:
        super().__post_init__()
        _validate.positive_int("BlockGRU", "blocks", self.blocks)
        if self.hidden_features % self.blocks:
            raise ValueError(f"BlockGRU: {self.blocks} blocks do not divide {self.hidden_features} hidden features.")
        if self.embedding_features is not None:
            _validate.positive_int("BlockGRU", "embedding_features", self.embedding_features)
        if self.update_bias != 0.0 and not self.use_bias:
            raise ValueError(f"BlockGRU: update_bias={self.update_bias} is where a bias starts, but use_bias is False.")

    @property
    def embedding(self) -> int:
        """E, the width of the dense layer."""
        return self.embedding_features or max(self.hidden_features // 2, 1)

    def site_shapes(self) -> CellNorms:
        """E features at the dense layer, H at the hidden one; there is no other site."""
        hidden = (self.hidden_features,)
        return CellNorms(input=hidden, recurrent=(self.embedding,), summed=hidden, cell=hidden)

    def draw(self, key: Key, in_features: int) -> BlockGRUParams:
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
        update = initializers.filled(self.update_bias, jax.random.fold_in(key, 2), (hidden,), dtype)
        gates_bias = jnp.zeros((GATES, hidden), dtype).at[UPDATE].set(update)
        return BlockGRUParams(
            kernel=jnp.moveaxis(kernel, 0, 1).reshape(in_features, hidden),
            recurrent=self.kernel_init(dense_key, (hidden, embedding), dtype),
            block=block,
            mix=jnp.moveaxis(mix, 0, 1).reshape(embedding, hidden),
            gates=all_blocks(gates_key, size, GATES * size).reshape(blocks, size, GATES, size),
            recurrent_bias=jnp.zeros((embedding,), dtype) if self.use_bias else None,
            bias=jnp.zeros((hidden,), dtype) if self.use_bias else None,
            gates_bias=gates_bias if self.use_bias else None,
            norm=self.fresh_norms(),
            carry=self.fresh_carry(),
        )

    def prepare(self, params: BlockGRUParams, dtype: DTypeLike | None = None) -> ReadyBlockGRU:
        """Casts the kernels, and merges the gates of each block with its features."""
        target = dtype or self.dtype

        def cast(leaf: Array) -> Array:
            return leaf if target is None else leaf.astype(target)

        return ReadyBlockGRU(
            kernel=cast(params.kernel),
            recurrent=Kernel(cast(params.recurrent)),
            block=cast(params.block),
            mix=Kernel(cast(params.mix)),
            gates=products.merge_gates(cast(params.gates)),
            recurrent_bias=params.recurrent_bias,
            bias=params.bias,
            gates_bias=params.gates_bias,
            norm=params.norm,
        )

    def project(
        self,
        ready: ReadyBlockGRU,
        xs: Float[Array, "T *B I"],
        stats: CellNorms | None,
        where: Bool[Array, "T *B"] | None,
    ) -> tuple[Float[Array, "T *B H"], CellNorms]:
        """Computes the input products of all steps plus b, in the compute dtype."""
        products.check_features("BlockGRU.project", xs, ready.kernel)
        zs = base.add_bias(products.matmul(xs, ready.kernel), ready.bias)
        return zs.astype(ready.kernel.dtype), CellNorms()

    def recur(self, ready: ReadyBlockGRU, carry: GRUCarry) -> Float[Array, "*B EH"]:
        """Computes the products of h with the dense layer and with each block, concatenated, in at least float32."""
        dense = products.matmul(carry.h, ready.recurrent)
        own = _by_blocks(carry.h, ready.block)
        return jnp.concatenate([dense, own], axis=-1)

    def step(
        self,
        ready: ReadyBlockGRU,
        carry: GRUCarry,
        z_t: Float[Array, "*B H"],
        a_t: Float[Array, "*B EH"],
        stats_t: CellNorms | None,
        where_t: Bool[Array, "*B"] | None,
        key_t: Key | None,
    ) -> tuple[GRUCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the dense layer, the hidden layer, the gates and the output of one step."""
        s = base.UNKNOWN if stats_t is None else stats_t
        norm, p = self.sites, ready.norm
        e, own = jnp.split(a_t, [self.embedding], axis=-1)
        e = base.add_bias(e, ready.recurrent_bias)
        e, m_recurrent = base.normalize_features(norm.recurrent, p.recurrent, e, s.recurrent, where_t)
        u = z_t.astype(own.dtype) + products.matmul(self.activation(e), ready.mix) + own
        u, m_summed = base.normalize_features(norm.summed, p.summed, u, s.summed, where_t)
        v = _by_blocks(self.activation(u), ready.gates)
        # (K, 3 S) to three times (K S): concatenate each gate over all blocks.
        v = v.reshape(*v.shape[:-1], self.blocks, GATES, -1)
        r, z, n = (v[..., gate, :].reshape(*v.shape[:-3], self.hidden_features) for gate in range(GATES))
        if ready.gates_bias is not None:
            r, z, n = (base.add_bias(v, ready.gates_bias[gate]) for gate, v in enumerate((r, z, n)))
        h = new_state(r, -z, jnp.zeros_like(n), n, carry.h.astype(r.dtype))
        measured = CellNorms(recurrent=m_recurrent, summed=m_summed)
        return GRUCarry(h.astype(carry.h.dtype)), h.astype(ready.kernel.dtype), measured


def _by_blocks(x: Float[Array, "*B KS"], kernels: Float[Array, "K S O"]) -> Float[Array, "*B KO"]:
    """Multiplies each block by its own kernel, in at least float32."""
    parts = x.astype(kernels.dtype).reshape(*x.shape[:-1], *kernels.shape[:2])
    wide = statistics_dtype(kernels.dtype)
    out = jnp.einsum("...ks,kso->...ko", parts, kernels, preferred_element_type=wide)
    return out.reshape(*x.shape[:-1], -1)


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
    return BlockGRU(hidden_features, **(defaults | options))
