"""SLURM's commands, faked: small scripts on PATH that print what the real ones, of version 22.05, were seen to print."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

RECORDED = Path(__file__).with_name("recorded")


def recorded(name: str) -> str:
    """What a real command printed."""
    return (RECORDED / name).read_text(encoding="utf-8")


PROGRAMS = ("sacct", "sacctmgr", "sbatch", "scancel", "scontrol", "sdiag", "sinfo", "squeue")


class Commands:
    """A folder of commands that comes first on PATH; what a test does not make itself fails."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        for program in PROGRAMS:
            self.fails(program, "is not to be asked")

    def script(self, program: str, body: str) -> None:
        """Make a command of a shell script, which also writes down how it was called."""
        path = self.folder / program
        calls = shlex.quote(str(self.folder / f"{program}.calls"))
        path.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$*\" >> {calls}\n{body}\n", encoding="utf-8")
        path.chmod(0o755)

    def prints(self, program: str, text: str = "") -> None:
        """Make a command that prints something and ends well."""
        output = self.folder / f"{program}.out"
        output.write_text(text, encoding="utf-8")
        self.script(program, f"cat {shlex.quote(str(output))}")

    def fails(self, program: str, words: str) -> None:
        """Make a command that says something on its way out."""
        self.script(program, f"printf '%s\\n' {shlex.quote(words)} >&2; exit 1")

    def calls(self, program: str) -> list[str]:
        """The arguments of every call so far."""
        path = self.folder / f"{program}.calls"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """None of SLURM's commands works yet; the machine's own are out of reach."""
    return Commands(tmp_path / "bin", monkeypatch)
