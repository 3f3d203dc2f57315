"""The mutated architectures of Jozefowicz et al."""
