"""Render verdicts for the terminal."""
