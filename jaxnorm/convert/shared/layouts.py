"""Converts kernels to and from the layouts of other libraries: other gate orders, concatenated, as rows or columns.

Here a kernel is (inputs, gates, H), with the gates in the order i f g o or r z n; an Elman cell has no gate axis.
These functions only move numbers, so the round trip is exact.
"""

from jaxnorm.convert.shared.arrays import Host

OURS = {1: "h", 3: "rzn", 4: "ifgo"}
"""Our order of gates, keyed by their number."""


def reorder(array: Host, order: str, *, back: bool = False) -> Host:
    """Reorders the gates, on the second-to-last axis, from the given order to ours, or ``back``."""
    ours = OURS[len(order)]
    source, target = (ours, order) if back else (order, ours)
    return array[..., [source.index(gate) for gate in target], :]


def kernel_from_columns(matrix: Host, order: str) -> Host:
    """Converts (inputs, G * H) to a kernel."""
    gates = len(order)
    if gates == 1:
        return matrix
    return reorder(matrix.reshape(matrix.shape[0], gates, -1), order)


def kernel_to_columns(kernel: Host, order: str) -> Host:
    """Converts a kernel to (inputs, G * H)."""
    if len(order) == 1:
        return kernel
    return reorder(kernel, order, back=True).reshape(kernel.shape[0], -1)


def kernel_from_rows(matrix: Host, order: str) -> Host:
    """Converts (G * H, inputs) to a kernel."""
    return kernel_from_columns(matrix.T, order)


def kernel_to_rows(kernel: Host, order: str) -> Host:
    """Converts a kernel to (G * H, inputs)."""
    return kernel_to_columns(kernel, order).T


def bias_from_vector(vector: Host, order: str) -> Host:
    """Converts (G * H,) to a bias."""
    bias: Host = kernel_from_columns(vector[None], order)[0]
    return bias


def bias_to_vector(bias: Host, order: str) -> Host:
    """Converts a bias to (G * H,)."""
    vector: Host = kernel_to_columns(bias[None], order)[0]
    return vector
