"""Train runs: submissions, workers, status and cancellation."""
