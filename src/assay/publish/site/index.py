"""Every run of a store in memory, read again where its files changed: 10,000 runs are looked at in a fraction of a second."""

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

from assay.fingerprint import SHORT
from assay.publish.report import finite

FRESH = 0.5
"""Seconds for which a look at the files serves everybody who asks."""
UNREADABLE = "unreadable"
"""The state of a run whose status is damaged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunListed:
    """One run as its own records tell it; what is damaged of them is left out and named."""

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
    """Tokens a second."""
    train_seconds: float
    evaluate_seconds: float
    started: float | None
    finished: float | None
    updated: float | None
    problem: str
    """How it ended badly, or what of its record cannot be read."""
    changed: int
    """Nanoseconds since the epoch of the last change of its status or its spec."""

    @property
    def short(self) -> str:
        """The first digits of the fingerprint."""
        return self.fingerprint[:SHORT]

    @property
    def label(self) -> str:
        """What people call it."""
        return f"{self.mix} s{self.seed}" if self.mix else self.short

    @property
    def share(self) -> float:
        """Of its training that is done."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0


class Index:
    """All runs by fingerprint; asked from several threads."""

    def __init__(self, root: Path) -> None:
        """An index of the store in a folder, which may not exist yet."""
        self._root = root / "runs"
        self._runs: dict[str, RunListed] = {}
        self._lock = threading.Lock()
        self._looked = -FRESH

    def runs(self) -> dict[str, RunListed]:
        """All runs there are now, in order of fingerprint."""
        with self._lock:
            if time.monotonic() - self._looked < FRESH:
                return self._runs
            found: dict[str, RunListed] = {}
            for name in sorted(_folders(self._root)):
                changed = _changed(self._root, name)
                if changed is None:
                    continue  # no record was written there yet
                known = self._runs.get(name)
                found[name] = (
                    known if known is not None and known.changed == changed else _read(self._root / name, changed)
                )
            self._runs, self._looked = found, time.monotonic()
            return found


def _folders(root: Path) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        yield from (entry.name for entry in os.scandir(root) if entry.is_dir())


def _changed(root: Path, name: str) -> int | None:
    """When a run's records changed; ``None`` where there are none. Both files are renamed into place, so their times tell."""
    times = []
    for file in ("spec.json", "status.json"):
        with contextlib.suppress(OSError):
            times.append(os.stat(f"{root}/{name}/{file}").st_mtime_ns)  # noqa: PTH116  # a Path costs more than the call
    return max(times, default=None)


def _read(path: Path, changed: int) -> RunListed:
    spec, spec_problem = _mapping(path / "spec.json")
    status, status_problem = _mapping(path / "status.json")
    labels, body = _part(spec, "labels"), _part(spec, "spec")
    failure = _part(status, "failure")
    told = [f"{failure.get('kind')}: {failure.get('message')}"] if failure else []
    problems = [*told, *(problem for problem in (spec_problem, status_problem) if problem)]
    seed = labels.get("seed", body.get("seed"))
    return RunListed(
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
    """A JSON object and what is wrong with it; an empty one where there is none."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError) as error:
        return {}, f"{path.name} cannot be read: {error}"
    return (found, "") if isinstance(found, dict) else ({}, f"{path.name} holds no record")


def _part(record: dict[str, Any], key: str) -> dict[str, Any]:
    part = record.get(key)
    return part if isinstance(part, dict) else {}


def matching(runs: Iterable[RunListed], *, words: str = "", state: str = "") -> list[RunListed]:
    """The runs that have every word in their name, sweep, state, fingerprint or problem, and are in a state."""
    wanted = words.lower().split()

    def has(run: RunListed) -> bool:
        text = f"{run.label} {run.sweep} {run.proxy} {run.state} {run.fingerprint} {run.problem}".lower()
        return all(word in text for word in wanted)

    return [run for run in runs if (not state or run.state == state) and (not wanted or has(run))]
