"""Progress goes to standard error: a line per item or a spinner, and nothing for short work and for --json."""

from __future__ import annotations

import time

import pytest

from assay.cli import progress


def test_work_that_takes_long_is_named_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0.0)
    printed, deadline = "", time.monotonic() + 60
    with progress.spinner("comparing"):
        while not printed and time.monotonic() < deadline:
            printed += capsys.readouterr().err
    rest = capsys.readouterr()
    assert ((printed + rest.err).strip(), rest.out) == ("comparing ...", "")


def test_short_and_quiet_work_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "DELAY_SECONDS", 3600.0)
    with progress.spinner("comparing"):
        pass
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0.0)
    with progress.spinner("comparing", quiet=True):
        pass
    assert capsys.readouterr().err == ""


def test_an_item_is_named_when_it_starts_and_when_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress_bars() as report:
        for fraction in (0.0, 0.5, 1.0, 1.0):
            report("corpus web", fraction)
    assert capsys.readouterr().err.splitlines() == ["corpus web: started", "corpus web: done"]
