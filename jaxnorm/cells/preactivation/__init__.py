"""Pre-activations of gates: products, norms and biases."""
