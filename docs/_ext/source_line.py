"""Where in the sources an equation is computed."""

from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "jaxnorm"


def locate(target: str) -> str:
    """``file:number`` of the one line below ``jaxnorm/`` that a target ``file: text`` points at."""
    file, _, text = target.partition(": ")
    lines = (PACKAGE / file).read_text(encoding="utf-8").splitlines()
    numbers = [number for number, line in enumerate(lines, start=1) if text in line]
    if len(numbers) != 1:
        raise LookupError(f"{target!r}: {len(numbers)} lines of {file} contain that text, expected one.")
    return f"{file}:{numbers[0]}"
