"""Programs of Flax linen: its plain cells, and normalized cells made of its Dense, LayerNorm and BatchNorm."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from benchmarks.programs.base import EPSILON, MOMENTUM, JaxProgram, cell_program, group_count, norm_program, stateless
from benchmarks.programs.equations import SCALE_OF_BN, gru_step, lstm_step, split_gates
from benchmarks.shapes import Shape


class _Cell(nn.RNNCellBase):
    """What the normalized cells share; parameters are float32 whatever the dtype of the products."""

    features: int
    dtype: Any = None

    @property
    def num_feature_axes(self) -> int:
        return 1

    def zeros(self, input_shape: tuple[int, ...]) -> jax.Array:
        return jnp.zeros((*input_shape[:-1], self.features))

    def product(self, name: str, x: jax.Array, gates: int) -> jax.Array:
        return nn.Dense(gates * self.features, use_bias=False, dtype=self.dtype, name=name)(x)

    def layer_norm(self, name: str, x: jax.Array) -> jax.Array:
        return nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name=name)(x)

    def zero_param(self, name: str, gates: int) -> jax.Array:
        return self.param(name, nn.initializers.zeros, (gates * self.features,)).astype(self.dtype)


class LNLSTMCell(_Cell):
    """The equations of ``jaxnorm.ln_lstm``."""

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        """Zeros for c and h."""
        return self.zeros(input_shape), self.zeros(input_shape)

    @nn.compact
    def __call__(self, carry: tuple[jax.Array, jax.Array], x: jax.Array) -> tuple[Any, jax.Array]:
        """One step."""
        c, h = carry
        z = self.norm("norm_input", self.product("kernel", x, 4))
        a = self.norm("norm_recurrent", self.product("recurrent", h, 4))
        c, h = lstm_step(z + a + self.zero_param("bias", 4), c, partial(self.norm, "norm_cell"))
        c, h = c.astype(carry[0].dtype), h.astype(carry[1].dtype)
        return (c, h), h

    def norm(self, name: str, x: jax.Array) -> jax.Array:
        """The normalizer at a site."""
        return self.layer_norm(name, x)


class BNLSTMCell(LNLSTMCell):
    """The equations of ``jaxnorm.bn_lstm``, in training."""

    def norm(self, name: str, x: jax.Array) -> jax.Array:
        """Batch norm; the gates have one bias, the cell's."""
        module = nn.BatchNorm(
            use_running_average=False,
            momentum=MOMENTUM,
            epsilon=EPSILON,
            dtype=self.dtype,
            use_bias=name == "norm_cell",
            scale_init=nn.initializers.constant(SCALE_OF_BN),
            name=name,
        )
        normalized: jax.Array = module(x)
        return normalized


class LNGRUCell(_Cell):
    """The equations of ``jaxnorm.ln_gru``."""

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> jax.Array:
        """Zeros for h."""
        return self.zeros(input_shape)

    @nn.compact
    def __call__(self, h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One step."""
        z = self.normalize("norm_input", self.product("kernel", x, 3), self.zero_param("bias", 3))
        a = self.normalize("norm_recurrent", self.product("recurrent", h, 3), self.zero_param("recurrent_bias", 3))
        new = gru_step(z, a, h).astype(h.dtype)
        return new, new

    def normalize(self, name: str, products: jax.Array, bias: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Layer norm of r and z together and of the candidate, each plus its bias."""
        gates, candidate = (
            self.layer_norm(f"{name}_{part}", x)
            for part, x in zip(("gates", "candidate"), split_gates(products), strict=True)
        )
        return gates + split_gates(bias)[0], candidate + split_gates(bias)[1]


def _zeros(shape: Shape) -> jax.Array:
    """Of the right shape to initialize with, and short."""
    return jnp.zeros((2, shape.batch, shape.inputs))


def build(shape: Shape, dtype: str, *, cell: type) -> JaxProgram:
    """A cell in ``nn.RNN``."""
    rnn = nn.RNN(cell(shape.hidden, dtype=jnp.dtype(dtype)), time_major=True)
    params = jax.jit(rnn.init)(jax.random.key(0), _zeros(shape))["params"]

    def run(params: Any, xs: jax.Array) -> Any:
        return rnn.apply({"params": params}, xs)

    return cell_program(stateless(run), params, shape, dtype)


def build_bn_lstm(shape: Shape, dtype: str) -> JaxProgram:
    """The BN-LSTM in ``nn.scan``, with a row of running statistics for each step; ``nn.RNN`` cannot hold them."""
    scanned = nn.scan(
        BNLSTMCell, variable_axes={"batch_stats": 0}, variable_broadcast="params", split_rngs={"params": False}
    )(shape.hidden, dtype=jnp.dtype(dtype))
    start = BNLSTMCell(shape.hidden).initialize_carry(jax.random.key(0), (shape.batch, shape.inputs))
    variables = jax.jit(scanned.init)(jax.random.key(0), start, jnp.zeros((shape.steps, shape.batch, shape.inputs)))

    def apply(params: Any, stats: Any, xs: jax.Array) -> tuple[jax.Array, Any]:
        (_, ys), updated = scanned.apply({"params": params, "batch_stats": stats}, start, xs, mutable=["batch_stats"])
        return ys, updated["batch_stats"]

    return cell_program(apply, variables["params"], shape, dtype, state=variables["batch_stats"])


PROGRAMS = {
    "linen": {
        "lstm": partial(build, cell=nn.LSTMCell),
        "gru": partial(build, cell=nn.GRUCell),
        "ln_lstm": partial(build, cell=LNLSTMCell),
        "ln_gru": partial(build, cell=LNGRUCell),
        "bn_lstm": build_bn_lstm,
    },
    "linen-optimized": {"lstm": partial(build, cell=nn.OptimizedLSTMCell)},
}


def build_norm(shape: tuple[int, ...], dtype: str, *, norm: Any, **options: Any) -> JaxProgram:
    """A normalizer with float32 parameters."""
    module = norm(epsilon=EPSILON, dtype=jnp.dtype(dtype), **options)
    variables = module.init(jax.random.key(0), jnp.zeros(shape))

    def apply(params: Any, stats: Any, xs: jax.Array) -> tuple[jax.Array, Any]:
        y, updated = module.apply({"params": params, **stats}, xs, mutable=["batch_stats"])
        return y, updated

    stats = {name: value for name, value in variables.items() if name != "params"}
    return norm_program(apply, variables["params"], shape, dtype, state=stats)


def build_group_norm(shape: tuple[int, ...], dtype: str) -> JaxProgram:
    """Group norm."""
    return build_norm(shape, dtype, norm=nn.GroupNorm, num_groups=group_count(shape[-1]))


NORMS = {
    "layer_norm": partial(build_norm, norm=nn.LayerNorm),
    "rms_norm": partial(build_norm, norm=nn.RMSNorm),
    "batch_norm": partial(build_norm, norm=nn.BatchNorm, use_running_average=False, momentum=MOMENTUM),
    "group_norm": build_group_norm,
}
