"""Relatives of batch normalization."""
