"""Helpers that all converters share: arrays, files, names, and the parts of cells and norms."""
