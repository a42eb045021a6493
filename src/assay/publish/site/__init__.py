"""The whole store as a site on this machine: sweeps, runs, mixes, sources and verdicts, live, and nothing is ever written."""
