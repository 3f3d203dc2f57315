"""How the options of a caller override those of a preset."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def overridden(
    preset: Callable[..., Any], defaults: Mapping[str, Any], options: Mapping[str, Any], **settings: Any
) -> dict[str, Any]:
    """Returns the fields of a preset's cell: its own ones, overridden by the caller's options.

    Args:
      preset: the function, whose signature has the defaults of ``settings``.
      defaults: the fields that the preset sets.
      options: the fields that the caller sets.
      **settings: keywords of the preset that went into its normalizers, with their values.

    Raises:
      ValueError: a ``norm`` of the caller takes the place of normalizers for which the caller also has a setting.
    """
    known = inspect.signature(preset).parameters
    lost = [f"{name}={value!r}" for name, value in settings.items() if value != known[name].default]
    if lost and "norm" in options:
        raise ValueError(
            f"{preset.__name__}: norm takes the place of the preset's normalizers, so {', '.join(lost)} would be lost. "
            "Write it into the normalizer, such as norm=LayerNorm(epsilon=1e-3, scale_init=0.1), or leave norm out."
        )
    return {**defaults, **options}
