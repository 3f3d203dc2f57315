"""What the Flax modules and the optimizers share: names of weights, axes of kernels, population statistics."""
