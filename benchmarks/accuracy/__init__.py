"""How many digits the normalizers keep, beside other libraries, on data that cost digits."""
