"""The normalized cells of other libraries and papers, as presets."""
