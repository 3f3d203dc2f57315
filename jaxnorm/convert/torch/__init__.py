"""Converts weights of PyTorch: layers, whole models, kernels; live modules, state dicts, safetensors files.

It imports PyTorch only if you pass a live module.
"""

from jaxnorm.convert.torch.export import export as export
from jaxnorm.convert.torch.kernels import export_kernel as export_kernel
from jaxnorm.convert.torch.kernels import load_kernel as load_kernel
from jaxnorm.convert.torch.load import load as load
from jaxnorm.convert.torch.load import load_model as load_model
