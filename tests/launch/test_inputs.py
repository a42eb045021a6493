"""The existence of a run's inputs: a damaged corpus is neither rebuilt nor waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.core.errors import Damaged
from assay.launch.inputs import made


def test_a_damaged_corpus_does_not_count_as_missing(tmp_path: Path) -> None:
    assert not made(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(Damaged, match="manifest.json"):
        made(tmp_path)
