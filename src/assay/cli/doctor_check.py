"""A check of `assay doctor`: its name, status, result and fix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from assay.core.errors import AssayError

CheckStatus = Literal["ok", "warning", "error"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of `assay doctor`."""

    name: str
    """Name of the check."""
    value: str
    """Result in one line."""
    status: CheckStatus = "ok"
    """`error`: the sweep cannot run. `warning`: the sweep can run, but a setting may be unintended."""
    fix: str = ""
    """Instruction that fixes the problem; empty for `ok`."""


def failed(name: str, error: Exception) -> Check:
    """Return a failed check with the error's message."""
    if isinstance(error, AssayError):
        return Check(name=name, value=_line(error.what), status="error", fix=_line(error.fix))
    return Check(name=name, value=_line(str(error)), status="error", fix="Check the file system and its permissions.")


def attempt(name: str, run: Callable[[], Check]) -> Check:
    """Run a check. Convert errors of the user or the file system to a result, so that other checks still run."""
    try:
        return run()
    except (AssayError, OSError) as error:
        return failed(name, error)


def _line(text: str) -> str:
    return " ".join(text.split())
