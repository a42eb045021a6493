"""Records of submissions."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.config.suite import EvaluationSpec
from assay.store.runs import Store
from assay.store.submissions import Submission, SubmissionDirectory, submissions


def test_a_damaged_worker_record_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = SubmissionDirectory(tmp_path)
    assert directory.worker("0") is None
    assert not caplog.records
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "0.json").write_text("{")
    assert directory.worker("0") is None
    assert str(tmp_path / "workers" / "0.json") in caplog.text


def test_submissions_of_one_second_are_listed_in_the_order_of_their_creation(tmp_path: Path) -> None:
    store = Store(tmp_path)
    evaluation = EvaluationSpec(tasks=(), batch_size=1, validation_bytes=1, validation={}, harness="", datasets="hub")
    for name, created in (("20261130T101010-f", 10.1), ("20261130T101010-a", 10.7), ("20261130T101010-c", 10.4)):
        submission = Submission(
            id=name,
            sweep="tiny",
            created=created,
            cluster="local",
            executor="local",
            workers=1,
            code="",
            digests={},
            runs=(),
            evaluation=evaluation,
            study={},
        )
        SubmissionDirectory(store.sweep("tiny") / "submissions" / name).create(submission)
    assert [directory.path.name[-1] for directory in submissions(store, "tiny")] == ["f", "c", "a"]
