"""Results of the check: one JSON file, written after every step, and a table."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

FORMAT = 1
PACKAGES = ("torch", "transformers", "triton", "accelerate", "lm_eval", "safetensors", "tokenizers", "numpy", "numba")
State = Literal["passed", "failed", "skipped"]


@dataclass(kw_only=True)
class CheckResult:
    """The outcome of one check."""

    name: str
    state: State
    reason: str = ""
    """Why it failed or was skipped, or what it omitted."""
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Results:
    """All results so far."""

    file: Path
    versions: dict[str, str | None]
    device: dict[str, Any]
    checks: list[CheckResult] = field(default_factory=list)
    seconds: float = 0.0
    complete: bool = False

    @property
    def passed(self) -> bool:
        """Whether the check is complete and no part of it failed."""
        return self.complete and all(check.state != "failed" for check in self.checks)

    def save(self) -> None:
        """Write the file in one step, so that a killed check keeps the results so far."""
        plain = {
            "format": FORMAT,
            "passed": self.passed,
            "complete": self.complete,
            "seconds": self.seconds,
            "versions": self.versions,
            "device": self.device,
            "checks": [asdict(check) for check in self.checks],
        }
        temporary = self.file.with_name(f".{self.file.name}.tmp")
        temporary.write_text(json.dumps(_finite(plain), indent=2) + "\n", encoding="utf-8")
        temporary.replace(self.file)


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that matter, `None` for missing ones."""
    found: dict[str, str | None] = {"python": platform.python_version(), "executable": sys.executable}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


COLUMNS = ("check", "result", "seconds", "tokens/s", "MFU", "peak GB", "note")


def table(checks: list[CheckResult]) -> str:
    """Return the results as text, one row per check."""
    rows = [COLUMNS, *(_row(check) for check in checks)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS) - 1)]
    right = {"seconds", "tokens/s", "MFU", "peak GB"}
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if COLUMNS[place] in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)


def _row(check: CheckResult) -> tuple[str, ...]:
    speed, mfu, memory = (check.figures.get(name) for name in ("tokens_per_second", "mfu", "peak_memory"))
    return (
        check.name,
        check.state,
        f"{check.seconds:.1f}",
        "" if speed is None else f"{speed:,.0f}",
        "" if mfu is None else f"{mfu:.1%}",
        "" if memory is None else f"{memory / 1e9:.2f}",
        check.reason.splitlines()[0] if check.reason else check.figures.get("note", ""),
    )


def _finite(value: Any) -> Any:
    """Replace numbers that JSON cannot represent by text."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
