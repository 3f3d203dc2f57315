"""Whole models of other libraries: what a converter found, layer by layer."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm._base.typing import Array, PyTree
from jaxnorm.convert.shared.arrays import Host, listed, to_device, to_host, to_numpy
from jaxnorm.convert.shared.base import Imported


@final
@dataclasses.dataclass(frozen=True)
class ImportedModel(Mapping[str, Any]):
    """The layers of a model of another library, keyed by the names that they have there.

    ``model[name]`` is :class:`Imported` for a recurrent layer or a normalizer. Every other layer, whether an embedding,
    a linear layer, a convolution or one of a class of your own, is a dict of its arrays, with the names, shapes and
    order of axes that they have there. Containers are walked; they have no entry of their own.

    Attributes:
      layers: the entries by name.
      kinds: the class of each layer by name, as far as the source tells; also of layers without arrays, such as
        dropout, which have no entry.
      tied: names of arrays that are one array with another, and the name of that one: ``{"decoder.weight":
        "encoder.weight"}``. Both entries hold it; train one of them.
      notes: what the source does besides and you must do yourself, with the name of the layer.

    Example:
      >>> import numpy as np
      >>> from jaxnorm import convert
      >>> state = {"embed.weight": np.ones((7, 3), "f"), "head.weight": np.ones((7, 2), "f")}
      >>> state |= {"rnn.weight_ih_l0": np.ones((8, 3), "f"), "rnn.weight_hh_l0": np.ones((8, 2), "f")}
      >>> model = convert.torch.load_model(state)
      >>> model["rnn"].spec.hidden_features, model["head"]["weight"].shape, list(model.params)
      (2, (7, 2), ['embed', 'head', 'rnn'])
    """

    layers: dict[str, Imported | dict[str, Array]]
    kinds: dict[str, str] = dataclasses.field(default_factory=dict)
    tied: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Any:
        """Returns the layer of this name."""
        if name not in self.layers:
            raise KeyError(f"the model has no layer {name!r}; there are {listed(self.layers)}.")
        return self.layers[name]

    def __iter__(self) -> Iterator[str]:
        """Iterates over the names."""
        return iter(self.layers)

    def __len__(self) -> int:
        """Returns the number of layers with an entry."""
        return len(self.layers)

    @property
    def specs(self) -> dict[str, Any]:
        """The specs of recurrent layers and normalizers by name."""
        return {name: layer.spec for name, layer in self.layers.items() if isinstance(layer, Imported)}

    @property
    def params(self) -> dict[str, PyTree]:
        """The weights of all layers by name, a plain tree for an optimizer."""
        return {name: layer.params if isinstance(layer, Imported) else layer for name, layer in self.layers.items()}

    @property
    def stats(self) -> dict[str, PyTree]:
        """The running statistics by name, of the layers that have some."""
        found = {name: layer.stats for name, layer in self.layers.items() if isinstance(layer, Imported)}
        return {name: stats for name, stats in found.items() if jax.tree.leaves(stats)}


def plain(caller: str, values: Mapping[str, Any], prefix: str = "") -> dict[str, Array]:
    """Copies the arrays of a layer without a counterpart, with the names that they have."""
    return {name: _copied(caller, prefix + name, value) for name, value in values.items()}


def _copied(caller: str, name: str, value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "biu":
        return to_device(to_host(caller, name, value))
    ours = array.astype(jax.dtypes.canonicalize_dtype(array.dtype))
    if not np.array_equal(ours, array):
        raise TypeError(f"{caller}: {name} has integers beyond {ours.dtype}. Set jax_enable_x64, or take it away.")
    return jnp.array(ours)


def check_specs(caller: str, specs: Any, names: Iterable[str]) -> dict[str, Any]:
    """Returns specs by the name of a layer; raises unless there is a layer for each."""
    if not isinstance(specs, Mapping | None):
        raise TypeError(
            f"{caller}: these are several layers, so pass a dict of specs by the name of a layer, got {specs!r}."
        )
    names = list(names)
    unknown = [name for name in specs or {} if name not in names]
    if unknown:
        raise ValueError(f"{caller}: specs has {listed(unknown)}, and there are the layers {listed(names)}.")
    return dict(specs or {})


def tied_names(arrays: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """Returns the names of arrays that lie in the same memory as an earlier one, and the name of that one."""
    first: dict[Any, str] = {}
    found = {}
    for name, value in arrays:
        place = _place(value)
        if place is not None and first.setdefault(place, name) != name:
            found[name] = first[place]
    return found


def _place(value: Any) -> Any:
    """Identifies the memory of an array; None for an empty one."""
    if 0 in np.shape(value):
        return None
    if hasattr(value, "data_ptr"):
        return value.data_ptr(), tuple(value.shape), value.stride()
    if isinstance(value, np.ndarray):
        return value.__array_interface__["data"][0], value.shape, value.strides
    return id(value)


def export_layers(
    caller: str, export: Callable[..., dict[str, Host]], model: tuple[Any, Any, Any], separator: str
) -> dict[str, Host]:
    """Exports a model, given as dicts of specs, params and stats by the name of a layer, as arrays by name."""
    specs, params, stats = model
    if not isinstance(params, Mapping):
        raise TypeError(f"{caller}: params must be a dict by the name of a layer, as spec is, got {params!r}.")
    missing = [name for name in specs if name not in params]
    if missing:
        raise ValueError(f"{caller}: params has no {listed(missing)}; there are {listed(params)}.")
    found: dict[str, Host] = {}
    for name, weights in params.items():
        if name in specs:
            own = export(specs[name], weights, dict(stats or {}).get(name, ()))
        else:
            own = {key: to_numpy(array) for key, array in weights.items()}
        found |= {f"{name}{separator}{key}" if name else key: array for key, array in own.items()}
    return found
