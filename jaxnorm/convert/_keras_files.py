"""Reads files of Keras: layers from ``.keras`` archives, arrays by path from HDF5 files."""

import io
import itertools
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm.convert.shared.arrays import Host, listed
from jaxnorm.convert.shared.files import check_file, reading

CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
LARGEST_RATIO = 1032
"""The largest compression ratio of the HDF5 filters."""


class KerasLayer(NamedTuple):
    """A layer in a file of Keras: class and options (None in files of weights), arrays by path."""

    kind: str | None
    config: dict[str, Any]
    arrays: dict[str, Host]


def read_keras(caller: str, path: str | os.PathLike[str], layer: str | None) -> KerasLayer:
    """Reads one layer of a ``.keras`` or ``.weights.h5`` file, by its name in the model or its path in the file."""
    name = os.fspath(path)
    if not name.endswith((".keras", ".h5", ".hdf5")):
        raise ValueError(f"{caller} is neither a .keras nor a .weights.h5 file.")
    try:
        import h5py
    except ImportError:
        raise ImportError(f"{caller}: files of Keras are read by the package h5py: pip install h5py.") from None
    check_file(caller, path)
    with reading(caller, path, ".keras" if name.endswith(".keras") else ".weights.h5"):
        if not name.endswith(".keras"):
            with h5py.File(path, "r") as file:
                _check_end(caller, path)
                return KerasLayer(None, {}, _read_layer(caller, file, layer, Path(path).stat().st_size)[1])
        configs, weights, version = _read_archive(caller, path)
        with h5py.File(io.BytesIO(weights), "r") as file:
            own, arrays = _read_layer(caller, file, layer, len(weights))
        found = [config for config in configs if config["config"].get("name") == own]
        if len(found) != 1:
            raise ValueError(
                f"{caller} has {len(found)} layers named {own!r} in its {CONFIG}, and arrays of one. Give the layers "
                "of the model names of their own and save it again; of a model of a class of your own save the weights "
                "(model.save_weights('model.weights.h5'))."
            )
        _check_functions(caller, version, found[0]["config"])
        return KerasLayer(str(found[0]["class_name"]), found[0]["config"], arrays)


def _check_functions(caller: str, version: str, config: dict[str, Any]) -> None:
    """Refuses a name that stood for another function before Keras 3."""
    if version.startswith("2.") and "hard_sigmoid" in (config.get("recurrent_activation"), config.get("activation")):
        raise ValueError(
            f"{caller} is of Keras {version}, whose hard_sigmoid is clip(0.2 x + 0.5, 0, 1), in Keras 3 and JAX "
            "clip(x / 6 + 0.5, 0, 1). Save the weights alone (model.save_weights('model.weights.h5')), and load them "
            "with a spec that has this function: jaxnorm.lstm(128, gate_fn=...)."
        )


def _read_archive(caller: str, path: str | os.PathLike[str]) -> tuple[list[dict[str, Any]], bytes, str]:
    """Reads the configurations of all layers, the file of weights, and the version of Keras.

    zipfile verifies the checksums.
    """
    with zipfile.ZipFile(path) as archive:
        missing = [name for name in (CONFIG, WEIGHTS) if name not in archive.namelist()]
        if missing:
            raise ValueError(
                f"{caller} has no {' and no '.join(missing)}, as a .keras archive must; there are "
                f"{listed(archive.namelist())}. Save the model by model.save('model.keras')."
            )
        metadata = json.loads(archive.read(METADATA)) if METADATA in archive.namelist() else {}
        version = str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
        return list(_configs(json.loads(archive.read(CONFIG)))), archive.read(WEIGHTS), version


def _read_layer(caller: str, file: Any, layer: str | None, size: int) -> tuple[str, dict[str, Host]]:
    """Reads the name of one layer, and its arrays by their path in the layer."""
    import h5py

    if "layer_names" in file.attrs or "model_config" in file.attrs or "model_weights" in file:
        raise ValueError(
            f"{caller} is a legacy .h5 file, in which layers lie otherwise. Load it in Keras and save it anew: "
            "keras.models.load_model(path).save('model.keras'); of weights alone build the model, "
            "model.load_weights(path), model.save_weights('model.weights.h5')."
        )
    layers = dict(_layers(file))
    group = _choose(caller, layers, layer)
    datasets: dict[str, Any] = {}

    def visit(key: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            datasets[key] = item

    file.visititems(visit)
    _check_storage(caller, datasets, size)
    own = {key: np.asarray(item) for key, item in datasets.items() if key.startswith(f"{group}/")}
    return layers[group], {key[len(group) + 1 :]: array for key, array in own.items()}


def _check_end(caller: str, path: str | os.PathLike[str]) -> None:
    """Raises unless the length of a file matches its header: inserted or missing bytes would shift the numbers."""
    with Path(path).open("rb") as file:
        head = file.read(64)
    width, place = (head[13], 40 + 4 * head[8]) if head[8] < 2 else (head[9], 12 + 2 * head[9])
    end = int.from_bytes(head[place : place + width], "little")
    if (size := Path(path).stat().st_size) != end:
        raise ValueError(
            f"{caller} is damaged: it has {size} bytes and says that it ends after {end}. Download it again."
        )


def _check_storage(caller: str, datasets: dict[str, Any], size: int) -> None:
    """Raises unless each dataset has its own place inside the file, with the size that its shape implies.

    HDF5 verifies no checksums here; this check finds damaged addresses, sizes and types.
    """
    import h5py

    plain = (h5py.h5t.IEEE_F16LE, h5py.h5t.IEEE_F32LE, h5py.h5t.IEEE_F64LE)
    taken = []
    for key, item in datasets.items():
        offset, stored, kind = item.id.get_offset(), item.id.get_storage_size(), item.id.get_type()
        if item.external or item.is_virtual:
            raise ValueError(f"{caller} has {key} in another file. Save the model again, in one file.")
        if kind.get_class() == h5py.h5t.FLOAT and not any(kind.equal(known) for known in plain):
            raise ValueError(f"{caller} is damaged: the numbers of {key} have no format that Keras writes.")
        if (item.chunks is None and stored != item.nbytes) or item.nbytes > LARGEST_RATIO * size:
            raise ValueError(
                f"{caller} is damaged: {key} has shape {item.shape} and {stored} bytes. Save or download it again."
            )
        if offset is not None:
            taken.append((offset, offset + stored, key))
    headers = sorted({h5py.h5o.get_info(item.id).addr for item in datasets.values()})
    taken += [(0, 8, "the head"), *((address, address + 8, "a header") for address in headers)]
    taken = sorted(entry for entry in taken if entry[1] > entry[0])
    for (_, end, first), (begin, _, second) in itertools.pairwise(taken):
        if begin < end:
            raise ValueError(f"{caller} is damaged: {first} and {second} lie in the same place. Download it again.")
    if taken[-1][1] > size:
        raise ValueError(f"{caller} is damaged: {taken[-1][2]} lies beyond its end. Download it again.")


def _layers(file: Any) -> Iterator[tuple[str, str]]:
    """Yields path and name of every layer: every group with variables and a name, except cells."""
    paths: list[str] = []
    file.visit(paths.append)
    for path in paths:
        owner, _, last = path.rpartition("/")
        if last == "vars" and owner and "name" in file[path].attrs and owner.rpartition("/")[2] != "cell":
            own = file[path].attrs["name"]
            yield owner, own.decode() if isinstance(own, bytes) else str(own)


def _choose(caller: str, layers: dict[str, str], wanted: str | None) -> str:
    names = listed(f"{name!r} ({path})" for path, name in layers.items())
    matches = [path for path, name in layers.items() if wanted in (path, name)]
    if wanted is None or len(matches) != 1:
        asked = "layer is None" if wanted is None else f"layer={wanted!r} names {len(matches)} layers"
        raise ValueError(f"{caller}: {asked}. Pass layer=... with the name or the path of one: {names}.")
    return matches[0]


def _configs(node: Any) -> Iterator[dict[str, Any]]:
    """Yields all objects with class and options, at any depth."""
    if isinstance(node, dict):
        if isinstance(node.get("config"), dict) and "class_name" in node:
            yield node
        for value in node.values():
            yield from _configs(value)
    elif isinstance(node, list):
        for value in node:
            yield from _configs(value)
