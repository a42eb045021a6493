"""Fakes of SLURM's commands: scripts on PATH that print recorded output of the real commands, version 22.05."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

RECORDED = Path(__file__).with_name("recorded")


def recorded(name: str) -> str:
    """Read the recorded output of a real command."""
    return (RECORDED / name).read_text(encoding="utf-8")


PROGRAMS = ("sacct", "sacctmgr", "sbatch", "scancel", "scontrol", "sdiag", "sinfo", "squeue")


class Commands:
    """A folder of fake commands that is first on PATH; a command that the test does not define fails."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        for program in PROGRAMS:
            self.fails(program, "unexpected call")

    def script(self, program: str, body: str) -> None:
        """Define a command by a shell script that also records its calls."""
        path = self.folder / program
        calls = shlex.quote(str(self.folder / f"{program}.calls"))
        path.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$*\" >> {calls}\n{body}\n", encoding="utf-8")
        path.chmod(0o755)

    def prints(self, program: str, text: str = "") -> None:
        """Define a command that prints a text and succeeds."""
        output = self.folder / f"{program}.out"
        output.write_text(text, encoding="utf-8")
        self.script(program, f"cat {shlex.quote(str(output))}")

    def fails(self, program: str, message: str) -> None:
        """Define a command that prints an error message and fails."""
        self.script(program, f"printf '%s\\n' {shlex.quote(message)} >&2; exit 1")

    def calls(self, program: str) -> list[str]:
        """Return the arguments of every call so far."""
        path = self.folder / f"{program}.calls"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Replace all of SLURM's commands by fakes that fail until the test defines them."""
    return Commands(tmp_path / "bin", monkeypatch)
