"""What a cell says where a driver of Flax, or a call, takes it for a module."""

from typing import Any, NoReturn


class NotAModuleError(AttributeError, TypeError):
    """A spec stands where a module belongs; an AttributeError too, so that ``hasattr`` answers False."""


class NoModule:
    """The attributes that drivers such as ``flax.linen.RNN`` ask a cell of Flax for: a spec has none of them."""

    @property
    def num_feature_axes(self) -> int:
        """Raises TypeError: it belongs to cells of Flax."""
        self._refuse("has no num_feature_axes")

    @property
    def initialize_carry(self) -> Any:
        """Raises TypeError: it belongs to cells of Flax."""
        self._refuse("has no initialize_carry")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raises TypeError: a spec has pure methods and is not called."""
        self._refuse("is not called")

    def _refuse(self, what: str) -> NoReturn:
        name = type(self).__name__
        raise NotAModuleError(
            f"{name}: a spec is no module of Flax and {what}. Write jaxnorm.linen.RNN(cell) or jaxnorm.nnx.RNN(cell, "
            "in_features, rngs=rngs), RNNCell in their place inside a driver of Flax such as flax.linen.RNN, or "
            "jaxnorm.unroll(cell, params, xs) without Flax."
        )
