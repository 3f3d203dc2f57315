"""The text: where it comes from, how it is split, and how characters become numbers."""

import gzip
import hashlib
import lzma
import zlib
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .errors import BadInput

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
"""The symbol that stands for every character which the training text does not have."""


class Text(NamedTuple):
    """A text in its parts; ``test`` is empty where there is none."""

    source: str
    train: str
    valid: str
    test: str

    @property
    def title(self) -> str:
        """The source without its folders."""
        return Path(self.source).name

    @property
    def sha256(self) -> str:
        return hashlib.sha256("".join(self[1:]).encode()).hexdigest()

    @property
    def vocabulary(self) -> list[str]:
        """The characters of the training part alone, and UNKNOWN."""
        return sorted({*self.train, UNKNOWN})

    def describe(self) -> str:
        parts = {"train": self.train, "held out": self.valid, "test": self.test}
        sizes = ", ".join(f"{name} {len(part):,}" for name, part in parts.items() if part)
        known = set(self.vocabulary)
        unknown = sum(character not in known for character in self.valid + self.test)
        note = f"\n{unknown} held-out characters do not occur in training and count as unknown" if unknown else ""
        everything = "".join(self[1:])
        return (
            f"text: {self.source}\n{len(everything):,} characters, {len(known) - 1} different, "
            f"{len(everything.encode()):,} bytes\n{sizes}\nsha256 {self.sha256}{note}"
        )


def load(path: str | None, held_out: float, limit: int | None = None, *, words: bool = False) -> Text:
    """Reads a file, a folder with parts, or (without a path) the language reference that CPython carries.

    Of a text in one piece the last share ``held_out`` is kept from training; ``limit`` cuts every part down.
    Lists of words are laid out for models of characters, unless ``words`` are wanted.
    """
    if path is None:
        from pydoc_data.topics import topics

        return _split("Python language reference (pydoc_data.topics)", "".join(topics[name] for name in sorted(topics)),
                      held_out, limit)  # fmt: skip
    place = Path(path)
    if not place.exists():
        raise BadInput(f"--data {path}: there is no such file or folder. Check the path.")
    if place.is_dir():
        return _folder(place, limit, words)
    return _split(str(place), _read(place), held_out, limit)


def encode(text: str, vocabulary: list[str]) -> np.ndarray:
    """Characters as indices into the vocabulary."""
    index = {character: k for k, character in enumerate(vocabulary)}
    return np.fromiter((index.get(character, index[UNKNOWN]) for character in text), np.int32, len(text))


def in_windows(ids: np.ndarray, window: int, batch: int) -> tuple[jax.Array, jax.Array]:
    """Lays a text side by side in streams, cut into windows (N, T, B): inputs, and targets (-1 where there is none)."""
    streams = min(batch, max(1, (len(ids) - 1) // window))
    length = (len(ids) - 1) // streams
    padding = ((0, 0), (0, -length % window))

    def lay(shifted: np.ndarray, fill: int) -> jax.Array:
        rows = np.pad(shifted[: streams * length].reshape(streams, length), padding, constant_values=fill)
        return jnp.asarray(rows.T.reshape(-1, window, streams))

    return lay(ids[:-1], 0), lay(ids[1:], -1)


def _split(source: str, text: str, held_out: float, limit: int | None) -> Text:
    text = text[:limit]
    border = len(text) - round(len(text) * held_out)
    return Text(source, text[:border], text[border:], "")


def _folder(folder: Path, limit: int | None, words: bool) -> Text:
    files = sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    parts = {}
    for part, word in (("train", "train"), ("valid", "val"), ("test", "test")):
        found = [file for file in files if word in file.name.lower()]
        if len(found) > 1 or (not found and part != "test"):
            names = ", ".join(file.name for file in found) or "no file"
            raise BadInput(f"--data {folder}: {names} with {part!r} in the name. Keep exactly one file for each part.")
        parts[part] = _read(found[0]) if found else ""
    source = str(folder)
    if not words and all(map(_is_word_list, filter(None, parts.values()))):
        parts = {name: _words_to_characters(part) for name, part in parts.items()}
        source += " (lines of words: spaces between words became _)"
    return Text(source, *(parts[name][:limit] for name in ("train", "valid", "test")))


def _is_word_list(text: str) -> bool:
    """Whether every line is words between spaces, with a space at both ends: the Penn Treebank files."""
    return all(line.startswith(" ") and line.endswith(" ") for line in text.rstrip("\n").split("\n"))


def _words_to_characters(text: str) -> str:
    """The character form of the Penn Treebank: ``_`` for the spaces between words, one sentence a line."""
    lines = text.removesuffix("\n").split("\n") if text else []
    return "".join(line.strip(" ").replace(" ", "_") + "\n" for line in lines)


def _read(file: Path) -> str:
    openers = {".gz": gzip.open, ".xz": lzma.open}
    try:
        with openers.get(file.suffix, open)(file, "rb") as stream:
            text = stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"--data {file}: not UTF-8 (byte {error.start}). Convert it, for example with iconv -t UTF-8."
        ) from error
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        raise BadInput(f"--data {file}: damaged {file.suffix} file ({error}). Make or fetch it anew.") from error
    except OSError as error:
        raise BadInput(f"--data {file}: cannot be read ({error.strerror}). Check the permissions.") from error
    if not text:
        raise BadInput(f"--data {file}: the file is empty. Give a file with text.")
    return text
