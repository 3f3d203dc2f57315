"""Computes population statistics of linen modules in one call."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
from flax.core import unfreeze

from jaxnorm._base import objects
from jaxnorm._base.paths import paths
from jaxnorm._base.typing import PyTree
from jaxnorm._shared.names import at, nest
from jaxnorm._shared.population import average, calls, measuring, nothing_measured, refuse_nothing
from jaxnorm.norms.core.moments import Moments

STATS = "batch_stats"
WHERE = "jaxnorm.linen.population"
MODULE = objects.Wanted("a module of Flax linen", "jaxnorm.linen.RNN(bn_lstm({}, max_steps=20))")


class _Places:
    """Records the paths of the modules that took part in a call, while JAX traces it."""

    def __init__(self) -> None:
        self.paths: set[tuple[str, ...]] = set()


# A user context is part of every jit cache key. So a function traced outside of population is traced again inside;
# otherwise it would update statistics by the rule of its spec.
_asked: Any = jax.make_user_context(default_value=None)  # type: ignore[no-untyped-call]


def rule(module: nn.Module, spec: Any, stats: PyTree) -> Any:
    """Returns the spec whose rule updates the statistics: its own, unless ``population`` runs the module."""
    places = _asked.value
    exact = None if places is None else measuring(spec, stats)
    if exact is None:
        return spec
    places.paths.add(module.path)
    return exact


def population(
    module: nn.Module,
    variables: Mapping[str, Any],
    batches: Iterable[Any],
    *,
    ddof: int = 1,
    rngs: Any = None,
    method: Callable[..., Any] | str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Replaces the running statistics of a model by statistics of a data set, with frozen weights.

    Every :class:`Norm`, :class:`RNN` and :class:`RNNCell` of the model gets the average of its measurements over
    the batches, by :func:`jaxnorm.population`.

    Args:
      module: the model.
      variables: its variables, from ``init`` and training.
      batches: the inputs, batch by batch; a tuple holds the arguments of a call. Leave labels out:
        ``(images for images, labels in data)``.
      ddof: 1 applies the m/(m-1) of Algorithm 2 of batch normalization; 0 does not: for recurrent batch normalization,
        and if ages mix within the steps of a cell.
      rngs: as for ``module.apply``; each batch gets its own keys.
      method: as for ``module.apply``.
      **options: keywords of the call, which must train: ``train=True``, or ``use_running_average=False``.

    Returns:
      The variables with new ``"batch_stats"``. Rows without examples keep their values. So do normalizers whose
      statistics are not means and variances, or whose training reads running statistics.

    Raises:
      ValueError: there is no batch, or no batch statistics, or the call measures none.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm, jaxnorm.linen
      >>> module = jaxnorm.linen.Norm(jaxnorm.BatchNorm())
      >>> batches = jnp.array([[[1.0], [3.0]], [[2.0], [6.0]]])
      >>> variables = module.init(jax.random.key(0), batches[0], use_running_average=True)
      >>> better = jaxnorm.linen.population(module, variables, batches, use_running_average=False)
      >>> better["batch_stats"]["mean"], better["batch_stats"]["var"]
      (Array([3.], dtype=float32), Array([5.], dtype=float32))

    Notes:
      The call compiles once for each batch shape.
    """
    objects.require(WHERE, "module", module, nn.Module, MODULE)
    if not isinstance(variables, Mapping):
        raise TypeError(
            f"{WHERE}: variables must be a dict of collections, as module.init returns it, got "
            f"{objects.describe(variables)}."
        )
    collections: dict[str, Any] = unfreeze(dict(variables))
    if not collections.get(STATS):
        raise ValueError(f"{WHERE}: the variables have no {STATS!r}. Pass those of init of a model that has some.")

    def call(variables: Any, rngs: Any, args: Any, places: _Places) -> Any:
        with _asked(places):
            _, updates = module.apply(variables, *args, rngs=rngs, method=method, mutable=[STATS], **options)
        return updates[STATS]

    def found(rngs: Any, args: Any) -> list[tuple[str, ...]]:
        places = _Places()
        jax.eval_shape(functools.partial(call, places=places), collections, rngs, args)
        return sorted(places.paths) or refuse_nothing(WHERE)

    @jax.jit
    def measure(stats: Any, rngs: Any, args: Any) -> Any:
        updates = call({**collections, STATS: _with(collections[STATS], stats)}, rngs, args, _Places())
        return {path: _moments(at(updates, path)) for path in stats}

    running: dict[tuple[str, ...], Any] = {}

    def measured() -> Iterator[Any]:
        for number, args in enumerate(calls(WHERE, batches)):
            batch_rngs = jax.tree.map(lambda key, number=number: jax.random.fold_in(key, number), rngs)
            if not running:
                running.update({path: _moments(at(collections[STATS], path)) for path in found(batch_rngs, args)})
            yield measure(nothing_measured(running), batch_rngs, args)

    averaged = average(WHERE, running, measured(), ddof)
    return {**collections, STATS: _with(collections[STATS], averaged)}


def _moments(named: Any) -> Any:
    """Builds Moments from variables keyed by name."""
    if set(named) == set(Moments._fields):
        return Moments(**named)
    return {name: _moments(below) for name, below in named.items()}


def _with(named: Any, stats: Mapping[tuple[str, ...], Any]) -> Any:
    """Replaces the statistics at some paths of the variables."""
    changed = dict(paths(named))
    for path, tree in stats.items():
        changed |= {(*path, *end): leaf for end, leaf in paths(tree)}
    return nest(changed.items())
