"""Results from elsewhere: long tables, lm-eval's own files, runs in W&B; kept in the store, and judged like a sweep's."""
