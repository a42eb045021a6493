"""Tells a pretraining data team whether a change to the data recipe is an improvement."""

from __future__ import annotations

__version__ = "0.1.0"
