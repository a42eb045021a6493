"""Identify runs, and plan the runs that a sweep still needs."""
