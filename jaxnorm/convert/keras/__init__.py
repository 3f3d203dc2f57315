"""Converts weights of Keras 3: recurrent layers and their cells, normalizers, whole models; live layers and files.

Live layers describe themselves, so even they need no import of Keras.
"""

from jaxnorm.convert.keras.export import export as export
from jaxnorm.convert.keras.load import load as load
from jaxnorm.convert.keras.load import load_model as load_model
