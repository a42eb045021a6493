"""Execute runs locally in worker processes, with one process per run."""
