"""The dependents of a source: the log names unreadable records, whose runs are missing from the list."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.audit.impact import find_dependents
from assay.store.runs import Store


def test_the_log_names_damaged_records(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    for path in (store.corpora / "aa" / "manifest.json", tmp_path / "runs" / "bb" / "spec.json"):
        path.parent.mkdir(parents=True)
        path.write_text("{")
    assert find_dependents(store, "web").runs == ()
    assert str(store.corpora / "aa") in caplog.text
    assert str(tmp_path / "runs" / "bb") in caplog.text
