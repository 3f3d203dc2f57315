"""Variants of batch normalization."""
