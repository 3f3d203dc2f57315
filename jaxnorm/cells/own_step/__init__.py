"""A cell made of a function that a user writes."""
