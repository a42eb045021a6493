"""Detect defects in sources before training, and store the findings by version of the source."""
