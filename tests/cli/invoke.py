"""The command line, called in this process: as the shell does, and without the second that a new one takes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from assay.cli.main import main


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str
    """In one line, however wide the terminal."""

    @property
    def json(self) -> Any:
        assert self.out, self.err
        return json.loads(self.out)


def caller(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """`call("gate", "sweep=tiny")` in the working directory of the moment."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("ASSAY_STORE", raising=False)

    def call(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["assay", *arguments])
        code = 0
        try:
            main()
        except SystemExit as left:
            code = int(left.code or 0)
        printed = capsys.readouterr()
        return Said(code, printed.out, " ".join(printed.err.split()))

    return call
