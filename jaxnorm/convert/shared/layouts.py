"""Converts kernels to and from the layouts of other libraries: other gate orders, concatenated, as rows or columns.

Here a kernel is (inputs, gates, H) and a vector (gates * H,), with the gates in the order i f g o, r z n or f n; the
kernel of an Elman cell has no gate axis.
These functions only move numbers, so the round trip is exact.
"""

from jaxnorm.convert.shared.arrays import Host

OURS = {1: "h", 2: "fn", 3: "rzn", 4: "ifgo"}
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


def vector_from_order(vector: Host, order: str) -> Host:
    """Reorders the gates of (G * H,) from the given order to ours."""
    return vector if len(order) == 1 else reorder(vector.reshape(len(order), -1), order).ravel()


def vector_to_order(vector: Host, order: str) -> Host:
    """Reorders the gates of (G * H,) from our order to the given one."""
    return vector if len(order) == 1 else reorder(vector.reshape(len(order), -1), order, back=True).ravel()
