"""Bad input on the command line: one line, exit code 2."""

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn


class BadInput(Exception):  # noqa: N818 - as in the examples
    """What was asked for makes no sense; the message says why and what to do."""


class Parser(argparse.ArgumentParser):
    """A parser that raises instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        """Raises BadInput."""
        raise BadInput(f"{message}. See --help.")


def check_names(option: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raises BadInput unless all names are known."""
    known = list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BadInput(f"{option}: nothing is called {', '.join(unknown)}. Choose from {', '.join(known)}.")


def exit_code(program: Callable[[], int]) -> int:
    """What a program returns; 2 and one line on the error output after bad input."""
    try:
        return program()
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
