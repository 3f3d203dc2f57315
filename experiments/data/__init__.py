"""Readers of data sets, each a plain tuple of arrays with the name of its source."""
