"""Statistics of sequences and streams."""
