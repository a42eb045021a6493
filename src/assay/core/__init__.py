"""Provide errors, files, fingerprints, serialization, processes and leases without domain knowledge."""
