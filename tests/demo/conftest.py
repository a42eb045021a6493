"""Shared fixtures of the demonstration's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache() -> Path:
    """Data folder of `make demo`, so that nothing is downloaded twice."""
    return Path(os.environ.get("ASSAY_TEST_CACHE", Path(__file__).parents[2] / "data"))
