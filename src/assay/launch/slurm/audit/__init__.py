"""Run audits as SLURM job arrays."""
