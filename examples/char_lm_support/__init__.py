"""What the example char_lm.py needs besides the models: options, text, the files of a run, and the report."""
