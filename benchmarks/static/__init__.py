"""What compiled programs say of themselves, for accelerators that need not be there: ``benchmarks.run static``."""
