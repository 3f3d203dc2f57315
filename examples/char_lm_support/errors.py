"""The one error that is the user's to mend."""


class BadInput(Exception):  # noqa: N818 - it names what is wrong, and is never shown as a class
    """One line: what is wrong, and what to do. The program prints it and ends with exit code 2."""
