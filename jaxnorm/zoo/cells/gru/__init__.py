"""Variants of the GRU."""
