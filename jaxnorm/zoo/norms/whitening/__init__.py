"""Normalizers that decorrelate features."""
