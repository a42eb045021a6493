"""Train one run, from tokens to weights."""
