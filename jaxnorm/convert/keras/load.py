"""The entrances of the converter of Keras: one layer, or a whole model."""

import os
from collections.abc import Mapping
from typing import Any

from jaxnorm._base import objects
from jaxnorm.convert.keras import source as sources
from jaxnorm.convert.keras.files import CONFIG
from jaxnorm.convert.keras.layer import KerasLayer, load_layer
from jaxnorm.convert.keras.model import read_model
from jaxnorm.convert.shared.files import caller, is_path, reading
from jaxnorm.convert.shared.model import ImportedModel


def load(source: Any, spec: Any = None, *, layer: str | None = None) -> Any:
    """Loads weights of a recurrent layer or a normalizer of Keras.

    Args:
      source: a live, built layer (``LSTM``, ``GRU``, ``SimpleRNN``, their cells, ``Bidirectional`` around them,
        ``RNN`` around cells, ``ConvLSTM1D``, ``ConvLSTM2D``, ``ConvLSTM3D``, ``LayerNormalization``,
        ``RMSNormalization``, ``GroupNormalization``,
        ``BatchNormalization``, which with ``renorm=True`` is :class:`jaxnorm.zoo.BatchRenorm`, ``UnitNormalization``);
        a model, whose layers all come as by :func:`load_model`; the path of a ``.keras`` or ``.weights.h5`` file; or
        arrays by name (``kernel, recurrent_kernel, bias``, below ``forward_layer/`` and ``backward_layer/`` for two
        directions; ``gamma, beta, moving_mean, moving_variance``; ``scale``).
      spec: options that the source lacks. A ``.keras`` file and a live layer have all of them; for other sources, pass
        the spec of a normalizer, for ``SimpleRNN`` an ``Elman`` with its ``activation_fn``, and the cell for an LSTM or
        GRU with other functions than the logistic one and tanh. Only a live layer tells the shape of an image: for
        other sources of a convolutional LSTM pass a ``ConvLSTM``.
      layer: the name of the layer in a model or a file, or its path there. It may be left out where only one layer of a
        file fits: the only recurrent one, or the only one that has the arrays of the normalizer that ``spec`` is.

    Returns:
      Imported(spec, params, stats, notes), with ``Directions`` for ``Bidirectional`` and tuples for an ``RNN`` around
      several cells; :class:`ImportedModel` for a model.

    Raises:
      TypeError: an array does not have a floating-point dtype that JAX supports.
      ValueError: several layers fit; or an array is missing, unknown or has another shape, or something has no
        counterpart; or a file is damaged, truncated, of another kind or a legacy ``.h5``.
      OSError: there is no such file, it is a folder, or it is not readable.

    Example:
      >>> import numpy as np, jaxnorm
      >>> from jaxnorm import convert
      >>> found = convert.keras.load({"gamma": np.ones(4, "f")}, jaxnorm.LayerNorm(epsilon=1e-3, use_bias=False))
      >>> found.params.scale.tolist()
      [1.0, 1.0, 1.0, 1.0]

    Notes:
      Sequences are batch first in Keras: pass ``time_axis=1``. Keras does not count the data in its running
      statistics; we set their count to 1.
    """
    where = caller("convert.keras.load", source)
    if isinstance(source, Mapping):
        _refuse_layer(where, layer)
        return load_layer(where, KerasLayer(None, {}, dict(source)), spec)
    if is_path(source):
        with reading(where, source, _kind(source)):
            return _load_chosen(where, sources.entries(where, source), spec, layer)
    _check_live(where, source)
    if sources.is_known(source) or not sources.children(source):
        _refuse_layer(where, layer)
        return load_layer(where, sources.live(source), spec)
    found = sources.entries(where, source)
    return read_model(where, found, spec) if layer is None else _load_chosen(where, found, spec, layer)


def load_model(source: Any, specs: Mapping[str, Any] | None = None) -> ImportedModel:
    """Loads a whole model of Keras: all layers by name, those of a model inside of it as ``"inner/name"``.

    Recurrent layers and normalizers come as :func:`load` gives them. All other layers come as dicts of their arrays
    with Keras' names and shapes: the kernel of a ``Dense`` is (I, O), of a convolution (*window, I / groups, O), the
    embeddings of an ``Embedding`` (N, F).

    Args:
      source: a live, built model of any class, or the path of a ``.keras`` or ``.weights.h5`` file.
      specs: specs of jaxnorm by the name of a layer. A ``.weights.h5`` file does not tell normalizers apart, nor the
        nonlinearity of a ``SimpleRNN``; those without a spec come as their arrays. Other sources need none.

    Returns:
      ImportedModel(layers, kinds, tied, notes), a dict of layers.

    Raises:
      TypeError: an array does not have a dtype that JAX supports.
      ValueError: an array of a layer is missing or has another shape, specs has a name without a layer, or a file is
        damaged, truncated, of another kind or a legacy ``.h5``.
      OSError: there is no such file, it is a folder, or it is not readable.

    Example:
      >>> import keras  # doctest: +SKIP
      >>> from jaxnorm import convert
      >>> rnn, head = keras.layers.GRU(4, name="rnn"), keras.layers.Dense(2, name="head")  # doctest: +SKIP
      >>> model = keras.Sequential([keras.Input((5, 3)), rnn, head])  # doctest: +SKIP
      >>> model = convert.keras.load_model(model)  # doctest: +SKIP
      >>> model["rnn"].spec.hidden_features, model["head"]["kernel"].shape  # doctest: +SKIP
      (4, (4, 2))

    Notes:
      Files number the arrays of layers of other classes than those of Keras: there they are ``"variable 0"`` and so on;
      so are those of all layers without a counterpart in a ``.weights.h5`` file.
    """
    where = caller("convert.keras.load_model", source)
    if is_path(source):
        with reading(where, source, _kind(source)):
            return read_model(where, sources.entries(where, source), specs)
    _check_live(where, source)
    return read_model(where, sources.entries(where, source), specs)


def _load_chosen(caller: str, found: list[sources.Entry], spec: Any, wanted: str | None) -> Any:
    entry, notes = sources.choose(caller, found, wanted, spec)
    if entry.matches != 1 and caller.endswith(".keras'"):
        raise ValueError(
            f"{caller} has {entry.matches} layers named {entry.place.rpartition('/')[2]!r} in its {CONFIG}, and arrays "
            "of one. Give the layers of the model names of their own and save it again; of a model of a class of your "
            "own save the weights "
            "(model.save_weights('model.weights.h5'))."
        )
    made = load_layer(caller, entry.named(caller, spec), spec)
    return made._replace(notes=(*made.notes, *notes))


def _kind(path: Any) -> str:
    return ".keras" if os.fspath(path).endswith(".keras") else ".weights.h5"


def _refuse_layer(caller: str, layer: str | None) -> None:
    if layer is not None:
        raise ValueError(f"{caller}: layer={layer!r} chooses a layer of a model or a file; this is one. Leave it out.")


def _check_live(caller: str, source: Any) -> None:
    if isinstance(source, type) or not (hasattr(source, "get_config") and hasattr(source, "weights")):
        raise TypeError(
            f"{caller}: source must be a built layer, arrays by name or a path, got {objects.describe(source)}."
        )
