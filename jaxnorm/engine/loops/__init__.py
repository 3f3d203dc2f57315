"""The loops over time, forward and backward."""
