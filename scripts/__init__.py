"""Programs for developers of assay."""
