"""Files of other libraries: opens them, reports unreadable ones, and reads safetensors.

A damaged or truncated file, or a file of another kind, raises one ValueError with the file's name. It includes the
message of whatever error another library's reader raises.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jaxnorm.convert.shared.arrays import Host, listed

DTYPES: dict[str, Any] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "U8": np.dtype("u1"), "BOOL": np.dtype("?"),
}  # fmt: skip
"""The names that safetensors files give to the dtypes we support."""

BEGINNINGS = {
    b"PK\x03\x04": "a zip archive, as .keras, .pt and .npz files are",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as .weights.h5 files are",
    b"\x80": "a pickle, as old .pt files are",
    b"\x93NUMPY": "a .npy file",
    b"\x1f\x8b": "a gzip file",
    b"version https://git-lfs": "a pointer of Git LFS: get the file itself by git lfs pull",
    b"<": "a page of the web, so a download went wrong",
}
"""The first bytes of other kinds of files."""


def is_path(source: Any) -> bool:
    """Whether a source is the path of a file."""
    return isinstance(source, str | os.PathLike)


def caller(caller: str, source: Any) -> str:
    """Returns the prefix of messages, including the file if there is one."""
    return f"{caller}: {os.fspath(source)!r}" if is_path(source) else caller


def check_file(caller: str, path: str | os.PathLike[str]) -> None:
    """Raises the fitting OSError unless the path is a readable file; ValueError if the file is empty."""
    place = Path(path)
    if place.is_dir():
        raise IsADirectoryError(f"{caller} is a folder. Pass the path of a file in it.")
    if not place.exists():
        raise FileNotFoundError(f"{caller} does not exist; paths begin at {os.getcwd()!r}.")
    try:
        with place.open("rb") as file:
            beginning = file.read(1)
    except PermissionError:
        raise PermissionError(f"{caller} may not be read: there is no permission. Change it by chmod.") from None
    if not beginning:
        raise ValueError(f"{caller} is empty. Save or download it again.")


@contextlib.contextmanager
def reading(caller: str, path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """Converts any error of a reader into the common error for files, except errors that begin with our caller."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        if str(error).startswith(caller):
            raise
        with contextlib.suppress(OSError), Path(path).open("rb") as file:
            head = file.read(64)
        own = next((begin for begin, text in BEGINNINGS.items() if kind in text), b"")
        other = next((text for begin, text in BEGINNINGS.items() if head.startswith(begin) and begin != own), None)
        what = f"it is {other}" if other else "it is damaged, cut short or of another kind"
        raise ValueError(
            f"{caller} cannot be read as a {kind} file: {what} ({type(error).__name__}: {_first_line(error)}). Save or "
            "download it again."
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [""]
    return lines[0][:120]


def read_safetensors(caller: str, path: str | os.PathLike[str], prefix: str) -> dict[str, Host]:
    """Reads the arrays of a safetensors file with names that begin with ``prefix``."""
    if not os.fspath(path).endswith(".safetensors"):
        raise ValueError(
            f"{caller} is no .safetensors file. Of other files pass the state dict, such as "
            "torch.load(path, weights_only=True) gives."
        )
    try:
        from safetensors import deserialize
    except ImportError:
        raise ImportError(
            f"{caller}: a .safetensors file is read by the package safetensors: pip install safetensors."
        ) from None
    read: Any = deserialize  # its types depend on the release
    check_file(caller, path)
    with reading(caller, path, ".safetensors"):
        entries = dict(read(Path(path).read_bytes()))
        chosen = {name: entry for name, entry in entries.items() if name.startswith(prefix)}
        unknown = {name: entry["dtype"] for name, entry in chosen.items() if entry["dtype"] not in DTYPES}
        if unknown:
            raise TypeError(f"{caller} has arrays in dtypes that cannot be converted: {unknown}.")
        if not chosen:
            raise ValueError(f"{caller} has no array that begins with prefix={prefix!r}; there are {listed(entries)}.")
        return {
            name: np.frombuffer(entry["data"], DTYPES[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in chosen.items()
        }
