"""Wrappers of cells: regularizers and reparametrizations."""
