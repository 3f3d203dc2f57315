"""Normalizers of each example by itself."""
