"""Programs that leave the process: training step and inference for CPU, TPU and CUDA, with weights, in one file."""

import errno
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from char_lm_support.errors import BadInput
from jax import export

from .corpus import Corpus
from .model import LanguageModel, State

PLATFORMS = ("cpu", "tpu", "cuda")


class Programs(NamedTuple):
    """What a file holds. States are flat lists of arrays, so that nobody needs the classes that they came from."""

    train_step: export.Exported
    """(state, windows (B, T + 1)) -> (state, bits, norm of the gradient)."""
    inference: export.Exported
    """(weights, carry, ids (T, B)) -> (logits (T, B, V), carry), for any T and B."""
    state: list[jax.Array]
    weights: list[jax.Array]
    carry: list[jax.Array]
    """The state of one row before its first step, without the axis of rows."""
    symbols: list[str]


def check_place(path: str) -> None:
    """Refuses a place to which :func:`write` could not write."""
    with _place(path) as temporary:
        temporary.touch()


def write(path: str, model: LanguageModel, text: Corpus, state: State) -> None:
    """Writes the programs of a model, and the state of its run: the whole file or none."""
    leaves, tree = jax.tree.flatten(state)
    given, given_tree = jax.tree.flatten((state.params, state.stats))
    carry, carry_tree = jax.tree.flatten(jax.device_get(model.initial_carry(())))

    def train_step(leaves: list[jax.Array], ids: jax.Array) -> tuple[list[jax.Array], jax.Array, jax.Array]:
        state, metrics = model.train_step(jax.tree.unflatten(tree, leaves), ids)
        return jax.tree.leaves(state), metrics.bits, metrics.gradient_norm

    def inference(given: list[jax.Array], carry: list[jax.Array], ids: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        params, stats = jax.tree.unflatten(given_tree, given)
        logits, out = model.read(params, ids, jax.tree.unflatten(carry_tree, carry), stats)
        return logits, jax.tree.leaves(out.carry)

    rows, steps = export.symbolic_shape("b, t")
    any_carry = [jax.ShapeDtypeStruct((rows, *leaf.shape), leaf.dtype) for leaf in carry]
    windows = jax.ShapeDtypeStruct((model.batch, model.window + 1), jnp.int32)
    ids = jax.ShapeDtypeStruct((steps, rows), jnp.int32)
    content = {
        "train_step.bin": _export(train_step, _shapes(leaves), windows),
        "inference.bin": _export(inference, _shapes(given), any_carry, ids),
        "state.npz": _arrays(leaves),
        "weights.npz": _arrays(given),
        "carry.npz": _arrays(carry),
        "symbols.json": json.dumps(text.symbols).encode(),
    }
    with _place(path) as temporary:
        with zipfile.ZipFile(temporary, "w") as file:
            for name, data in content.items():
                file.writestr(name, data)
        os.replace(temporary, path)


def read(path: str | Path) -> Programs:
    """Reads a file that :func:`write` wrote."""
    with zipfile.ZipFile(path) as file:
        train_step, inference = (
            export.deserialize(bytearray(file.read(f"{name}.bin"))) for name in Programs._fields[:2]
        )
        arrays = []
        for name in ("state", "weights", "carry"):
            with np.load(BytesIO(file.read(f"{name}.npz"))) as found:
                arrays.append([jnp.asarray(found[str(k)]) for k in range(len(found.files))])
        return Programs(train_step, inference, *arrays, json.loads(file.read("symbols.json")))


@contextmanager
def _place(path: str) -> Iterator[Path]:
    """A file beside a path, which is gone afterwards."""
    temporary = Path(f"{path}.tmp")
    try:
        if Path(path).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(
            f"--export {path}: cannot be written ({error.strerror}). Give the same command with another file."
        ) from error


def _export(function: Any, *shapes: Any) -> bytes:
    return bytes(export.export(jax.jit(function), platforms=PLATFORMS)(*shapes).serialize())


def _shapes(leaves: list[Any]) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]


def _arrays(leaves: list[Any]) -> bytes:
    written = BytesIO()
    np.savez(written, **{str(k): np.asarray(leaf) for k, leaf in enumerate(leaves)})
    return written.getvalue()
