"""What every part of jaxnorm stands on: array types, checks, messages, named tuples, sizes."""
