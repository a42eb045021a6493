"""From results to comparisons and verdicts."""
