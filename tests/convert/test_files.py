"""Files that are damaged, cut short, of another kind or missing: one error with their name, never other values."""

import io
import pickle
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.convert import file_tools, tools
from tests.tools.peers import import_peer

SPECS = {"first": None, "row": jn.LayerNorm(epsilon=1e-3), "batch": jn.BatchNorm(momentum=0.9, epsilon=1e-3)}
TRIES = 20


@pytest.fixture
def h5py():
    return import_peer("h5py", "convert")


def bits(found):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((found.params, found.stats))]


def outcome(load, path):
    """What was read, or the message; nothing but a ValueError is allowed."""
    try:
        return bits(load(path))
    except ValueError as error:
        return str(error)


def keras_loads(with_specs):
    def load(name):
        return lambda path: convert.keras.load(path, SPECS[name] if with_specs else None, layer=name)

    return {name: load(name) for name in SPECS}


KINDS = {
    ".safetensors": lambda h5py, rng: (*file_tools.safetensors_file(rng), {"lstm": convert.torch.load}),
    ".keras": lambda h5py, rng: (file_tools.keras_file(h5py, rng), [], keras_loads(False)),
    "deflated.keras": lambda h5py, rng: (
        file_tools.keras_file(h5py, rng, zipfile.ZIP_DEFLATED),
        [],
        keras_loads(False),
    ),
    ".weights.h5": lambda h5py, rng: (*file_tools.weights_h5(h5py, rng), keras_loads(True)),
    "latest.weights.h5": lambda h5py, rng: (*file_tools.weights_h5(h5py, rng, libver="latest"), keras_loads(True)),
}


@pytest.mark.parametrize("damage", file_tools.DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_give_one_error_or_the_right_values(kind, damage, h5py, rng, tmp_path):
    import_peer("safetensors", "convert")
    data, places, loads = KINDS[kind](h5py, rng)
    path = tmp_path / f"model{kind}"
    path.write_bytes(data)
    expected = {name: bits(load(path)) for name, load in loads.items()}
    refused = 0
    for _ in range(TRIES):
        path.write_bytes(file_tools.DAMAGES[damage](data, rng, places))
        for name, load in loads.items():
            found = outcome(load, path)
            if isinstance(found, str):
                refused += 1
                assert str(path) in found, found
                assert found.startswith("convert."), found
            else:
                assert found == expected[name]
    assert refused > 0


def test_the_undamaged_file_has_the_numbers(h5py, rng, tmp_path):
    data, places = file_tools.weights_h5(h5py, rng)
    (tmp_path / "model.weights.h5").write_bytes(data)
    found = convert.keras.load(tmp_path / "model.weights.h5", SPECS["batch"], layer="batch")
    gamma, beta, mean, var = (np.frombuffer(data[place.start : place.stop], np.float32) for place in places[-4:])
    tools.same((found.params, found.stats[:2]), (jn.Affine(gamma, beta), (mean, var)))


def pickled():
    return pickle.dumps({"weight": 1}, protocol=2)


def numpy_archive():
    buffer = io.BytesIO()
    np.savez(buffer, weight=np.ones(3))
    return buffer.getvalue()


def hdf5(h5py, **attributes):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_group("model_weights" if attributes else "other")
        file.attrs.update(attributes)
    return buffer.getvalue()


FOREIGN = {
    "empty": (lambda h5py: b"", "is empty"),
    "text": (lambda h5py: b"weights\n", "it is damaged, cut short or of another kind"),
    "web page": (lambda h5py: b"<!DOCTYPE html><html></html>", "it is a page of the web"),
    "git lfs": (lambda h5py: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "pointer of Git LFS"),
    "pickle": (lambda h5py: pickled(), "it is a pickle"),
    "gzip": (lambda h5py: b"\x1f\x8b\x08" + b"\0" * 30, "it is a gzip file"),
    "zip": (lambda h5py: numpy_archive(), "it is a zip archive|has no config.json and no model.weights.h5"),
    "hdf5": (lambda h5py: hdf5(h5py), "it is an HDF5 file|layer='first' names 0 layers"),
}


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".safetensors"])
@pytest.mark.parametrize("name", FOREIGN)
def test_another_kind_under_this_name_is_named(name, suffix, h5py, tmp_path):
    import_peer("safetensors", "convert")
    make, message = FOREIGN[name]
    path = tmp_path / f"model{suffix}"
    path.write_bytes(make(h5py))
    with pytest.raises(ValueError, match=message) as caught:
        load_path(path)
    assert str(path) in str(caught.value)


def load_path(path):
    if str(path).endswith(".safetensors"):
        return convert.torch.load(path)
    return convert.keras.load(path, layer="first")


CONFIGS = {
    "no json": ("{", "cannot be read"),
    "nothing": ("null", r"has 0 layers named 'first' in its config.json"),
    "a list": ("[]", "has 0 layers named 'first'"),
    "deep": ("[" * 100_000, "cannot be read"),
    "not utf-8": (b"\xff\xfe{}", "cannot be read|has 0 layers"),
    "other units": (
        file_tools.config_json(first={"units": 7}),
        "that of LSTM with 7 units, the arrays are of 4 gates of 4",
    ),
    "without bias": (file_tools.config_json(first={"use_bias": False}), "bias not understood"),
    "other options": (file_tools.config_json(first={"recurrent_activation": "gelu"}), "'gelu' cannot be represented"),
    "options of a wrong type": (file_tools.config_json(first={"dtype": {"config": 3}}), "cannot be read"),
    "another class": (file_tools.config_json().replace('"LSTM"', '"GRU"'), "that of GRU with 4 units"),
    "an unknown class": (file_tools.config_json().replace('"LSTM"', '"Attention"'), "."),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_broken_configurations_are_named(name, h5py, rng, tmp_path):
    config, message = CONFIGS[name]
    path = tmp_path / "model.keras"
    weights, _ = file_tools.weights_h5(h5py, rng)
    path.write_bytes(file_tools.archive({"config.json": config, "model.weights.h5": weights}))
    with pytest.raises((ValueError, TypeError) if "class" in name else ValueError, match=message) as caught:
        convert.keras.load(path, layer="first")
    assert str(path) in str(caught.value)


MEMBERS = {
    "no configuration": (("config.json",), None, "has no config.json, as a .keras archive must"),
    "no weights": (("model.weights.h5",), None, "has no model.weights.h5, as a .keras archive must"),
    "foreign weights": ((), b"weights", "cannot be read"),
    "empty weights": ((), b"", "cannot be read"),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_members_of_an_archive_are_named(name, h5py, rng, tmp_path):
    without, weights, message = MEMBERS[name]
    own = file_tools.weights_h5(h5py, rng)[0] if weights is None else weights
    members = {"config.json": file_tools.config_json(), "model.weights.h5": own}
    path = tmp_path / "model.keras"
    path.write_bytes(file_tools.archive({key: data for key, data in members.items() if key not in without}))
    with pytest.raises(ValueError, match=message) as caught:
        convert.keras.load(path, layer="first")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("skip", "message"),
    [
        ("layers/lstm/cell/vars/0", r"has the variables \[1, 2\]"),
        ("layers/lstm/cell/vars/1", r"the variables \[0, 2\]"),
    ],
)
def test_groups_that_are_missing_are_named(skip, message, h5py, rng, tmp_path):
    path = tmp_path / "model.weights.h5"
    path.write_bytes(file_tools.weights_h5(h5py, rng, skip=(skip,))[0])
    with pytest.raises(ValueError, match=message):
        convert.keras.load(path, layer="first")


def test_a_bias_that_the_configuration_has_must_be_there(h5py, rng, tmp_path):
    weights = file_tools.weights_h5(h5py, rng, skip=("layers/lstm/cell/vars/2",))[0]
    path = tmp_path / "model.keras"
    path.write_bytes(file_tools.archive({"config.json": file_tools.config_json(), "model.weights.h5": weights}))
    with pytest.raises(ValueError, match="bias is missing"):
        convert.keras.load(path, layer="first")


def test_a_legacy_file_of_keras_is_told_how_to_be_saved(h5py, tmp_path):
    path = tmp_path / "model.h5"
    path.write_bytes(hdf5(h5py, model_config="{}", keras_version="2.12"))
    with pytest.raises(ValueError, match=r"legacy .h5 file.*load_model\(path\)\.save\('model\.keras'\)"):
        convert.keras.load(path, layer="lstm")


def test_numbers_in_other_files_are_not_read(h5py, tmp_path):
    path = tmp_path / "model.weights.h5"
    (tmp_path / "secret").write_bytes(np.ones(16, np.float32).tobytes())
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/lstm/vars")
        group.attrs["name"] = "first"
        group.create_dataset("0", (4, 4), np.float32, external=[(str(tmp_path / "secret"), 0, 64)])
    with pytest.raises(ValueError, match=r"has layers/lstm/vars/0 in another file"):
        convert.keras.load(path, layer="first")


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".safetensors"])
def test_files_that_are_not_there_are_named(suffix, h5py, tmp_path, monkeypatch):
    import_peer("safetensors", "convert")
    path = tmp_path / f"model{suffix}"
    with pytest.raises(FileNotFoundError, match=r"model.* does not exist; paths begin at"):
        load_path(path)
    path.mkdir()
    with pytest.raises(IsADirectoryError, match=r"model.* is a folder\. Pass the path of a file in it"):
        load_path(path)
    path.rmdir()
    path.write_bytes(b"x")

    def refuse(self, *args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError, match=r"model.* may not be read: there is no permission"):
        load_path(path)
