"""The loop that runs every cell, and what calls it."""
