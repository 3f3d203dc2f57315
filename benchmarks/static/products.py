"""Multiplications that the matrix products of a program make."""

import math
import re

from benchmarks.static.compiled_text import Computation, Instruction, Module


def multiplications(module: Module, within: Computation, instruction: Instruction) -> int:
    """Those of one execution of an instruction, of a fusion those inside of it."""
    if instruction.op == "fusion":
        inner = module.computations[instruction.called[0]]
        return sum(multiplications(module, inner, each) for each in inner)
    if instruction.op == "dot":
        return _dot(within, instruction)
    if instruction.op == "convolution":
        return _convolution(within, instruction)
    return 0


def _dot(within: Computation, dot: Instruction) -> int:
    left = within.by_name[dot.operands[0]].arrays[0]
    contracted = dot.attribute(r"lhs_contracting_dims=\{([\d,]*)\}") or ""
    return dot.arrays[0].size * math.prod(left.shape[int(axis)] for axis in contracted.split(",") if axis)


def _convolution(within: Computation, convolution: Instruction) -> int:
    """On TPUs every matrix product is one: batch, features and positions are laid out by ``dim_labels``."""
    left, right = (within.by_name[name].arrays[0] for name in convolution.operands[:2])
    labels = convolution.attribute(r"dim_labels=(\w+->\w+)") or ""
    of_left, of_right, of_result = re.split("_|->", labels)
    sizes = dict(zip(of_right, right.shape, strict=True))
    of_inputs = dict(zip(of_left, left.shape, strict=True))
    of_outputs = dict(zip(of_result, convolution.arrays[0].shape, strict=True))
    window = convolution.attribute(r"window=\{([^}]*)\}") or ""
    positions = [label for label in of_left if label.isdigit()]
    pairs = 1
    for place, label in enumerate(sorted(positions)):
        pairs *= _pairs(window, place, of_inputs[label], sizes[label], of_outputs[label])
    made: int = of_outputs["b"] * of_outputs["f"] * sizes["i"] * pairs
    return made


def _pairs(window: str, place: int, inputs: int, kernel: int, outputs: int) -> int:
    """Pairs of an output and a kernel position that meet an input, and no padding, along one axis."""

    def setting(name: str, default: str) -> str:
        found = re.search(rf"\b{name}=([\w\-]+)", window)
        return found[1].split("x")[place] if found else default

    stride, left, right = (int(setting(name, "1")) for name in ("stride", "lhs_dilate", "rhs_dilate"))
    before = int(setting("pad", "0_0").split("_")[0])
    extent = (inputs - 1) * left + 1
    meets = (out * stride - before + tap * right for out in range(outputs) for tap in range(kernel))
    return sum(0 <= at < extent and at % left == 0 for at in meets)
