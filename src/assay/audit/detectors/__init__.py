"""Detect named defects in documents, with shared text features."""
