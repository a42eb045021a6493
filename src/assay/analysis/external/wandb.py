"""Convert W&B runs to rows of a long table.

The labels of a run come from its configuration, and its scores from its summary. Every number in the summary whose name
is PREFIX followed by `TASK/METRIC` is a score. W&B writes numbers that are not finite as text, such as "NaN". The
defaults match runs of `assay sync`. Runs of lm-eval's logger have the prefix `""`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assay.analysis.external.table import LABELS, finite_or_none, score_of
from assay.analysis.external.wandb_api import FinishedRun
from assay.core.errors import ConfigError, NotFound, did_you_mean

FIELDS: Mapping[str, tuple[str, ...]] = {
    "mix": ("mix",),
    "seed": ("seed",),
    "scale": ("scale", "parameters"),
    "tokens": ("tokens",),
}
"""Configuration keys of each label; the first key that exists is used. Dots separate nested keys."""
PREFIX = "eval/"
STDERR = "_stderr"

Row = dict[str, Any]


def parse_fields(options: Sequence[str]) -> dict[str, str]:
    """Parse `--field mix=recipe.name` options to a mapping.

    Raises:
        AssayError: an option is malformed, or its label is unknown.
    """
    fields = {}
    for option in options:
        name, equals, path = option.partition("=")
        if not equals or not path:
            raise ConfigError(
                f"--field {option!r} is invalid; expected LABEL=KEY.", fix="Write `--field mix=recipe.name`."
            )
        if name not in FIELDS:
            raise ConfigError(f"--field {option!r}: no label is named {name!r}. {did_you_mean(name, FIELDS)}")
        fields[name] = path
    return fields


def rows_of(
    runs: Sequence[FinishedRun], *, project: str, fields: Mapping[str, str], prefix: str, given: Mapping[str, str]
) -> tuple[list[Row], list[str]]:
    """Return rows of a long table, and notes on the excluded runs.

    Args:
        runs: runs of a W&B project.
        project: name of the project, for error messages.
        fields: configuration key by label. The keys replace the keys of `FIELDS`.
        prefix: prefix of the names of scores.
        given: labels from options, which take precedence.

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
        raise NotFound(
            f"wandb://{project}: none of {len(runs)} finished runs has a number named {prefix}TASK/METRIC in its summary.",
            fix='Give the prefix of the names of scores: --prefix PREFIX, or --prefix "" for lm-eval\'s own logger.',
        )
    names = ", ".join(silent[:5]) + (", ..." if len(silent) > 5 else "")
    return rows, [f"{len(silent)} runs without scores were excluded ({names})."] if silent else []


def _label(run: FinishedRun, name: str, fields: Mapping[str, str], project: str) -> str:
    places = (fields[name],) if name in fields else FIELDS[name]
    for place in places:
        value: Any = run.config
        for part in place.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None and not isinstance(value, (Mapping, list)):
            return f"{value:.15g}" if isinstance(value, float) else str(value)
    raise NotFound(
        f"wandb://{project}: run {run.name!r} ({run.id}) has no {' or '.join(places)} in its configuration, so the {name} of the run is unknown. "
        f"{did_you_mean(places[0], [str(key) for key in run.config])}",
        fix=f"Give the key of the {name} with --field {name}=KEY, or its value with --{name}.",
    )


def _scores(summary: Mapping[str, Any], prefix: str) -> list[Row]:
    rows = []
    for key, value in sorted(summary.items()):
        task, slash, metric = key.removeprefix(prefix).rpartition("/")
        score = score_of(value)
        if not key.startswith(prefix) or not slash or not task or metric.endswith(STDERR) or score is None:
            continue
        stderr = score_of(summary.get(f"{key}{STDERR}"))
        rows.append(
            {
                "task": task,
                "metric": metric.removesuffix(",none"),
                "value": score,
                "stderr": finite_or_none(stderr),
            }
        )
    return rows
