"""Variants of the LSTM."""
