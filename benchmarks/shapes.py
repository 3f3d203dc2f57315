"""The shapes at which everything is measured, by name."""

from typing import NamedTuple


class Shape(NamedTuple):
    """The size of a recurrent layer and of its input."""

    batch: int
    steps: int
    inputs: int
    hidden: int


def name_of(shape: tuple[int, ...]) -> str:
    """For example "4x784x1x128"."""
    return "x".join(map(str, shape))


TINY = "tiny"
"""The name of the shapes that tests use, in every group; they say nothing about speed."""


def _named(*shapes: Shape) -> dict[str, Shape]:
    return {name_of(shape): shape for shape in shapes}


CPU_SHAPES = _named(
    Shape(4, 784, 1, 128),  # pixels of a digit one by one
    Shape(32, 128, 128, 128),
    Shape(32, 128, 256, 256),
    Shape(64, 100, 512, 512),
    Shape(128, 35, 650, 650),  # a word-level language model
    Shape(1, 4096, 64, 256),  # one long stream
)
GPU_SHAPES = CPU_SHAPES | _named(Shape(64, 512, 512, 512))
SHAPES = GPU_SHAPES | {TINY: Shape(2, 5, 3, 4)}

BFLOAT16_SHAPES = (name_of((32, 128, 256, 256)), name_of((64, 512, 512, 512)))
"""Where cells are measured in bfloat16 too, unless dtypes are asked for."""

PRESET_SHAPE = name_of((32, 128, 128, 128))
"""Where the cells and presets of ours are compared with each other."""

NORM_SHAPES: dict[str, tuple[int, ...]] = {
    "4096x1024": (4096, 1024),
    "32x56x56x64": (32, 56, 56, 64),
    TINY: (4, 3, 2, 8),
}
"""Data for the normalizers alone, features last."""

SERIES: dict[str, list[Shape]] = {
    "growing-steps": [Shape(4, steps, 128, 128) for steps in (128, 512, 2048, 8192, 16384)],
    "growing-batch": [Shape(batch, 64, 128, 128) for batch in (1, 4, 16, 64, 256)],
    "growing-hidden": [Shape(16, 64, hidden, hidden) for hidden in (64, 128, 256, 512, 1024)],
    TINY: [Shape(2, steps, 3, 4) for steps in (5, 10)],
}
"""In each one size grows and the others stay."""
