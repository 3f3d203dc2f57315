"""Files of other libraries: arrays by name out of safetensors and HDF5, layers out of .keras archives."""

import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jaxnorm._namedtuple import NamedTuple
from jaxnorm.convert.arrays import Host, listed

DTYPES: dict[str, Any] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "U8": np.dtype("u1"), "BOOL": np.dtype("?"),
}  # fmt: skip
"""What a safetensors file calls the dtypes that can stand in it and here."""


def read_safetensors(where: str, path: str | os.PathLike[str], prefix: str) -> dict[str, Host]:
    """The arrays of a safetensors file whose names begin with ``prefix``."""
    if not os.fspath(path).endswith(".safetensors"):
        raise ValueError(
            f"{where}: {os.fspath(path)!r} is no .safetensors file. Of other files pass the state dict, such as "
            "torch.load(path, weights_only=True) gives."
        )
    try:
        from safetensors import deserialize
    except ImportError:
        raise ImportError(
            f"{where}: a .safetensors file is read by the package safetensors: pip install safetensors."
        ) from None
    read: Any = deserialize  # its types depend on the release
    entries = dict(read(Path(path).read_bytes()))
    chosen = {name: entry for name, entry in entries.items() if name.startswith(prefix)}
    unknown = {name: entry["dtype"] for name, entry in chosen.items() if entry["dtype"] not in DTYPES}
    if unknown:
        raise TypeError(f"{where}: the file has arrays in dtypes that cannot be converted: {unknown}.")
    if not chosen:
        raise ValueError(f"{where}: no array of {path} begins with prefix={prefix!r}; there are {listed(entries)}.")
    return {
        name: np.frombuffer(entry["data"], DTYPES[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in chosen.items()
    }


class KerasLayer(NamedTuple):
    """A layer as a file of Keras has it: class and options (None in files of weights), arrays by path."""

    kind: str | None
    config: dict[str, Any]
    arrays: dict[str, Host]


def read_keras(where: str, path: str | os.PathLike[str], layer: str | None) -> KerasLayer:
    """One layer of a ``.keras`` or ``.weights.h5`` file, chosen by its name in the model or its path in the file."""
    name = os.fspath(path)
    if name.endswith(".keras"):
        with zipfile.ZipFile(path) as archive:
            configs = list(_configs(json.loads(archive.read("config.json"))))
            source: Any = io.BytesIO(archive.read("model.weights.h5"))
    elif name.endswith((".h5", ".hdf5")):
        configs, source = [], path
    else:
        raise ValueError(f"{where}: {name!r} is neither a .keras nor a .weights.h5 file.")
    try:
        import h5py
    except ImportError:
        raise ImportError(f"{where}: files of Keras are read by the package h5py: pip install h5py.") from None
    with h5py.File(source, "r") as file:
        layers = dict(_layers(file))
        group = _choose(where, layers, layer)
        own = layers[group]
        arrays: dict[str, Host] = {}

        def visit(key: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                arrays[key] = np.asarray(item)

        file[group].visititems(visit)
    found = [config for config in configs if config["config"].get("name") == own]
    if len(found) > 1:
        raise ValueError(f"{where}: the file has {len(found)} layers named {own!r}. Rename them and save it again.")
    return KerasLayer(found[0]["class_name"], found[0]["config"], arrays) if found else KerasLayer(None, {}, arrays)


def _layers(file: Any) -> Iterator[tuple[str, str]]:
    """Path and name of every layer: of every group with variables whose name stands there, but for cells."""
    paths: list[str] = []
    file.visit(paths.append)
    for path in paths:
        owner, _, last = path.rpartition("/")
        if last == "vars" and owner and "name" in file[path].attrs and owner.rpartition("/")[2] != "cell":
            own = file[path].attrs["name"]
            yield owner, own.decode() if isinstance(own, bytes) else str(own)


def _choose(where: str, layers: dict[str, str], wanted: str | None) -> str:
    names = listed(f"{name!r} ({path})" for path, name in layers.items())
    matches = [path for path, name in layers.items() if wanted in (path, name)]
    if wanted is None or len(matches) != 1:
        asked = "layer is None" if wanted is None else f"layer={wanted!r} names {len(matches)} layers"
        raise ValueError(f"{where}: {asked}. Pass layer=... with the name or the path of one: {names}.")
    return matches[0]


def _configs(node: Any) -> Iterator[dict[str, Any]]:
    """All objects with class and options, at any depth."""
    if isinstance(node, dict):
        if isinstance(node.get("config"), dict) and "class_name" in node:
            yield node
        for value in node.values():
            yield from _configs(value)
    elif isinstance(node, list):
        for value in node:
            yield from _configs(value)
