"""Where runs are trained: submissions, workers, and what can be seen and stopped of them."""
