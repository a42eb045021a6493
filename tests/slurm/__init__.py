"""A real SLURM cluster on one machine, private to the tests that use it."""
