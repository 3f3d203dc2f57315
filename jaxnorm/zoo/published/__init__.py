"""Presets for the normalized cells of other libraries and papers."""
