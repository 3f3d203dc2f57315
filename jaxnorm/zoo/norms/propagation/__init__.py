"""Normalization propagated in closed form."""
