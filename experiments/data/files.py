"""Opening files of a data folder, with one clear line where they are missing or damaged."""

import gzip
import lzma
import zlib
from pathlib import Path

from experiments.harness.errors import BadInput


def find(folder: Path, name: str) -> Path:
    """A file below the data folder."""
    file = folder / name
    if not file.is_file():
        raise BadInput(f"--data {folder}: there is no file {name}. Give the folder that holds {name.partition('/')[0]}/.")
    return file


def read(folder: Path, name: str) -> bytes:
    """The bytes of a file, unpacked where its name ends in .gz or .xz."""
    file = find(folder, name)
    openers = {".gz": gzip.open, ".xz": lzma.open}
    try:
        with openers.get(file.suffix, open)(file, "rb") as stream:
            content: bytes = stream.read()
            return content
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        raise BadInput(f"--data {folder}: {name} is damaged ({error}). Fetch it anew.") from error
    except OSError as error:
        raise BadInput(f"--data {folder}: {name} cannot be read ({error.strerror}). Check its permissions.") from error
