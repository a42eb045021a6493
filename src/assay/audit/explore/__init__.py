"""Explore sources by contrasts, phrases, topics and n-grams."""
