"""Normalizes the weights of NNX modules; the public name is in ``jaxnorm.nnx``."""

from collections.abc import Mapping
from functools import reduce
from typing import Any, TypeAlias

import jax
from flax import nnx

from jaxnorm._base import objects
from jaxnorm._base.paths import Path
from jaxnorm._base.typing import Array, PRNGKeyArray, Shaped
from jaxnorm._shared.kernel_axes import AxisRule, settle
from jaxnorm._shared.names import choose_kernels, from_names, kernel_template, nest, to_names
from jaxnorm.nnx.kernel_axes import layer_axes
from jaxnorm.nnx.variables import key as one_key
from jaxnorm.weight_norms.base import FixedState, KernelParams, State, WeightNormalizer

Randomness: TypeAlias = nnx.Rngs | nnx.RngStream | PRNGKeyArray | Shaped[Array, "2"]

MODULE = objects.Wanted("a module of Flax NNX", "jaxnorm.nnx.RNN(ln_lstm({}), 3, rngs=rngs)")


class Reparametrized(nnx.Module):
    """Any module with kernels normalized by any weight normalizer.

    The wrapped module keeps its trained kernels, the papers' v; each call computes normalized ones and never stores
    them. Scales are ``nnx.Param`` under ``scale``, states ``nnx.BatchStat`` under ``state``, keyed by the path of their
    kernel. Wrap a whole RNN to normalize kernels once a sequence; around a cell inside ``flax.nnx.RNN`` every step
    computes them, which is slower, and updates the state.

    Example:
      >>> import jax.numpy as jnp, jaxnorm, jaxnorm.nnx
      >>> from flax import nnx
      >>> rnn = jaxnorm.nnx.RNN(jaxnorm.lstm(4), 3, rngs=nnx.Rngs(0))
      >>> rnn = jaxnorm.nnx.Reparametrized(rnn, {"recurrent": jaxnorm.WeightNorm()})
      >>> rnn(jnp.ones((2, 6, 3))).shape, rnn.scale.recurrent.shape, rnn.module.recurrent.shape
      ((2, 6, 4), (4, 4), (4, 4, 4))
    """

    def __init__(
        self,
        module: nnx.Module,
        kernels: WeightNormalizer | Mapping[str, WeightNormalizer],
        *,
        axis: AxisRule | None = None,
        use_running_average: bool | None = False,
        rngs: Randomness | None = None,
    ) -> None:
        """Declares scales and states.

        Args:
          module: the module: a layer, an RNN, a cell, a whole model.
          kernels: a weight normalizer for all variables named ``kernel`` or ``recurrent``, or several keyed by name,
            ``{"recurrent": WeightNorm()}``. Name a variable by its path (``cell_dense_h_kernel``) or by the end of its
            path.
          axis: the axes that hold the inputs of a unit, for weight normalizers without an ``axis`` of their own. Pass
            one for all, or several keyed as in ``kernels``, ``{"out_kernel": (0, 1)}``, or a function of the path (a
            tuple of names) and the array. None instead of axes leaves a weight alone. By default, and for weights that
            a mapping does not name, Flax's layers and the cells of this library declare them.
          use_running_average: whether to use states unchanged (True), or update them first, as in training.
            ``train()``, ``eval()`` and ``nnx.view`` switch it; normalizers without a state, or with a constant one,
            ignore it.
          rngs: for states with random initial values, with one key of the stream ``params``; not stored.

        Raises:
          TypeError: a name matches no variable, or there is no variable to normalize.
          ValueError: the axes of a unit's inputs are not known: pass ``axis``.
        """
        objects.require("Reparametrized", "module", module, nnx.Module, MODULE)
        self.module = module
        self.use_running_average = use_running_average
        weights = _weights(module)
        chosen = choose_kernels("Reparametrized", kernels, weights)
        values = {path: variable.get_value() for path, variable in weights.items()}
        chosen = settle("Reparametrized", axis, values, chosen, layer_axes(module))
        self.kernels = nnx.static(tuple(chosen.items()))
        start = None if rngs is None else one_key("Reparametrized", rngs, "params")
        keys: Any = [None] * len(chosen) if start is None else jax.random.split(start, len(chosen))
        scales, states = {}, {}
        for (path, spec), key in zip(chosen.items(), keys, strict=True):
            params, state = spec.init(weights[path][...], key)
            if params.scale is not None:
                scales[path] = nnx.Param(params.scale)
            if state != ():
                states[path] = jax.tree.map(nnx.BatchStat, to_names(state))
        self.scale = _nested(nest(scales.items()))
        self.state = _nested(nest(states.items()))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the wrapped module with normalized kernels; it gets all arguments."""
        copy = self._with_kernels(advance=True)
        before = {path: variable.get_value() for path, variable in _variables(copy).items()}
        result = copy(*args, **kwargs)
        # Copy variables that the call changed, such as running statistics, back to the module, but never a kernel.
        normalized = {path for path, _ in self.kernels}
        originals = _variables(self.module)
        for path, variable in _variables(copy).items():
            value = variable.get_value()
            if path in originals and path not in normalized and value is not before[path]:
                originals[path].set_value(value)
        return result

    def merged(self) -> nnx.Module:
        """Copies the wrapped module, with normalized kernels, for inference or export."""
        copy: nnx.Module = self._with_kernels(advance=False)
        return copy

    def initialize_carry(self, *args: Any, **kwargs: Any) -> Any:
        """Makes the initial carry of the wrapped cell."""
        return self._cell.initialize_carry(*args, **kwargs)

    @property
    def _cell(self) -> Any:
        return self.module

    @property
    def num_feature_axes(self) -> int:
        """The number of feature axes of the wrapped cell."""
        axes: int = self._cell.num_feature_axes
        return axes

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Sets the attributes that ``nnx.view`` passes, unless None."""
        if use_running_average is not None:
            self.use_running_average = use_running_average

    def _with_kernels(self, advance: bool) -> Any:
        """Copies the module with normalized kernels; its other variables hold the same arrays."""
        graph, variables = nnx.split(self.module)
        # Mapping creates new variables in the trace of this call; merge alone would reuse the old variables.
        copy = nnx.merge(graph, jax.tree.map(lambda leaf: leaf, variables))
        weights, places = _weights(self.module), _weights(copy)
        for path, spec in self.kernels:
            kernel = weights[path][...]
            template, state = kernel_template(spec, kernel.shape, kernel.dtype)
            params = KernelParams(kernel, None if template.scale is None else _at(self.scale, path)[...])
            if state != ():
                state = self._state(path, spec, params, state, advance)
            places[path].set_value(spec(params, state))
        return copy

    def _state(self, path: Path, spec: WeightNormalizer, params: KernelParams, template: State, advance: bool) -> State:
        """Returns the state of one kernel, updated in training."""
        held = {name: _at(self.state, (*path, name)) for name in to_names(template)}
        state = from_names(template, {name: variable[...] for name, variable in held.items()})
        if advance and not isinstance(spec, FixedState) and not self._uses_states_as_they_are():
            state = spec.advance(params, state)
            for name, leaf in to_names(state).items():
                held[name].set_value(leaf)
        return state

    def _uses_states_as_they_are(self) -> bool:
        if self.use_running_average is None:
            raise ValueError(
                "Reparametrized: nothing says whether to bring states up to date. Pass use_running_average to the "
                "constructor, or call train() or eval()."
            )
        return self.use_running_average


def _variables(module: nnx.Module) -> dict[Path, Any]:
    """Returns the variables of a module, keyed by path; a shared variable appears once."""
    found = ((path, node) for path, node in nnx.iter_graph(module) if isinstance(node, nnx.Variable))
    return {tuple(map(str, path)): node for path, node in found}


def _weights(module: nnx.Module) -> dict[Path, Any]:
    return {path: node for path, node in _variables(module).items() if isinstance(node, nnx.Param)}


def _nested(tree: Mapping[str, Any]) -> Any:
    return nnx.Dict({name: _nested(part) if isinstance(part, dict) else part for name, part in tree.items()})


def _at(node: Any, path: Path) -> Any:
    return reduce(getattr, path, node)
