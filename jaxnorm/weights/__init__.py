"""Weight normalizers: kernel to kernel, one a file, once a sequence."""
