"""`assay demo` works outside a project, and reads the mirror that it makes, not the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.cli import demo_command
from tests.cli.invoke import Said, caller


@pytest.fixture
def assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASSAY_BENCHMARKS", raising=False)
    return caller(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("arguments", "mirror"), [((), "data/benchmarks"), (("paths.benchmarks=shared",), "shared")], ids=["own", "named"]
)
def test_the_demonstration_reads_the_mirror_that_it_makes(
    assay: Callable[..., Said],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    mirror: str,
) -> None:
    mirrors = []

    def record(space: Any, *, audited: Any, quiet: bool) -> dict[str, Any]:
        mirrors.extend([space.study.paths.mirror, audited.study.paths.mirror])
        return {"quiet": quiet}

    monkeypatch.setattr(demo_command, "run_demo", record)
    outcome = assay("demo", "--json", *arguments)
    assert outcome.code == 0, outcome.err
    assert mirrors == [tmp_path / mirror] * 2
    assert "is in no project" in outcome.err
