"""Index a store's runs in memory.

The index rereads only changed files, so that 10,000 runs refresh in a fraction of a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.fingerprint import SHORT
from assay.report.model import finite

FRESH = 0.5
"""Seconds between scans of the run folders."""
UNREADABLE = "unreadable"
"""State of a run whose status file is damaged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRow:
    """A run as recorded in its own files. Damaged fields are empty and named in `problem`."""

    fingerprint: str
    sweep: str
    mix: str
    seed: int | None
    proxy: str
    sources: tuple[str, ...]
    state: str
    step: int
    steps: int
    tokens: float | None
    speed: float | None
    """Speed in tokens per second."""
    train_seconds: float
    evaluate_seconds: float
    started: float | None
    finished: float | None
    updated: float | None
    problem: str
    """Failure of the run, or the name of the unreadable record."""
    changed: int
    """Time of the last change of the status or spec file, in nanoseconds since the epoch."""

    @property
    def short(self) -> str:
        """First digits of the fingerprint."""
        return self.fingerprint[:SHORT]

    @property
    def label(self) -> str:
        """Mix and seed, or the short fingerprint without a mix."""
        return f"{self.mix} s{self.seed}" if self.mix else self.short

    @property
    def progress(self) -> float:
        """Completed fraction of training."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0


class RunIndex:
    """Thread-safe index of all runs by fingerprint."""

    def __init__(self, root: Path) -> None:
        """Create an index of a store.

        Args:
            root: folder of the store, which may not exist yet.
        """
        self._root = root / "runs"
        self._runs: dict[str, RunRow] = {}
        self._lock = threading.Lock()
        self._scanned = -FRESH

    def runs(self) -> dict[str, RunRow]:
        """Return all runs in the order of their fingerprints."""
        with self._lock:
            if time.monotonic() - self._scanned < FRESH:
                return self._runs
            runs: dict[str, RunRow] = {}
            for name in sorted(_folders(self._root)):
                changed = _changed(self._root, name)
                if changed is None:
                    continue  # the folder has no record yet
                previous = self._runs.get(name)
                unchanged = previous is not None and previous.changed == changed
                runs[name] = previous if previous and unchanged else _read(self._root / name, changed)
            self._runs, self._scanned = runs, time.monotonic()
            return runs


def _folders(root: Path) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        yield from (entry.name for entry in os.scandir(root) if entry.is_dir())


def _changed(root: Path, name: str) -> int | None:
    """Return the time of the last change of a run's records; None without records.

    Atomic renames make the file times reliable.
    """
    times = []
    for file in ("spec.json", "status.json"):
        with contextlib.suppress(OSError):
            times.append(os.stat(f"{root}/{name}/{file}").st_mtime_ns)  # noqa: PTH116  # a Path costs more than the call
    return max(times, default=None)


def _read(path: Path, changed: int) -> RunRow:
    spec, spec_problem = _mapping(path / "spec.json")
    status, status_problem = _mapping(path / "status.json")
    labels, body = _part(spec, "labels"), _part(spec, "spec")
    failure = _part(status, "failure")
    failures = [f"{failure.get('kind')}: {failure.get('message')}"] if failure else []
    problems = [*failures, *(problem for problem in (spec_problem, status_problem) if problem)]
    seed = labels.get("seed", body.get("seed"))
    return RunRow(
        fingerprint=path.name,
        sweep=str(labels.get("sweep") or ""),
        mix=str(labels.get("mix") or ""),
        seed=seed if isinstance(seed, int) else None,
        proxy=str(labels.get("proxy") or ""),
        sources=tuple(sorted(map(str, _part(body, "corpora")))),
        state=UNREADABLE if status_problem else str(status.get("state") or "queued"),
        step=int(finite(status.get("step")) or 0),
        steps=int(finite(status.get("steps")) or 0),
        tokens=finite(status.get("tokens")),
        speed=finite(status.get("tokens_per_second")),
        train_seconds=finite(status.get("train_seconds")) or 0.0,
        evaluate_seconds=finite(status.get("evaluate_seconds")) or 0.0,
        started=finite(status.get("started")),
        finished=finite(status.get("finished")),
        updated=finite(status.get("updated")),
        problem="; ".join(problems),
        changed=changed,
    )


def _mapping(path: Path) -> tuple[dict[str, Any], str]:
    """Read a JSON object, and return the object with an error text.

    The object is empty if the file is missing.
    """
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError) as error:
        return {}, f"{path.name} cannot be read: {error}"
    return (record, "") if isinstance(record, dict) else ({}, f"{path.name} is not a JSON object")


def _part(record: dict[str, Any], key: str) -> dict[str, Any]:
    part = record.get(key)
    return part if isinstance(part, dict) else {}


def filter_runs(runs: Iterable[RunRow], *, words: str = "", state: str = "") -> list[RunRow]:
    """Return the runs in a state whose fields contain every word.

    The searched fields are name, sweep, state, fingerprint and problem.
    """
    wanted = words.lower().split()

    def matches(run: RunRow) -> bool:
        text = f"{run.label} {run.sweep} {run.proxy} {run.state} {run.fingerprint} {run.problem}".lower()
        return all(word in text for word in wanted)

    return [run for run in runs if (not state or run.state == state) and (not wanted or matches(run))]
