"""Scan the documents of a source in one pass."""
