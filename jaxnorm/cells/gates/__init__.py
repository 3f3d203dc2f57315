"""What the gates of LSTMs and GRUs do element by element: their functions, and derivatives by hand."""
