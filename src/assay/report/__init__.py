"""Render results as pages, Markdown, terminal output, the site and W&B runs.

All views are derived from the store. No module reads a view back.
"""
