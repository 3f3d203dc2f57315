"""What is checked and derived before a loop begins."""
