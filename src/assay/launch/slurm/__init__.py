"""Submit SLURM jobs, query their states, and recover lost jobs of sweeps."""
