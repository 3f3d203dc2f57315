"""Bad input on the command line: one line, exit code 2."""


class BadInput(Exception):  # noqa: N818 - as in the examples
    """What was asked for makes no sense; the message says why and what to do."""
