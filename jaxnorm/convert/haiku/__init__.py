"""Converts weights of Haiku: cores, normalizers and whole models, as dictionaries of parameters and state.

Haiku keeps hyper-parameters only in the program, so we do not import it.
"""

from jaxnorm.convert.haiku.export import export as export
from jaxnorm.convert.haiku.load import load as load
from jaxnorm.convert.haiku.load import load_model as load_model
