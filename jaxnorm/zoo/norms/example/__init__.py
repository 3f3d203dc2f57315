"""Normalizers that treat each example separately."""
