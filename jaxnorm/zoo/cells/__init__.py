"""Cells of single papers."""
