"""Relatives of the GRU."""
