"""A language model of normalized cells and its training, without the numbers: pure functions, for whoever compiles."""

import dataclasses
import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

import jaxnorm
from jaxnorm.optim import decay_mask

from .mesh import everywhere, spread_batch, spread_kernels

BITS = 1 / np.log(2)  # nats to bits


def make_cells(
    preset: str, hidden: int, layers: int, precision: str, window: int, passage: int
) -> tuple[jaxnorm.Cell, ...]:
    """Cells by their name; one with statistics for each time step gets a row for each step of a passage."""
    build = getattr(jaxnorm, preset, None) or getattr(jaxnorm.zoo, preset)
    options: dict[str, Any] = {"dtype": jnp.bfloat16} if precision == "bf16" else {}
    if "max_steps" in inspect.signature(build).parameters:
        options |= {"max_steps": window * passage, "momentum": 0.95}
    return (build(hidden, **options),) * layers


class Params(NamedTuple):
    embedding: jax.Array  # (V, E)
    cells: Any
    kernel: jax.Array  # (H, V)
    bias: jax.Array  # (V,)


class State(NamedTuple):
    """Everything that training depends on, besides the position in the text: what a checkpoint holds."""

    step: jax.Array
    params: Params
    optimizer: optax.OptState
    stats: Any  # running statistics of the cells, () at sites without
    carry: Any


class Metrics(NamedTuple):
    bits: jax.Array
    gradient_norm: jax.Array


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """Sizes and rates; ``batch`` is the global one, over all devices."""

    cells: tuple[jaxnorm.Cell, ...]
    symbols: int
    features: int
    batch: int
    window: int
    passage: int
    accumulate: int
    steps: int
    learning_rate: float
    warmup: int
    decay: float
    clip: float
    save: str
    dtype: Any

    @property
    def schedule(self) -> optax.Schedule:
        warmup = min(self.warmup, self.steps - 1)
        return optax.warmup_cosine_decay_schedule(0.0, self.learning_rate, warmup, self.steps, 0.1 * self.learning_rate)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """AdamW that decays kernels alone."""
        return optax.chain(
            optax.clip_by_global_norm(self.clip),
            optax.adamw(self.schedule, weight_decay=self.decay, mask=decay_mask),
        )

    def init_params(self, key: jax.Array) -> Params:
        embedding_key, kernel_key, *keys = jax.random.split(key, 2 + len(self.cells))
        inputs = (self.features, *(cell.out_features for cell in self.cells))
        embedding = jax.random.normal(embedding_key, (self.symbols, self.features), jnp.float32)
        kernel = jax.nn.initializers.lecun_normal()(kernel_key, (inputs[-1], self.symbols), jnp.float32)
        cells = tuple(cell.init(key, size) for cell, key, size in zip(self.cells, keys, inputs, strict=False))
        return Params(embedding, cells, kernel, jnp.zeros((self.symbols,)))

    def init(self, key: jax.Array) -> State:
        params = self.init_params(key)
        stats = tuple(cell.initial_stats() for cell in self.cells)
        return State(jnp.int32(0), params, self.optimizer.init(params), stats, self.initial_carry((self.batch,)))

    def initial_carry(self, batch_shape: tuple[int, ...]) -> Any:
        return tuple(cell.initial_carry(batch_shape) for cell in self.cells)

    def shardings(self, mesh: Mesh) -> State:
        """Where the parts of a state lie on a mesh."""
        state = jax.eval_shape(self.init, jax.random.key(0))
        rows, whole = spread_batch(mesh), everywhere(mesh)
        return State(
            whole,
            spread_kernels(state.params, mesh),
            spread_kernels(state.optimizer, mesh),
            jax.tree.map(lambda _: whole, state.stats),
            jax.tree.map(lambda _: rows, state.carry),
        )

    def read(self, params: Params, ids: jax.Array, carry: Any, stats: Any = None) -> tuple[jax.Array, jaxnorm.Unrolled]:
        """Logits after each symbol of (T, *B), and what the cells returned. Without ``stats``: training."""
        xs = params.embedding.astype(self.dtype)[ids]
        out = jaxnorm.stack(self.cells, params.cells, xs, carry=carry, stats=stats, save=self.save)
        kernel = params.kernel.astype(self.dtype)
        logits = jnp.matmul(out.outputs, kernel, preferred_element_type=jnp.float32)
        return logits + jnp.broadcast_to(params.bias, logits.shape), out

    def train_step(self, state: State, ids: jax.Array) -> tuple[State, Metrics]:
        """One step on windows (B, T + 1), in ``accumulate`` parts: the new state, the loss in bits, the gradient."""
        # After each passage all rows begin anew elsewhere; else the carry of the window before is handed on.
        anew = state.step % self.passage == 0
        begin = self.initial_carry((self.batch,))
        carry = jax.tree.map(lambda first, last: jnp.where(anew, first, last), begin, state.carry)

        def loss(params: Params, ids: jax.Array, carry: Any) -> tuple[jax.Array, jaxnorm.Unrolled]:
            logits, out = self.read(params, ids[:-1], carry)  # the carry is data: no gradient leaves the window
            return optax.softmax_cross_entropy_with_integer_labels(logits, ids[1:]).mean(), out

        def one_part(done: tuple[Any, Any, Any], part: tuple[jax.Array, Any]) -> tuple[tuple[Any, Any, Any], Any]:
            nats, gradient, stats = done
            (more, out), new = jax.value_and_grad(loss, has_aux=True)(state.params, *part)
            stats = tuple(
                cell.update_running(*pair) for cell, *pair in zip(self.cells, stats, out.moments, strict=True)
            )
            return (nats + more, jax.tree.map(jnp.add, gradient, new), stats), out.carry

        begun = jnp.float32(0), jax.tree.map(jnp.zeros_like, state.params), state.stats
        parts = self._in_parts(ids).swapaxes(1, 2), jax.tree.map(self._in_parts, carry)
        (nats, gradient, stats), carry = jax.lax.scan(one_part, begun, parts)
        gradient = jax.tree.map(lambda leaf: leaf / self.accumulate, gradient)
        carry = jax.tree.map(self._as_rows, carry)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = Metrics(BITS * nats / self.accumulate, optax.tree.norm(gradient))
        return State(state.step + 1, params, optimizer, stats, carry), metrics

    def _in_parts(self, leaf: jax.Array) -> jax.Array:
        """(B, ...) as (parts, B / parts, ...). Neighbors go to different parts, so each device keeps its own rows."""
        return jnp.moveaxis(leaf.reshape(-1, self.accumulate, *leaf.shape[1:]), 1, 0)

    def _as_rows(self, parts: jax.Array) -> jax.Array:
        return jnp.moveaxis(parts, 0, 1).reshape(-1, *parts.shape[2:])

    def evaluate(self, params: Params, stats: Any, ids: jax.Array, targets: jax.Array) -> jax.Array:
        """Bits a symbol over windows (N, B, T) of one text, the carry handed on; targets of -1 do not count."""

        def one_window(done: tuple[Any, Any, Any], window: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
            carry, nats, count = done
            ids, targets = (part.T for part in window)
            logits, out = self.read(params, ids, carry, stats)
            real = targets >= 0
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(targets, 0))
            return (out.carry, nats + jnp.where(real, losses, 0).sum(), count + real.sum()), None

        begin = self.initial_carry((ids.shape[1],)), jnp.float32(0), jnp.int32(0)
        (_, nats, count), _ = jax.lax.scan(one_window, begin, (ids, targets))
        return BITS * nats / count.astype(jnp.float32)

    def sample(
        self, length: int, params: Params, stats: Any, first: Any, temperature: Any, key: jax.Array
    ) -> jax.Array:
        """Streams a text: one step at a time, each symbol drawn from what the last one led to."""

        def one_step(state: tuple[Any, jax.Array], key: jax.Array) -> tuple[tuple[Any, jax.Array], jax.Array]:
            carry, last = state
            logits, out = self.read(params, last[None], carry, stats)
            drawn = jax.random.categorical(key, logits[0] / temperature)
            return (out.carry, drawn.astype(jnp.int32)), drawn

        return jax.lax.scan(one_step, (self.initial_carry(()), first), jax.random.split(key, length))[1]
