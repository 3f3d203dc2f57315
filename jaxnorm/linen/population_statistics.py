"""Population statistics of linen modules, in one call."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
from flax.core import unfreeze

from jaxnorm import _objects
from jaxnorm._names import at, nest
from jaxnorm._paths import paths
from jaxnorm._population import average, calls, measuring, nothing_measured, refuse_nothing
from jaxnorm._typing import PyTree
from jaxnorm.norms.core.moments import Moments

STATS = "batch_stats"
WHERE = "jaxnorm.linen.population"
MODULE = _objects.Wanted("a module of Flax linen", "jaxnorm.linen.RNN(bn_lstm({}, max_steps=20))")


class _Places:
    """Where in the variables the modules lie that took part in a call, found while it is traced."""

    def __init__(self) -> None:
        self.paths: set[tuple[str, ...]] = set()


# Part of the key of every cache of jit: what was traced outside would fold by the rule of the spec.
_asked: Any = jax.make_user_context(default_value=None)  # type: ignore[no-untyped-call]


def rule(module: nn.Module, spec: Any, stats: PyTree) -> Any:
    """The spec by whose rule statistics are folded: its own, unless population statistics are asked for."""
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
    """Replaces the running statistics of a model by those of a data set, with its weights frozen.

    Every :class:`Norm`, :class:`RNN` and :class:`RNNCell` of the model gets the average of what it measures in the
    batches, by :func:`jaxnorm.population`.

    Args:
      module: the model.
      variables: its variables, as ``init`` and training made them.
      batches: the inputs of one batch after the other; a tuple holds the arguments of a call. Labels are left out:
        ``(images for images, labels in data)``.
      ddof: 1 for the m/(m-1) of Algorithm 2 of batch normalization; 0 without it, as recurrent batch normalization has
        it, and where ages mix within the steps of a cell.
      rngs: as for ``module.apply``; each batch gets keys of its own.
      method: as for ``module.apply``.
      **options: keywords of the call, which has to train: ``train=True``, or ``use_running_average=False``.

    Returns:
      The variables, with other ``"batch_stats"``. Rows that no batch has seen stay as they were, as do normalizers
      whose statistics are no means and variances, or whose training looks at running ones.

    Raises:
      ValueError: there is no batch, or no batch statistics, or none are measured.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm, jaxnorm.linen
      >>> module = jaxnorm.linen.Norm(jaxnorm.BatchNorm())
      >>> batches = jnp.array([[[1.0], [3.0]], [[2.0], [6.0]]])
      >>> variables = module.init(jax.random.key(0), batches[0], use_running_average=True)
      >>> better = jaxnorm.linen.population(module, variables, batches, use_running_average=False)
      >>> better["batch_stats"]["mean"], better["batch_stats"]["var"]
      (Array([3.], dtype=float32), Array([5.], dtype=float32))

    Notes:
      The call is compiled, once for each shape of batch.
    """
    _objects.require(WHERE, "module", module, nn.Module, MODULE)
    if not isinstance(variables, Mapping):
        raise TypeError(
            f"{WHERE}: variables must be a dict of collections, as module.init returns it, got "
            f"{_objects.describe(variables)}."
        )
    given: dict[str, Any] = unfreeze(dict(variables))
    if not given.get(STATS):
        raise ValueError(f"{WHERE}: the variables have no {STATS!r}. Pass those of init of a model that has some.")

    def call(variables: Any, rngs: Any, args: Any, places: _Places) -> Any:
        with _asked(places):
            _, updates = module.apply(variables, *args, rngs=rngs, method=method, mutable=[STATS], **options)
        return updates[STATS]

    def found(rngs: Any, args: Any) -> list[tuple[str, ...]]:
        places = _Places()
        jax.eval_shape(functools.partial(call, places=places), given, rngs, args)
        return sorted(places.paths) or refuse_nothing(WHERE)

    @jax.jit
    def measure(stats: Any, rngs: Any, args: Any) -> Any:
        updates = call({**given, STATS: _with(given[STATS], stats)}, rngs, args, _Places())
        return {path: _moments(at(updates, path)) for path in stats}

    running: dict[tuple[str, ...], Any] = {}

    def measured() -> Iterator[Any]:
        for number, args in enumerate(calls(WHERE, batches)):
            own = jax.tree.map(lambda key, number=number: jax.random.fold_in(key, number), rngs)
            if not running:
                running.update({path: _moments(at(given[STATS], path)) for path in found(own, args)})
            yield measure(nothing_measured(running), own, args)

    averaged = average(WHERE, running, measured(), ddof)
    return {**given, STATS: _with(given[STATS], averaged)}


def _moments(named: Any) -> Any:
    """Statistics as Moments, from their variables by name."""
    if set(named) == set(Moments._fields):
        return Moments(**named)
    return {name: _moments(below) for name, below in named.items()}


def _with(named: Any, stats: Mapping[tuple[str, ...], Any]) -> Any:
    """The variables with other statistics at some paths."""
    changed = dict(paths(named))
    for path, tree in stats.items():
        changed |= {(*path, *end): leaf for end, leaf in paths(tree)}
    return nest(changed.items())
