"""Draw samples for review, store annotations, and compare documents with their originals."""
