"""Estimate paired effects, multiplicity, power and signal with pure functions that read no files."""
