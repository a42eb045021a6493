"""An evaluation as the store has it, for tests that need one to be there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from assay.core.files import write_json


def write_evaluation(folder: Path, scores: Sequence[Any] = ()) -> None:
    """Both files of an evaluation: these scores, and no questions."""
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"task": [], "group": []}).to_parquet(folder / "items.parquet")
    write_json(folder / "scores.json", {"scores": list(scores)})
