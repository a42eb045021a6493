"""Tokenize sources once into immutable shards, and deliver tokens in an exact, resumable order."""
