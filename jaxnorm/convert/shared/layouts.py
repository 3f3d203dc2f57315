"""Kernels in the layouts of other libraries: gates in another order, side by side, as rows or as columns.

Here a kernel is (inputs, gates, H), with the gates in the order i f g o or r z n; an Elman cell has no gate axis.
Every function moves numbers and computes nothing, so that going there and back again is exact.
"""

from jaxnorm.convert.shared.arrays import Host

OURS = {1: "h", 3: "rzn", 4: "ifgo"}
"""The order of gates here, by their number."""


def reorder(array: Host, order: str, *, back: bool = False) -> Host:
    """Gates on the last axis but one, from the given order into ours, or ``back`` from ours into the given one."""
    ours = OURS[len(order)]
    source, target = (ours, order) if back else (order, ours)
    return array[..., [source.index(gate) for gate in target], :]


def kernel_from_columns(matrix: Host, order: str) -> Host:
    """(inputs, G * H) to a kernel."""
    gates = len(order)
    if gates == 1:
        return matrix
    return reorder(matrix.reshape(matrix.shape[0], gates, -1), order)


def kernel_to_columns(kernel: Host, order: str) -> Host:
    """A kernel to (inputs, G * H)."""
    if len(order) == 1:
        return kernel
    return reorder(kernel, order, back=True).reshape(kernel.shape[0], -1)


def kernel_from_rows(matrix: Host, order: str) -> Host:
    """(G * H, inputs) to a kernel."""
    return kernel_from_columns(matrix.T, order)


def kernel_to_rows(kernel: Host, order: str) -> Host:
    """A kernel to (G * H, inputs)."""
    return kernel_to_columns(kernel, order).T


def bias_from_vector(vector: Host, order: str) -> Host:
    """(G * H,) to a bias."""
    bias: Host = kernel_from_columns(vector[None], order)[0]
    return bias


def bias_to_vector(bias: Host, order: str) -> Host:
    """A bias to (G * H,)."""
    vector: Host = kernel_to_columns(bias[None], order)[0]
    return vector
