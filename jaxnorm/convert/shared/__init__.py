"""What converters share: arrays, files, names, and cells and norms taken apart."""
