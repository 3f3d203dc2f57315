"""Opening files of a data folder, with one clear line where they are missing or damaged."""

import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path

from experiments.harness.errors import BadInput


def find(folder: Path, name: str) -> Path:
    """A file below the data folder."""
    file = folder / name
    if not file.is_file():
        raise BadInput(
            f"--data {folder}: there is no file {name}. Give the folder that holds {name.partition('/')[0]}/."
        )
    return file


def read(folder: Path, name: str) -> bytes:
    """The bytes of a file, unpacked where its name ends in .gz or .xz."""
    file = find(folder, name)
    unpack: Callable[[bytes], bytes] = {".gz": gzip.decompress, ".xz": lzma.decompress}.get(file.suffix, bytes)
    try:
        return unpack(file.read_bytes())
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        raise BadInput(f"--data {folder}: {name} is damaged ({error}). Fetch it anew.") from error
    except OSError as error:
        raise BadInput(f"--data {folder}: {name} cannot be read ({error.strerror}). Check its permissions.") from error


def lines(folder: Path, name: str, encoding: str = "utf-8") -> list[str]:
    """The lines of a text; only a line feed ends one, unlike in ``str.splitlines``."""
    return read(folder, name).decode(encoding).removesuffix("\n").split("\n")
