"""Computes population statistics of NNX modules in one call."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnorm._base import objects
from jaxnorm._base.typing import PyTree
from jaxnorm._shared.population import average, calls, measuring, nothing_measured
from jaxnorm.nnx import variables

WHERE = "jaxnorm.nnx.population"
MODULE = objects.Wanted("a module of Flax NNX", "jaxnorm.nnx.RNN(bn_lstm({}, max_steps=20), 3, rngs=rngs)")

Path: TypeAlias = tuple[str | int, ...]
"""The attributes and list indices that lead to a module."""


def population(
    model: nnx.Module,
    batches: Iterable[Any],
    *,
    ddof: int = 1,
    method: Callable[..., Any] | None = None,
    **options: Any,
) -> None:
    """Replaces the running statistics of a model by statistics of a data set, with frozen weights.

    Every :class:`Norm`, :class:`RNN` and :class:`RNNCell` in the model gets the average of its measurements over the
    batches, by :func:`jaxnorm.population`. Nothing else in the model changes. To keep the running statistics, copy the
    model first with ``nnx.clone``.

    Args:
      model: the model. It uses batch statistics here, even after ``eval()``; its own setting decides whether it draws
        masks.
      batches: the inputs, batch by batch; a tuple holds the arguments of a call. Leave labels out:
        ``(images for images, labels in data)``.
      ddof: 1 applies the m/(m-1) of Algorithm 2 of batch normalization; 0 does not: for recurrent batch normalization,
        and if ages mix within the steps of a cell.
      method: called with the model and the batch; None calls the model.
      **options: keywords of the call.

    Raises:
      ValueError: there is no batch, or no module with batch statistics, or no module measures any.

    Example:
      >>> import jax.numpy as jnp, jaxnorm, jaxnorm.nnx
      >>> module = jaxnorm.nnx.Norm(jaxnorm.BatchNorm(), 1)
      >>> jaxnorm.nnx.population(module, jnp.array([[[1.0], [3.0]], [[2.0], [6.0]]]))
      >>> module.mean[...], module.var[...]
      (Array([3.], dtype=float32), Array([5.], dtype=float32))

    Notes:
      Rows without examples keep their values. So do normalizers whose statistics are not means and variances, or whose
      training reads running statistics. The call compiles once for each batch shape.
    """
    objects.require(WHERE, "model", model, nnx.Module, MODULE)
    probe = nnx.clone(model)
    modules = _modules(probe)
    for module in modules.values():
        setattr(module, module.spec_name, _measuring(module))
    probe.set_attributes(use_running_average=False, raise_if_not_found=False)
    if not modules:
        raise ValueError(
            f"{WHERE}: {type(model).__name__} has no module of jaxnorm with batch statistics that could be averaged."
        )

    @nnx.jit
    def measure(probe: Any, args: Any) -> PyTree:
        modules = {path: _at(probe, path) for path in running}
        for module in modules.values():
            variables.write(module, nothing_measured(variables.statistics(module)))
        if method is None:
            probe(*args, **options)
        else:
            method(probe, *args, **options)
        return {path: variables.statistics(module) for path, module in modules.items()}

    def measured() -> Iterator[PyTree]:
        still = jax.tree.map(jnp.copy, nnx.state(probe, nnx.BatchStat))
        for args in calls(WHERE, batches):
            nnx.update(probe, still)  # other statistics must not change from batch to batch either
            yield measure(probe, args)

    running = {path: variables.statistics(module) for path, module in modules.items()}
    for path, stats in average(WHERE, running, measured(), ddof).items():
        variables.write(_at(model, path), stats)


def _measuring(module: Any) -> Any:
    return measuring(getattr(module, module.spec_name), variables.statistics(module))


def _modules(model: nnx.Module) -> dict[Path, Any]:
    """Returns the modules that take part, each once, keyed by path."""
    modules: list[tuple[Any, Any]] = [
        (path, module)
        for path, module in nnx.iter_modules(model)
        if isinstance(module, variables.OfCell | variables.OfNorm)
    ]
    return {path: module for path, module in modules if _measuring(module) is not None}


def _at(model: Any, path: Path) -> Any:
    for entry in path:
        model = model[entry] if isinstance(entry, int) or not hasattr(model, str(entry)) else getattr(model, str(entry))
    return model
