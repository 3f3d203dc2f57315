"""Files as other libraries write them, small ones with random numbers, and ways to damage them."""

import io
import json
import zipfile

import numpy as np

INPUTS, HIDDEN = 3, 4
LAYERS = {
    "first": ("layers/lstm", "LSTM", {"units": HIDDEN, "use_bias": True, "activation": "tanh"}),
    "row": ("layers/layer_normalization", "LayerNormalization", {"axis": -1, "epsilon": 1e-3}),
    "batch": ("layers/batch_normalization", "BatchNormalization", {"axis": -1, "epsilon": 1e-3, "momentum": 0.9}),
}
SHAPES = {
    "layers/lstm/cell": ((INPUTS, 4 * HIDDEN), (HIDDEN, 4 * HIDDEN), (4 * HIDDEN,)),
    "layers/layer_normalization": ((HIDDEN,),) * 2,
    "layers/batch_normalization": ((HIDDEN,),) * 4,
}


def weights_h5(h5py, rng, skip=(), **options):
    """The bytes of a ``.weights.h5`` file, and the places of its numbers."""
    buffer, places = io.BytesIO(), []
    with h5py.File(buffer, "w", **options) as file:
        for name, (path, kind, _) in LAYERS.items():
            file.create_group(f"{path}/vars").attrs["name"] = name
            if kind == "LSTM":
                file.create_group(f"{path}/cell/vars").attrs["name"] = "lstm_cell"
        for path, shapes in SHAPES.items():
            for number, shape in enumerate(shapes):
                data = np.abs(rng.standard_normal(shape)).astype(np.float32)
                if f"{path}/vars/{number}" not in skip:
                    file[f"{path}/vars"].create_dataset(str(number), data=data)
        file.flush()
        for path, shapes in SHAPES.items():
            for number, _ in enumerate(shapes):
                if f"{path}/vars/{number}" not in skip:
                    item = file[f"{path}/vars/{number}"]
                    places.append(range(item.id.get_offset(), item.id.get_offset() + item.nbytes))
    return buffer.getvalue(), places


def config_json(**changes):
    layers = [
        {"class_name": kind, "config": {"name": name} | options | changes.get(name, {})}
        for name, (_, kind, options) in LAYERS.items()
    ]
    return json.dumps({"class_name": "Sequential", "config": {"name": "model", "layers": layers}})


def archive(members, compression=zipfile.ZIP_STORED):
    """The bytes of a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def keras_file(h5py, rng, compression=zipfile.ZIP_STORED):
    members = {"metadata.json": "{}", "config.json": config_json(), "model.weights.h5": weights_h5(h5py, rng)[0]}
    return archive(members, compression)


def safetensors_file(rng):
    """The bytes of a safetensors file with an LSTM, and the places of its numbers."""
    shapes = {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4), "bias_ih_l0": (16,), "bias_hh_l0": (16,)}
    header, body = {}, b""
    for name, shape in shapes.items():
        data = rng.standard_normal(shape).astype(np.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body, [range(8 + len(text), 8 + len(text) + len(body))]


def flip(data, rng, places):
    at = _place(len(data), rng, places)
    return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]


def foreign(data, rng, places):
    at, many = _place(len(data), rng, places), int(rng.integers(1, 24))
    end = next((place.start for place in places if at < place.start < at + many), at + many)
    return data[:at] + rng.bytes(min(end, len(data)) - at) + data[min(end, len(data)) :]


def cut(data, rng, places):
    return data[: int(rng.integers(len(data)))]


def take_out(data, rng, places):
    at = int(rng.integers(len(data)))
    return data[:at] + data[at + int(rng.integers(1, 40)) :]


def put_in(data, rng, places):
    at = int(rng.integers(len(data)))
    return data[:at] + rng.bytes(int(rng.integers(1, 40))) + data[at:]


DAMAGES = {"flip": flip, "foreign": foreign, "cut": cut, "take out": take_out, "put in": put_in}


def _place(size, rng, places):
    """A place outside of the numbers: no format without checksums can tell a number from another."""
    at = int(rng.integers(size))
    while any(at in place for place in places):
        at = int(rng.integers(size))
    return at
