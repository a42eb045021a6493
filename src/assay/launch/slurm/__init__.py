"""SLURM: what is asked of it, what it says, and how a sweep comes through what it does."""
