"""Records of submissions."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.store.submissions import SubmissionDirectory


def test_a_damaged_worker_record_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = SubmissionDirectory(tmp_path)
    assert directory.worker("0") is None
    assert not caplog.records
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "0.json").write_text("{")
    assert directory.worker("0") is None
    assert str(tmp_path / "workers" / "0.json") in caplog.text
