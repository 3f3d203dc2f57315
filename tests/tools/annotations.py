"""The suite's run-time checks of annotations would speak before our own messages; users do not have them."""

import contextlib

from jaxtyping import config


@contextlib.contextmanager
def no_annotation_checks():
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", before)
