"""Tokens: sources read, tokenised once into immutable shards, and given out in an exact, resumable order."""
