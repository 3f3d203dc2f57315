"""Checks and derived arguments before a loop begins."""
