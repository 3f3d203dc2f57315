"""A character language model: a recurrent cell between one-hot characters and a dense readout."""

import dataclasses
import inspect
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnorm

BITS = 1 / np.log(2)  # nats to bits


def make_cell(preset: str, hidden: int, window: int) -> jaxnorm.Cell:
    """A cell by its name; one with statistics for each time step gets a row for each step of a window."""
    build = getattr(jaxnorm, preset, None) or getattr(jaxnorm.zoo, preset)
    per_step = "max_steps" in inspect.signature(build).parameters
    # The momentum is that of recurrent batch normalization on Penn Treebank.
    return build(hidden, max_steps=window, momentum=0.95) if per_step else build(hidden)


class Params(NamedTuple):
    cell: Any
    kernel: jax.Array  # (H, V)
    bias: jax.Array  # (V,)


class State(NamedTuple):
    """Everything that training depends on: what a checkpoint holds."""

    step: jax.Array
    params: Params
    optimizer: optax.OptState
    stats: Any  # running statistics of the cell, () at sites without
    carry: Any
    position: jax.Array  # where in the text each stream is, (B,)
    key: jax.Array


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """The model and its training, without the numbers: pure functions, to be compiled by whoever calls them."""

    cell: jaxnorm.Cell
    symbols: int
    batch: int
    window: int
    passage: int

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam for a learning rate of one: the rate is an argument of each step, so that all share one program."""
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1.0))

    def init(self, key: jax.Array) -> State:
        cell_key, kernel_key, key = jax.random.split(key, 3)
        kernel = jax.nn.initializers.lecun_normal()(kernel_key, (self.cell.hidden_features, self.symbols), jnp.float32)
        params = Params(self.cell.init(cell_key, self.symbols), kernel, jnp.zeros((self.symbols,)))
        carry, position = self.cell.initial_carry((self.batch,)), jnp.zeros((self.batch,), jnp.int32)
        return State(jnp.int32(0), params, self.optimizer.init(params), self.cell.initial_stats(), carry, position, key)

    def read(self, params: Params, ids: jax.Array, carry: Any, stats: Any = None) -> tuple[jax.Array, jaxnorm.Unrolled]:
        """Logits after each of the characters (T, *B), and what unroll returned. Without ``stats``: training."""
        xs = jax.nn.one_hot(ids, self.symbols)
        out = jaxnorm.unroll(self.cell, params.cell, xs, carry=carry, stats=stats)
        logits = out.outputs @ params.kernel
        return logits + jnp.broadcast_to(params.bias, logits.shape), out

    def passages(self, key: jax.Array, train_text: jax.Array) -> jax.Array:
        """Places in the text where streams may begin, one each."""
        return jax.random.randint(key, (self.batch,), 0, train_text.size - self.passage * self.window)

    def train_step(self, state: State, train_text: jax.Array, rate: Any) -> tuple[State, jax.Array, jax.Array]:
        """One window: the new state, the loss in bits per character, and the norm of the gradient."""
        # After each passage all streams begin anew elsewhere; else the carry of the window before is handed on.
        anew = state.step % self.passage == 0
        key, place_key = jax.random.split(state.key)
        # The streams may be spread over a mesh with explicit axes; the sum with zeros brings the new places to them.
        streams = jax.typeof(state.position).sharding.spec
        place = jnp.zeros_like(state.position) + self.passages(place_key, train_text)
        position = jnp.where(anew, place, state.position)
        fresh = self.cell.initial_carry((self.batch,), out_sharding=jax.P(*streams))
        carry = jax.tree.map(partial(jnp.where, anew), fresh, state.carry)
        places = position[None] + jnp.arange(self.window + 1)[:, None]  # T + 1, B
        ids = train_text.at[places].get(out_sharding=jax.P(None, *streams) if any(streams) else None)

        def loss(params: Params) -> tuple[jax.Array, jaxnorm.Unrolled]:
            logits, out = self.read(params, ids[:-1], carry)  # the carry is data: no gradient leaves the window
            return optax.softmax_cross_entropy_with_integer_labels(logits, ids[1:]).mean(), out

        (nats, out), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.params)
        updates = jax.tree.map(lambda update: rate * update, updates)
        stats = self.cell.update_running(state.stats, out.moments)
        new = State(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            optimizer=optimizer,
            stats=stats,
            carry=out.carry,
            position=position + self.window,
            key=key,
        )
        return new, nats * BITS, optax.tree.norm(gradient)

    def evaluate(self, params: Params, stats: Any, windows: jax.Array, targets: jax.Array) -> jax.Array:
        """Bits per character with given statistics, the carry handed on through all windows (N, T, B)."""

        def one_window(carry: Any, window: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
            logits, out = self.read(params, window[0], carry, stats)
            real = window[1] >= 0
            nats = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(window[1], 0))
            return out.carry, jnp.where(real, nats, 0.0).sum()

        streams = jax.typeof(windows).sharding.spec[2:]  # how they are spread, on a mesh with explicit axes
        carry = self.cell.initial_carry(windows.shape[2:], out_sharding=jax.P(*streams))
        _, nats = jax.lax.scan(one_window, carry, (windows, targets))
        return nats.sum() / (targets >= 0).sum() * BITS

    def measure(self, params: Params, key: jax.Array, train_text: jax.Array) -> Any:
        """What the normalizers see in one passage of training text, the weights at rest."""
        steps = jnp.arange(self.passage * self.window)[:, None]
        ids = train_text[self.passages(key, train_text)[None] + steps]
        return self.read(params, ids, self.cell.initial_carry((self.batch,)))[1].moments

    def sample(self, length: int, params: Params, stats: Any, first: Any, temperature: Any, key: jax.Array) -> Any:
        """Streams a text: one step at a time, each character drawn from what the last one led to."""

        def one_step(state: tuple[Any, jax.Array], key_t: jax.Array) -> tuple[tuple[Any, jax.Array], jax.Array]:
            carry, last = state
            logits, out = self.read(params, last[None], carry, stats)
            drawn = jax.random.categorical(key_t, logits[0] / temperature)
            return (out.carry, drawn), drawn

        return jax.lax.scan(one_step, (self.cell.initial_carry(()), first), jax.random.split(key, length))[1]
