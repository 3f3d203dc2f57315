"""Relatives of the LSTM."""
