"""Files of other tools: long tables and lm-eval's results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.external.result_files import harness_record


@pytest.fixture
def evaluation(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes `results_<time>.json` files like lm-eval, below the test's folder."""

    def write(folder: str = "m", when: str = "2026-11-23T16-52-23.917622", **changes: Any) -> Path:
        path = tmp_path / folder / f"results_{when}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(harness_record(**changes)))
        return path

    return write
