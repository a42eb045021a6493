"""A real SLURM on this one machine, private to the tests that need one."""
