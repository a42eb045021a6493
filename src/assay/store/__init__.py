"""Read and write run records on disk. No other package accesses the records."""
