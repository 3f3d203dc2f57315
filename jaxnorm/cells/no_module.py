"""The errors a cell raises if a Flax driver, or a call, mistakes it for a module."""

from typing import Any, NoReturn

from jaxnorm._base import foreign_keywords
from jaxnorm._base.keywords import AnswersKeywords
from jaxnorm._base.specs import Readable


class NotAModuleError(AttributeError, TypeError):
    """Raised for a spec in the place of a module; also an AttributeError, so that ``hasattr`` returns False."""


class NoModule(AnswersKeywords, Readable):
    """The attributes that drivers such as ``flax.linen.RNN`` expect of a Flax cell; a spec refuses them."""

    keyword_advice = foreign_keywords.CELLS

    @property
    def num_feature_axes(self) -> int:
        """Raises TypeError: only Flax cells have it."""
        self._refuse("has no num_feature_axes")

    @property
    def initialize_carry(self) -> Any:
        """Raises TypeError: only Flax cells have it."""
        self._refuse("has no initialize_carry", " The carry before the first step is cell.initial_carry(batch_shape).")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raises TypeError: a spec has pure methods, you cannot call it."""
        self._refuse("is not called")

    def _refuse(self, what: str, line: str = "") -> NoReturn:
        name = type(self).__name__
        raise NotAModuleError(
            f"{name}: a spec is no module of Flax and {what}. Write jaxnorm.linen.RNN(cell) or jaxnorm.nnx.RNN(cell, "
            "in_features, rngs=rngs), RNNCell in their place inside a driver of Flax such as flax.linen.RNN, or "
            f"jaxnorm.unroll(cell, params, xs) without Flax.{line}"
        )
