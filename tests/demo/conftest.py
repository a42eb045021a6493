"""What the demonstration's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache() -> Path:
    """Where `make demo` keeps its data, so that nothing is downloaded twice."""
    return Path(os.environ.get("ASSAY_TEST_CACHE", Path(__file__).parents[2] / "data"))
