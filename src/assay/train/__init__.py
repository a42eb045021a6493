"""One run: from tokens to weights."""
