"""Define the schema of sources, mixes, recipes, sweeps, suites, policies and clusters."""
