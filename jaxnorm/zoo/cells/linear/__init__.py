"""Cells that are linear in the carry."""
