"""Small programs as a compiler writes them, with everything that the figures are counted from."""

from pathlib import Path

BUFFER, SLICE = 6 * 8 * 128 * 4, 8 * 128 * 4
"""Bytes of the sequence in slow memory, and of one chunk of it."""

NESTED = (Path(__file__).parent / "nested.hlo").read_text(encoding="utf-8")
"""A loop of 6 rounds; in each it reads and writes a chunk and runs an inner loop of 5 - 2 rounds with one product."""


def flat(lines: str, others: str = "") -> str:
    """A program of some instructions without a loop; %x, %y and %i are given."""
    return f"""\
HloModule m

{others}
ENTRY %main (x: f32[4,256], y: f32[2,256], i: s32[]) -> f32[4,256] {{
  %x = f32[4,256]{{1,0}} parameter(0)
  %y = f32[2,256]{{1,0}} parameter(1)
  %i = s32[] parameter(2)
{lines}
}}
"""
