"""The pictures of the documentation, drawn when it is built: cells, how they run, and what was measured."""
