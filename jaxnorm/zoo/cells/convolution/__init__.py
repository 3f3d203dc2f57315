"""Cells whose products are convolutions, and what they need."""
