"""Command lines of which a mistake is one line: a parser, numbers within bounds, and options as words again."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from .errors import BadInput


class Parser(argparse.ArgumentParser):
    """Raises BadInput instead of ending the program."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}. See --help.")


def as_words(options: Mapping[str, Any]) -> list[str]:
    """Options as they would be typed."""
    words = []
    for name, value in options.items():
        if value is not None and value is not False:
            values = value if isinstance(value, list) else [] if value is True else [value]
            words += ["--" + name.replace("_", "-"), *map(str, values)]
    return words


def number(kind: Callable[[str], float], accept: Callable[[float], bool], wanted: str) -> Callable[[str], float]:
    def convert(word: str) -> float:
        try:
            value = kind(word)
        except ValueError:
            value = None
        if value is None or not accept(value):
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {word!r}")
        return value

    return convert


positive = number(int, lambda n: n > 0, "a whole number above zero")
natural = number(int, lambda n: 0 <= n < 2**32, "a whole number from 0 to 4294967295")
above_zero = number(float, lambda x: 0 < x < float("inf"), "a number above zero")
share = number(float, lambda x: 0 < x < 1, "a number between 0 and 1")
