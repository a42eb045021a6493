"""Out of the store what a report shows: the only reading that the published views do."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from assay.errors import AssayError
from assay.publish.report import RunResult, given
from assay.store import RunDirectory, Status, Store

T = TypeVar("T")

PROGRAMS = ("assay", "torch", "transformers", "lm_eval", "datasets", "tokenizers", "numpy")
"""Whose versions a report names."""


def read_runs(store: Store, fingerprints: Iterable[str], *, evaluation: str) -> dict[str, RunResult]:
    """What the store has of some runs.

    A record that cannot be read does not hide the others: what is wrong with it stands in `RunResult.problem`.

    Args:
        store: where the runs are.
        fingerprints: which ones; those it has never seen are left out.
        evaluation: identity of the evaluation whose scores are wanted.
    """
    directories = {key: store.run(key) for key in dict.fromkeys(fingerprints)}
    return {key: read_run(run, evaluation=evaluation) for key, run in directories.items() if run.path.is_dir()}


def read_run(run: RunDirectory, *, evaluation: str) -> RunResult:
    """What the store has of one run."""
    problems: list[str] = []

    def tried(read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except FileNotFoundError:
            return otherwise
        except (AssayError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(str(error).replace("\n", " ") or type(error).__name__)
            return otherwise

    def delivered() -> dict[str, Any] | None:
        found = run.delivered()
        if found is not None:
            given(found)  # fails on what has another shape
        return found

    nothing: list[dict[str, Any]] = []
    evaluated = run.evaluated(evaluation) if evaluation else False
    return RunResult(
        status=tried(run.status, Status(state="queued")),
        labels=tried(run.labels, {}),
        history=[record for record in tried(run.history, nothing) if isinstance(record, dict)],
        delivered=tried(delivered, None),
        scores=tried(lambda: run.scores(evaluation), None) if evaluated else None,
        problem="; ".join(problems) or None,
    )


def versions() -> dict[str, str]:
    """Of Python and of the programs that decide figures; those that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PROGRAMS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
