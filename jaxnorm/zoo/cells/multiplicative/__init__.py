"""Cells with multiplicative integration."""
