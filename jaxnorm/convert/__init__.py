"""Converts weights from and to other libraries: one module per library, each with the same functions.

``load`` returns :class:`Imported`; ``load_model`` returns :class:`ImportedModel`, all layers of a model by name.
``export`` returns the arrays of the other library, or fills one of its live objects if it has no other form. A module
imports the library of its name only if a live object needs it.
"""

from jaxnorm.convert import cudnn as cudnn
from jaxnorm.convert import equinox as equinox
from jaxnorm.convert import haiku as haiku
from jaxnorm.convert import haste as haste
from jaxnorm.convert import keras as keras
from jaxnorm.convert import linen as linen
from jaxnorm.convert import nnx as nnx
from jaxnorm.convert import tfa as tfa
from jaxnorm.convert import torch as torch
from jaxnorm.convert.shared.base import Imported as Imported
from jaxnorm.convert.shared.base import run as run
from jaxnorm.convert.shared.model import ImportedModel as ImportedModel
