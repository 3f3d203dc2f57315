"""Programs of PyTorch: its plain layers, and normalized cells as a loop over its Linear, LayerNorm and batch_norm."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import torch
from torch import nn

from benchmarks.programs.base import (
    EPSILON,
    MOMENTUM,
    TIME_MAJOR,
    Prepared,
    cell_data,
    features_last,
    features_second,
    group_count,
    norm_data,
)
from benchmarks.programs.equations import SCALE_OF_BN
from benchmarks.shapes import Shape

DEVICE = torch.device("cpu" if jax.default_backend() == "cpu" else "cuda")
if DEVICE.type == "cuda" and not torch.cuda.is_available():
    raise ImportError("JAX runs on an accelerator that this torch cannot use")


@dataclasses.dataclass(frozen=True)
class TorchProgram:
    """A module with its data; ``params`` are the module's own tensors."""

    module: nn.Module
    xs: torch.Tensor
    cotangent: torch.Tensor
    order: tuple[int, ...]

    @property
    def params(self) -> dict[str, torch.Tensor]:
        """The parameters by name."""
        return dict(self.module.named_parameters())

    def prepare(self, direction: str) -> Prepared:
        """There is nothing to compile."""
        return Prepared({"forward": self._forward, "gradient": self._gradient}[direction])

    def _forward(self) -> Any:
        with torch.no_grad():
            outputs = self.module(self.xs)
        _wait()
        return outputs, ()

    def _gradient(self) -> Any:
        value = (self.module(self.xs) * self.cotangent).sum()
        *gradients, to_xs = torch.autograd.grad(value, [*self.params.values(), self.xs])
        _wait()
        return (value.detach(), ()), (dict(zip(self.params, gradients, strict=True)), to_xs)


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def _program(module: nn.Module, dtype: str, data: tuple[Any, Any], order: tuple[int, ...]) -> TorchProgram:
    module = module.to(DEVICE, getattr(torch, dtype))
    xs, cotangent = (torch.tensor(a, device=DEVICE, dtype=getattr(torch, dtype)) for a in data)
    return TorchProgram(module, xs.requires_grad_(), cotangent, order)


class Layer(nn.Module):
    """One of torch's own layers, outputs only."""

    def __init__(self, layer: type[nn.Module], inputs: int, hidden: int, steps: int) -> None:
        super().__init__()
        self.layer = layer(inputs, hidden)

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        """All outputs."""
        outputs: torch.Tensor = self.layer(xs)[0]
        return outputs


class BatchNormOfSteps(nn.Module):
    """Batch norm in training with a row of running statistics for each step."""

    def __init__(self, features: int, steps: int, use_bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((features,), SCALE_OF_BN))
        self.bias = nn.Parameter(torch.zeros(features)) if use_bias else None
        self.register_buffer("mean", torch.zeros(steps, features))
        self.register_buffer("var", torch.ones(steps, features))

    def forward(self, x: torch.Tensor, t: int) -> torch.Tensor:
        """Normalizes by the batch and updates row t."""
        return nn.functional.batch_norm(
            x, self.mean[t], self.var[t], self.weight, self.bias, training=True, momentum=1 - MOMENTUM, eps=EPSILON
        )


class NormLSTM(nn.Module):
    """The equations of ``jaxnorm.ln_lstm`` and ``jaxnorm.bn_lstm``; the input product is made for all steps at once."""

    def __init__(self, batch: bool, inputs: int, hidden: int, steps: int) -> None:
        super().__init__()
        self.batch, self.hidden = batch, hidden
        self.kernel = nn.Linear(inputs, 4 * hidden, bias=False)
        self.recurrent = nn.Linear(hidden, 4 * hidden, bias=False)
        self.bias = nn.Parameter(torch.zeros(4 * hidden))
        for name, features in (("norm_input", 4 * hidden), ("norm_recurrent", 4 * hidden), ("norm_cell", hidden)):
            norm = BatchNormOfSteps(features, steps, name == "norm_cell") if batch else nn.LayerNorm(features, EPSILON)
            setattr(self, name, norm)

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        """All outputs."""
        zs = self.kernel(xs)
        if not self.batch:
            zs = self.norm_input(zs) + self.bias
        h = c = xs.new_zeros(xs.shape[1], self.hidden)
        outputs = []
        for t, z in enumerate(zs):
            at = (t,) if self.batch else ()
            if self.batch:
                z = self.norm_input(z, t) + self.bias
            i, f, g, o = (z + self.norm_recurrent(self.recurrent(h), *at)).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * self.norm_cell(c, *at).tanh()
            outputs.append(h)
        return torch.stack(outputs)


class LNGRU(nn.Module):
    """The equations of ``jaxnorm.ln_gru``; the input side is made for all steps at once."""

    def __init__(self, inputs: int, hidden: int, steps: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.kernel = nn.Linear(inputs, 3 * hidden, bias=False)
        self.recurrent = nn.Linear(hidden, 3 * hidden, bias=False)
        self.bias = nn.Parameter(torch.zeros(3 * hidden))
        self.recurrent_bias = nn.Parameter(torch.zeros(3 * hidden))
        self.norm_input_gates = nn.LayerNorm(2 * hidden, EPSILON)
        self.norm_input_candidate = nn.LayerNorm(hidden, EPSILON)
        self.norm_recurrent_gates = nn.LayerNorm(2 * hidden, EPSILON)
        self.norm_recurrent_candidate = nn.LayerNorm(hidden, EPSILON)

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        """All outputs."""
        parts = (2 * self.hidden, self.hidden)
        x_gates, x_candidates = self.kernel(xs).split(parts, -1)
        b_gates, b_candidate = self.bias.split(parts)
        d_gates, d_candidate = self.recurrent_bias.split(parts)
        z_gates = self.norm_input_gates(x_gates) + b_gates
        z_candidates = self.norm_input_candidate(x_candidates) + b_candidate
        h = xs.new_zeros(xs.shape[1], self.hidden)
        outputs = []
        for gates, candidate in zip(z_gates, z_candidates, strict=True):
            h_gates, h_candidate = self.recurrent(h).split(parts, -1)
            r, z = (gates + self.norm_recurrent_gates(h_gates) + d_gates).sigmoid().chunk(2, -1)
            n = (candidate + r * (self.norm_recurrent_candidate(h_candidate) + d_candidate)).tanh()
            h = h + z * (n - h)
            outputs.append(h)
        return torch.stack(outputs)


def build(shape: Shape, dtype: str, *, module: Callable[..., nn.Module]) -> TorchProgram:
    """A layer, time first."""
    return _program(module(shape.inputs, shape.hidden, shape.steps), dtype, cell_data(shape, TIME_MAJOR), TIME_MAJOR)


PROGRAMS = {
    "torch": {
        "lstm": partial(build, module=partial(Layer, nn.LSTM)),
        "gru": partial(build, module=partial(Layer, nn.GRU)),
        "ln_lstm": partial(build, module=partial(NormLSTM, False)),
        "ln_gru": partial(build, module=LNGRU),
        "bn_lstm": partial(build, module=partial(NormLSTM, True)),
    }
}


def build_row_norm(shape: tuple[int, ...], dtype: str, *, norm: Callable[..., nn.Module]) -> TorchProgram:
    """A normalizer of the last axis."""
    order = features_last(shape)
    return _program(norm(shape[-1], eps=EPSILON), dtype, norm_data(shape, order), order)


def build_batch_norm(shape: tuple[int, ...], dtype: str) -> TorchProgram:
    """Batch norm in training, with torch's layout."""
    order = features_second(shape)
    norm = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    module = norm(shape[-1], eps=EPSILON, momentum=1 - MOMENTUM)
    return _program(module, dtype, norm_data(shape, order), order)


def build_group_norm(shape: tuple[int, ...], dtype: str) -> TorchProgram:
    """Group norm, with torch's layout."""
    order = features_second(shape)
    module = nn.GroupNorm(group_count(shape[-1]), shape[-1], eps=EPSILON)
    return _program(module, dtype, norm_data(shape, order), order)


NORMS = {
    "layer_norm": partial(build_row_norm, norm=nn.LayerNorm),
    "rms_norm": partial(build_row_norm, norm=nn.RMSNorm),
    "batch_norm": build_batch_norm,
    "group_norm": build_group_norm,
}
