"""What the papers put around the cells: models that several claims share."""
