"""Programs of Haiku: its plain cores, and normalized cores made of its Linear, LayerNorm and BatchNorm.

In bfloat16 parameters are float32 and cast at the beginning of each call.
"""

from functools import partial
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from benchmarks.programs.base import (
    EPSILON,
    MOMENTUM,
    JaxProgram,
    Unsupported,
    cell_program,
    group_count,
    norm_program,
    stateless,
)
from benchmarks.programs.equations import SCALE_OF_BN, gru_step, lstm_step, split_gates
from benchmarks.shapes import Shape


class _Core(hk.RNNCore):
    """What the normalized cores share."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size

    def product(self, name: str, x: jax.Array, gates: int) -> jax.Array:
        return hk.Linear(gates * self.hidden_size, with_bias=False, name=name)(x)

    def layer_norm(self, name: str, x: jax.Array) -> jax.Array:
        return hk.LayerNorm(-1, create_scale=True, create_offset=True, eps=EPSILON, name=name)(x)

    def bias(self, name: str, gates: int, dtype: Any) -> jax.Array:
        return hk.get_parameter(name, (gates * self.hidden_size,), dtype, init=jnp.zeros)

    def zeros(self, batch_size: int | None) -> jax.Array:
        return jnp.zeros((self.hidden_size,) if batch_size is None else (batch_size, self.hidden_size))


class LNLSTM(_Core):
    """The equations of ``jaxnorm.ln_lstm``."""

    def initial_state(self, batch_size: int | None) -> tuple[jax.Array, jax.Array]:
        """Zeros for c and h."""
        return self.zeros(batch_size), self.zeros(batch_size)

    def __call__(self, inputs: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
        """One step."""
        c, h = state
        z = self.norm("norm_input", self.product("kernel", inputs, 4))
        a = self.norm("norm_recurrent", self.product("recurrent", h, 4))
        c, h = lstm_step(z + a + self.bias("bias", 4, z.dtype), c, partial(self.norm, "norm_cell"))
        return h, (c, h)

    def norm(self, name: str, x: jax.Array) -> jax.Array:
        """The normalizer at a site."""
        return self.layer_norm(name, x)


class BNLSTM(LNLSTM):
    """The equations of ``jaxnorm.bn_lstm``, in training; the gates have one bias, the cell's."""

    def norm(self, name: str, x: jax.Array) -> jax.Array:
        """The normalizer at a site."""
        module = hk.BatchNorm(
            create_scale=True,
            create_offset=name == "norm_cell",
            decay_rate=MOMENTUM,
            eps=EPSILON,
            scale_init=hk.initializers.Constant(SCALE_OF_BN),
            name=name,
        )
        return module(x, is_training=True)


class LNGRU(_Core):
    """The equations of ``jaxnorm.ln_gru``."""

    def initial_state(self, batch_size: int | None) -> jax.Array:
        """Zeros for h."""
        return self.zeros(batch_size)

    def __call__(self, inputs: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One step."""
        z = self.normalize("norm_input", self.product("kernel", inputs, 3), "bias")
        a = self.normalize("norm_recurrent", self.product("recurrent", state, 3), "recurrent_bias")
        h = gru_step(z, a, state)
        return h, h

    def normalize(self, name: str, products: jax.Array, bias: str) -> tuple[jax.Array, jax.Array]:
        """Layer norm of r and z together and of the candidate, each plus its bias."""
        gates, candidate = split_gates(products)
        shift = split_gates(self.bias(bias, 3, products.dtype))
        return (
            self.layer_norm(f"{name}_gates", gates) + shift[0],
            self.layer_norm(f"{name}_candidate", candidate) + shift[1],
        )


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def build(shape: Shape, dtype: str, *, core: type) -> JaxProgram:
    """A core in ``hk.dynamic_unroll``."""

    def run(xs: jax.Array) -> jax.Array:
        layer = core(shape.hidden)
        outputs, _ = hk.dynamic_unroll(layer, xs, _cast(layer.initial_state(shape.batch), xs.dtype))
        return outputs

    model = hk.without_apply_rng(hk.transform(run))
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((2, shape.batch, shape.inputs)))
    return cell_program(stateless(lambda params, xs: model.apply(_cast(params, dtype), xs)), params, shape, dtype)


def build_bn_lstm(shape: Shape, dtype: str) -> JaxProgram:
    """The BN-LSTM in a scan over its transformed step, with a row of running statistics for each step."""
    if dtype != "float32":
        raise Unsupported("its BatchNorm has its statistics in bfloat16, too")
    step = hk.without_apply_rng(hk.transform_with_state(lambda x, carry: BNLSTM(shape.hidden)(x, carry)))
    start = (jnp.zeros((shape.batch, shape.hidden)),) * 2
    params, row = jax.jit(step.init)(jax.random.key(0), jnp.zeros((shape.batch, shape.inputs)), start)
    rows = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (shape.steps, *leaf.shape)), row)

    def apply(params: Any, rows: Any, xs: jax.Array) -> tuple[jax.Array, Any]:
        def body(carry: Any, each: Any) -> tuple[Any, Any]:
            (y, carry), row = step.apply(params, each[1], each[0], carry)
            return carry, (y, row)

        return jax.lax.scan(body, start, (xs, rows))[1]

    return cell_program(apply, params, shape, dtype, state=rows)


PROGRAMS = {
    "haiku": {
        "lstm": partial(build, core=hk.LSTM),
        "gru": partial(build, core=hk.GRU),
        "ln_lstm": partial(build, core=LNLSTM),
        "ln_gru": partial(build, core=LNGRU),
        "bn_lstm": build_bn_lstm,
    }
}


def build_norm(shape: tuple[int, ...], dtype: str, *, norm: Any, **options: Any) -> JaxProgram:
    """A normalizer; batch norm in training."""
    call = {"is_training": True} if norm is hk.BatchNorm else {}
    model = hk.without_apply_rng(hk.transform_with_state(lambda xs: norm(eps=EPSILON, **options)(xs, **call)))
    params, state = model.init(jax.random.key(0), jnp.zeros(shape))

    def apply(params: Any, state: Any, xs: jax.Array) -> tuple[jax.Array, Any]:
        outputs, new = model.apply(_cast(params, xs.dtype), state, xs)
        return outputs, new

    return norm_program(apply, params, shape, dtype, state=state)


def build_group_norm(shape: tuple[int, ...], dtype: str) -> JaxProgram:
    """Group norm."""
    return build_norm(shape, dtype, norm=hk.GroupNorm, groups=group_count(shape[-1]))


_AFFINE: dict[str, Any] = {"create_scale": True, "create_offset": True}
NORMS = {
    "layer_norm": partial(build_norm, norm=hk.LayerNorm, axis=-1, **_AFFINE),
    "rms_norm": partial(build_norm, norm=hk.RMSNorm, axis=-1),
    "batch_norm": partial(build_norm, norm=hk.BatchNorm, decay_rate=MOMENTUM, **_AFFINE),
    "group_norm": build_group_norm,
}
