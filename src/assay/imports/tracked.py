"""From runs in W&B to rows of a long table: which field of a run's configuration is which label.

A run's labels come from its configuration, its scores from its summary: every number under the prefix, where what
follows is `TASK/METRIC`. The defaults are what `assay sync` writes; lm-eval's own logger has the prefix `""`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from assay.errors import AssayError, did_you_mean
from assay.imports.table import LABELS
from assay.publish.wandb_runs import FinishedRun

FIELDS: Mapping[str, tuple[str, ...]] = {
    "mix": ("mix",),
    "seed": ("seed",),
    "scale": ("scale", "parameters"),
    "tokens": ("tokens",),
}
"""Where a label stands in a run's configuration; the first that is there counts. Dots go into nested fields."""
PREFIX = "eval/"
STDERR = "_stderr"

Row = dict[str, Any]


def parse_fields(options: Sequence[str]) -> dict[str, str]:
    """`--field mix=recipe.name` as a mapping.

    Raises:
        AssayError: it names no label.
    """
    found = {}
    for option in options:
        name, equals, path = option.partition("=")
        if not equals or not path:
            raise AssayError(f"--field {option!r} says nothing.", fix="Write it as `--field mix=recipe.name`.")
        if name not in FIELDS:
            raise AssayError(f"--field {option!r}: there is no label {name!r}. {did_you_mean(name, FIELDS)}")
        found[name] = path
    return found


def rows_of(
    runs: Sequence[FinishedRun], *, project: str, fields: Mapping[str, str], prefix: str, given: Mapping[str, str]
) -> tuple[list[Row], list[str]]:
    """Rows of a long table, and what was left out.

    Args:
        runs: as W&B has them.
        project: for errors.
        fields: labels that stand elsewhere than in `FIELDS`.
        prefix: what the names of scores begin with.
        given: labels that an option gives; they win.

    Raises:
        AssayError: no run has scores, or a run with scores lacks a label.
    """
    rows: list[Row] = []
    silent = []
    for run in runs:
        scores = _scores(run.summary, prefix)
        if not scores:
            silent.append(run.name)
            continue
        labels = {name: given.get(name) or _label(run, name, fields, project) for name in LABELS}
        rows += [{**labels, **score} for score in scores]
    if not rows:
        raise AssayError(
            f"wandb://{project}: of {len(runs)} finished runs none has a number called {prefix}TASK/METRIC in its summary.",
            fix='Say what the names of scores begin with: --prefix PREFIX, or --prefix "" for lm-eval\'s own logger.',
        )
    names = ", ".join(silent[:5]) + (", ..." if len(silent) > 5 else "")
    return rows, [f"{len(silent)} runs without scores were left out ({names})."] if silent else []


def _label(run: FinishedRun, name: str, fields: Mapping[str, str], project: str) -> str:
    places = (fields[name],) if name in fields else FIELDS[name]
    for place in places:
        value: Any = run.config
        for part in place.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None and not isinstance(value, (Mapping, list)):
            return f"{value:.15g}" if isinstance(value, float) else str(value)
    raise AssayError(
        f"wandb://{project}: run {run.name!r} ({run.id}) has no {' or '.join(places)} in its configuration, so its {name} is not known. "
        f"{did_you_mean(places[0], [str(key) for key in run.config])}",
        fix=f"Say where it stands with --field {name}=PATH, or what it is with --{name}.",
    )


def _scores(summary: Mapping[str, Any], prefix: str) -> list[Row]:
    found = []
    for key, value in sorted(summary.items()):
        task, slash, metric = key.removeprefix(prefix).rpartition("/")
        if not key.startswith(prefix) or not slash or not task or metric.endswith(STDERR) or not _is_number(value):
            continue
        stderr = summary.get(f"{key}{STDERR}")
        found.append(
            {
                "task": task,
                "metric": metric.removesuffix(",none"),
                "value": float(value),
                "stderr": float(stderr) if _is_number(stderr) else None,
            }
        )
    return found


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
