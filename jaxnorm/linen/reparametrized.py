"""Normalizes the weights of linen modules; the public name is in ``jaxnorm.linen``."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from jaxnorm._base import objects
from jaxnorm._base.paths import Path, paths
from jaxnorm._base.typing import Array, Axis
from jaxnorm._shared.kernel_axes import AxisRule, settle
from jaxnorm._shared.names import at, check_kernels, choose_kernels, from_names, kernel_template, nest, to_names
from jaxnorm.linen.kernel_axes import fitting, traced
from jaxnorm.weight_norms.base import FixedState, KernelParams, State, WeightNormalizer, axis_is_open

PARAMS, STATS = "params", "batch_stats"
MODULE = objects.Wanted("a module of Flax linen", "jaxnorm.linen.RNN(ln_lstm({}))")


class Reparametrized(nn.Module):
    """Any module with kernels normalized by any weight normalizer.

    The wrapped module keeps its trained kernels, the papers' v; each call computes normalized ones and never stores
    them. Scales are in ``params`` under ``scale``, states in ``batch_stats`` under
    ``state``, keyed by the path of their kernel. Wrap a whole RNN to normalize kernels once a sequence; around a cell
    inside ``flax.linen.RNN`` they are computed at every step, with the same values but slower. Wrap the whole RNN if
    the normalizer has a state.

    Attributes:
      module: the module: a layer, an RNN, a cell, a whole model.
      kernels: a weight normalizer for all variables named ``kernel`` or ``recurrent``, or several keyed by name,
        ``{"recurrent": WeightNorm()}``. Name a variable by its path (``cell_hi_kernel``) or by the end of its path.
      axis: the axes that hold the inputs of a unit, for weight normalizers without an ``axis`` of their own. Pass one
        for all, or several keyed as in ``kernels``, ``{"out_kernel": (0, 1)}``, or a function of the path (a tuple of
        names) and the array. None instead of axes leaves a weight alone. By default, and for weights that a mapping
        does not name, Flax's layers and the cells of this library declare them; to find them, the module is traced once
        more with abstract arrays.
      update_stats: whether to update states before use, as in training. The states must be mutable
        (``mutable=["batch_stats"]``). Pass it here or in the call; normalizers without a state, or with a constant one,
        need neither.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm, jaxnorm.linen
      >>> rnn = jaxnorm.linen.Reparametrized(jaxnorm.linen.RNN(jaxnorm.lstm(4)), {"recurrent": jaxnorm.WeightNorm()})
      >>> ys, variables = rnn.init_with_output(jax.random.key(0), jnp.ones((2, 6, 3)))
      >>> ys.shape, jax.tree.map(jnp.shape, variables["params"]["scale"])
      ((2, 6, 4), {'recurrent': (4, 4)})
    """

    module: nn.Module
    kernels: WeightNormalizer | Mapping[str, WeightNormalizer]
    axis: AxisRule | None = None
    update_stats: bool | None = None

    def __post_init__(self) -> None:
        objects.require("Reparametrized", "module", self.module, nn.Module, MODULE)
        check_kernels("Reparametrized", self.kernels)
        super().__post_init__()

    @nn.compact
    def __call__(self, *args: Any, update_stats: bool | None = None, **kwargs: Any) -> Any:
        """Calls the wrapped module with normalized kernels; it gets all other arguments.

        Args:
          *args: arguments of the module.
          update_stats: see the class.
          **kwargs: keywords of the module.

        Returns:
          The result of the module.

        Raises:
          TypeError: a name matches no variable, or there is no variable to normalize.
          ValueError: the axes of a unit's inputs are not known: pass ``axis``.
        """
        stored: dict[Path, Any] = {}
        known = self._known_axes(args, kwargs)

        def normalized(variables: dict[str, Any]) -> dict[str, Any]:
            stored.update(_boxes(variables.get(PARAMS, {})))
            return {**variables, PARAMS: nest({**stored, **self._made(stored, known, update_stats)}.items())}

        def restored(variables: dict[str, Any]) -> dict[str, Any]:
            weights = _boxes(variables.get(PARAMS, {}))
            return {**variables, PARAMS: nest((path, stored.get(path, leaf)) for path, leaf in weights.items())}

        run: Any = nn.map_variables(
            lambda module: module(*args, **kwargs),
            PARAMS,
            trans_in_fn=normalized,
            trans_out_fn=restored,
            init=self.is_initializing(),
        )
        return run(self.module)

    def _known_axes(self, args: Any, kwargs: Any) -> dict[Path, Axis]:
        """Finds the axes that the inner layers declare, if a weight normalizer needs them."""
        specs = self.kernels.values() if isinstance(self.kernels, Mapping) else (self.kernels,)
        if not any(axis_is_open(spec) for spec in specs) or not (self.axis is None or isinstance(self.axis, Mapping)):
            return {}
        rngs = {stream: jax.random.key(0) for stream in (PARAMS, *(self.scope.rngs if self.scope else ()))}
        return fitting(*traced(self.module, rngs, args, kwargs))

    def _made(
        self, weights: Mapping[Path, Any], known: Mapping[Path, Axis], update_stats: bool | None
    ) -> dict[Path, Any]:
        """Computes the normalized kernels by path, in their boxes; declares scales and states."""
        values: dict[Path, Array] = {path: nn.meta.unbox(leaf) for path, leaf in weights.items()}
        chosen = choose_kernels("Reparametrized", self.kernels, weights)
        chosen = settle("Reparametrized", self.axis, values, chosen, known)
        templates = {
            path: kernel_template(spec, values[path].shape, values[path].dtype) for path, spec in chosen.items()
        }
        has_scale = [path for path, (params, _) in templates.items() if params.scale is not None]
        has_state = [path for path, (_, state) in templates.items() if state != ()]
        moving = [path for path in has_state if not isinstance(chosen[path], FixedState)]

        def fresh(paths: list[Path], key: Any) -> dict[Path, Any]:
            keys = jax.random.split(key, len(paths))
            return {path: chosen[path].init(values[path], k) for path, k in zip(paths, keys, strict=True)}

        def scales(key: Any) -> dict[str, Any]:
            return nest((path, params.scale) for path, (params, _) in fresh(has_scale, key).items())

        def states() -> dict[str, Any]:
            made = fresh(has_state, self.make_rng(PARAMS))
            return nest((path, to_names(state)) for path, (_, state) in made.items())

        scale = nn.meta.unbox(self.param("scale", scales)) if has_scale else {}
        variable = self.variable(STATS, "state", states) if has_state else None
        update = (
            bool(moving)
            and not self.is_initializing()
            and nn.merge_param("update_stats", self.update_stats, update_stats)
        )
        made, advanced = {}, {}
        for path, spec in chosen.items():
            params = KernelParams(values[path], at(scale, path) if path in has_scale else None)
            state: State = ()
            if variable is not None and path in has_state:
                state = from_names(templates[path][1], at(variable.value, path))
                state = spec.advance(params, state) if update else state
                advanced[path] = to_names(state)
            made[path] = nn.meta.replace_boxed(weights[path], spec(params, state))
        if variable is not None and update:
            variable.value = nest(advanced.items())
        return made

    @nn.nowrap
    def initialize_carry(self, *args: Any, **kwargs: Any) -> Any:
        """Makes the initial carry of the wrapped cell."""
        return self.module.initialize_carry(*args, **kwargs)

    @property
    def num_feature_axes(self) -> int:
        """The number of feature axes of the wrapped cell."""
        axes: int = self.module.num_feature_axes
        return axes


def _boxes(tree: Any) -> dict[Path, Any]:
    """Flattens variables by path and keeps their boxes, if any (``nn.Partitioned``)."""
    return dict(paths(tree, is_leaf=lambda node: isinstance(node, nn.meta.AxisMetadata)))
