"""The pre-activations of gates: products, norms, biases."""
