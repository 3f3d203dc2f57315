"""Cells around cells: regularizers and reparametrizations."""
