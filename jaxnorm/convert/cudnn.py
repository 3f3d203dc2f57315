"""Converts weights of ``jax.experimental.rnn``: one flat vector for all layers and directions of an LSTM, as in cuDNN.

The layout: layer by layer, forward before backward, W_ih and W_hh; then, in the same order, b_ih and b_hh.
Matrices are (4 H, inputs), gates i f g o.
"""

import math
from typing import Any

import numpy as np

from jaxnorm._base import validate
from jaxnorm.cells.lstm import LSTM
from jaxnorm.convert.shared import cells, layouts
from jaxnorm.convert.shared.arrays import Host, to_host
from jaxnorm.convert.shared.base import Imported, check_spec, refuse
from jaxnorm.engine.stacks import Directions

ORDER = "ifgo"


def load(
    weights: Any,
    spec: Any = None,
    *,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    bidirectional: bool = False,
) -> Imported:
    """Loads weights of ``jax.experimental.rnn.lstm``.

    Args:
      weights: the vector.
      spec: an ``LSTM`` for every layer and direction; None makes one.
      input_size: the number of input features.
      hidden_size: H.
      num_layers: the number of layers.
      bidirectional: whether there are two directions.

    Returns:
      Imported(spec, params), of one cell, ``Directions`` of two, or a tuple with one of these for each layer; see
      :func:`jaxnorm.convert.run`.

    Raises:
      TypeError: the vector does not have a floating-point dtype that JAX supports.
      ValueError: the length of the vector does not match the sizes.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jax.experimental import rnn
      >>> from jaxnorm import convert
      >>> sizes = dict(input_size=3, hidden_size=4, num_layers=2, bidirectional=True)
      >>> found = convert.cudnn.load(rnn.init_lstm_weight(jax.random.key(0), **sizes), **sizes)
      >>> convert.run(found.spec, found.params, jnp.ones((5, 1, 3))).outputs.shape
      (5, 1, 8)

    Notes:
      Only the sum of the two biases matters; it is the bias here. Sequences there are batch first: pass
      ``time_axis=1``.
    """
    where = "convert.cudnn.load"
    for name, value in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
        validate.positive_int(where, name, value)
    vector = to_host(where, "weights", weights)
    matrices, biases = _shapes(input_size, hidden_size, num_layers, 2 if bidirectional else 1)
    length = sum(math.prod(shape) for shape in (*matrices, *biases))
    validate.shape(where, "weights", vector.shape, (length,), "(number of weights,)", "Are the four sizes right?")
    pieces, begin = [], 0
    for shape in (*matrices, *biases):
        end = begin + math.prod(shape)
        pieces.append(vector[begin:end].reshape(shape))
        begin = end
    found = []
    for kernel, recurrent, one, other in zip(
        pieces[: len(matrices) : 2],
        pieces[1 : len(matrices) : 2],
        pieces[len(matrices) :: 2],
        pieces[len(matrices) + 1 :: 2],
        strict=True,
    ):
        parts = cells.Parts(
            layouts.kernel_from_rows(kernel, ORDER),
            layouts.kernel_from_rows(recurrent, ORDER),
            layouts.vector_from_order(one + other, ORDER),
        )
        found.append(cells.lstm(where, parts, spec))
    specs, params = (_grouped([pair[entry] for pair in found], bidirectional) for entry in (0, 1))
    return Imported(specs, params, (), ("sequences are batch first: pass time_axis=1",))


def export(spec: Any, params: Any) -> Host:
    """Exports the vector of weights for ``jax.experimental.rnn.lstm``.

    Args:
      spec: a plain ``LSTM``, ``Directions`` of two, or a tuple with one entry for each layer.
      params: the weights, in the same structure.

    Returns:
      A vector; ``b_ih`` holds the sum of both biases, ``b_hh`` zeros.

    Raises:
      ValueError: the cells are not plain LSTMs of one size.

    Example:
      >>> import jax, jaxnorm
      >>> from jaxnorm import convert
      >>> cell = jaxnorm.lstm(4)
      >>> convert.cudnn.export(cell, cell.init(jax.random.key(0), 3)).shape
      (144,)
    """
    where = "convert.cudnn.export"
    check_spec(where, spec)
    layers = spec if isinstance(spec, tuple) and not isinstance(spec, Directions) else (spec,)
    weights = params if layers is spec else (params,)
    flat: list[tuple[Any, Any]] = []
    for layer, own in zip(layers, weights, strict=True):
        flat += zip(layer, own, strict=True) if isinstance(layer, Directions) else [(layer, own)]
    kinds = {getattr(cell, "hidden_features", 0) if isinstance(cell, LSTM) else 0 for cell, _ in flat}
    if kinds == {0} or len(kinds) > 1 or len({isinstance(layer, Directions) for layer in layers}) > 1:
        refuse(where, f"{spec!r}", "the layers there are plain LSTMs of one size, all in one or all in two directions.")
    matrices, biases = [], []
    for cell, own in flat:
        parts = cells.parts_of(where, cell, own)
        matrices += [layouts.kernel_to_rows(parts.kernel, ORDER), layouts.kernel_to_rows(parts.recurrent, ORDER)]
        bias = layouts.vector_to_order(cells.zeros_for_none(parts.bias, parts.kernel), ORDER)
        biases += [bias, np.zeros_like(bias)]
    return np.concatenate([piece.ravel() for piece in (*matrices, *biases)])


def _shapes(
    inputs: int, hidden: int, layers: int, directions: int
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    matrices: list[tuple[int, ...]] = []
    for layer in range(layers):
        size = inputs if layer == 0 else directions * hidden
        matrices += [(4 * hidden, size), (4 * hidden, hidden)] * directions
    return matrices, [(4 * hidden,)] * (2 * layers * directions)


def _grouped(entries: list[Any], bidirectional: bool) -> Any:
    """Returns a bare entry, a pair of directions, or a tuple of layers."""
    if bidirectional:
        entries = [Directions(*entries[k : k + 2]) for k in range(0, len(entries), 2)]
    return entries[0] if len(entries) == 1 else tuple(entries)
