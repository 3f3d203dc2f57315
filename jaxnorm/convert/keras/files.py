"""Reads files of Keras: the layers of ``.keras`` archives and of HDF5 files of weights."""

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


class FileLayer(NamedTuple):
    """A layer in a file: names of it and of the layers around it, its path, class and options, arrays by path in it."""

    names: tuple[str, ...]
    path: str
    kind: str | None
    config: dict[str, Any]
    arrays: dict[str, Host]
    matches: int
    """How many layers of its name the configuration has, if there is one."""


def read_layers(caller: str, path: str | os.PathLike[str]) -> list[FileLayer]:
    """Reads all layers of a ``.keras`` or ``.weights.h5`` file, also those inside of others."""
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
                return list(_read(caller, file, None, Path(path).stat().st_size))
        config, weights, version = _read_archive(caller, path)
        _check_functions(caller, version, config)
        with h5py.File(io.BytesIO(weights), "r") as file:
            return list(_read(caller, file, config, len(weights)))


def _check_functions(caller: str, version: str, config: Any) -> None:
    """Refuses a name that stood for another function before Keras 3."""
    functions = [
        each["config"].get(name) for each in _configs(config) for name in ("recurrent_activation", "activation")
    ]
    if version.startswith("2.") and "hard_sigmoid" in functions:
        raise ValueError(
            f"{caller} is of Keras {version}, whose hard_sigmoid is clip(0.2 x + 0.5, 0, 1), in Keras 3 and JAX "
            "clip(x / 6 + 0.5, 0, 1). Save the weights alone (model.save_weights('model.weights.h5')), and load them "
            "with a spec that has this function: jaxnorm.lstm(128, gate_fn=...)."
        )


def _read_archive(caller: str, path: str | os.PathLike[str]) -> tuple[Any, bytes, str]:
    """Reads the configuration of the model, the file of weights, and the version of Keras.

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
        return json.loads(archive.read(CONFIG)), archive.read(WEIGHTS), version


def _read(caller: str, file: Any, config: Any, size: int) -> Iterator[FileLayer]:
    """Yields every layer of a file of weights; ``config`` is that of the model, None for weights alone."""
    import h5py

    if "layer_names" in file.attrs or "model_config" in file.attrs or "model_weights" in file:
        raise ValueError(
            f"{caller} is a legacy .h5 file, which stores layers in another form. Load it in Keras and save it again: "
            "keras.models.load_model(path).save('model.keras'); of weights alone build the model, "
            "model.load_weights(path), model.save_weights('model.weights.h5')."
        )
    datasets: dict[str, Any] = {}

    def visit(key: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            datasets[key] = item

    file.visititems(visit)
    _check_storage(caller, datasets, size)
    named = dict(_layers(file))
    for path in sorted(named):  # layers before those inside of them
        around = [other for other in named if path == other or path.startswith(f"{other}/")]
        names = tuple(named[other] for other in sorted(around, key=len))
        own = _configs_of(config, names)
        kind, options = (str(own[0]["class_name"]), own[0]["config"]) if len(own) == 1 else (None, {})
        start = len(path) + 1
        arrays = {key[start:]: np.asarray(item) for key, item in datasets.items() if key.startswith(f"{path}/")}
        yield FileLayer(names, path, kind, options, arrays, len(own))


def _configs_of(config: Any, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Returns the configurations of layers with these names, from the outermost to its own."""
    found = [config]
    for name in names:
        config = found[0]
        inner = config.get("config", {}).get("layers", ()) if isinstance(config, dict) else ()
        found = [each for each in inner if isinstance(each, dict) and each.get("config", {}).get("name") == name]
        found = found or [each for each in _configs(config) if each["config"].get("name") == name]
        if len(found) != 1:
            break
    return found


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
