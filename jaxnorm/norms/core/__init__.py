"""The building blocks of normalizers."""
