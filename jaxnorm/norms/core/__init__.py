"""What normalizers are made of."""
