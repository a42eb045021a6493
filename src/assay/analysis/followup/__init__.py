"""Follow-up sweeps: more seeds for an inconclusive verdict, and repaired sources for a tainted sweep."""
