"""Serve a read-only local website of a project and its store."""
