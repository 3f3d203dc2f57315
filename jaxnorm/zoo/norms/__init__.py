"""Normalizers of single papers."""
