"""What the example train_distributed.py is made of, one idea a file."""
