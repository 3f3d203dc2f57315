"""Normalizers, x -> x: one a file, a plain function and its spec."""
