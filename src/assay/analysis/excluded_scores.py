"""List the missing and excluded scores of a comparison, by mix and seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.analysis.stats.tables import Metric, Seed, seed_order
from assay.config.reason import Code, Reason

if TYPE_CHECKING:
    from assay.analysis.stats.score_table import ScoreTable

CODES = frozenset({Code.SCORES_MISSING, Code.SCORES_NOT_FINITE})
"""Codes of the reasons of this module."""


def list_excluded_scores(
    table: ScoreTable,
    baseline: str,
    candidate: str,
    *,
    known: Mapping[str, Sequence[Reason]],
) -> list[Reason]:
    """List the scores of two arms that are missing or not finite, with one reason per mix and set of seeds.

    A comparison has the seeds for which at least one arm has a score.

    Args:
        table: the scores of both arms.
        baseline: the mix to compare with.
        candidate: the changed mix.
        known: causes of missing runs by mix. The function does not list the seeds of these causes again.
    """
    arms = (baseline, candidate)
    metrics = list(dict.fromkeys(metric for mix in arms for metric in table.metrics(mix)))
    seeds = sorted({seed for mix in arms for seed in table.every_seed(mix)}, key=seed_order)
    missing: dict[tuple[str, tuple[Seed, ...]], list[Metric]] = {}
    broken: dict[tuple[str, tuple[Seed, ...]], list[Metric]] = {}
    for mix in arms:
        expected = [seed for seed in seeds if seed not in _known_seeds(known.get(mix, ()))]
        for metric in metrics:
            scores = table.scores(mix, *metric)
            if scores.broken:
                broken.setdefault((mix, tuple(scores.broken)), []).append(metric)
            lacking = tuple(seed for seed in expected if seed not in scores.by_seed and seed not in scores.broken)
            if lacking:
                missing.setdefault((mix, lacking), []).append(metric)
    return [
        *(
            _reason(
                Code.SCORES_NOT_FINITE,
                mix,
                lost,
                of,
                values=[str(table.scores(mix, *of[0]).broken[seed]) for seed in lost],
            )
            for (mix, lost), of in broken.items()
        ),
        *(
            _reason(Code.SCORES_MISSING, mix, lost, of, every=len(of) == len(metrics))
            for (mix, lost), of in missing.items()
        ),
    ]


def broken_metrics(excluded: Iterable[Reason]) -> frozenset[Metric]:
    """Return the metrics with scores that are not finite."""
    return frozenset(
        (metric["task"], metric["metric"])
        for reason in excluded
        if reason.code is Code.SCORES_NOT_FINITE
        for metric in reason.figures["metrics"]
    )


def with_excluded_scores(
    known: Mapping[str, Sequence[Reason]], reasons: Iterable[Reason]
) -> dict[str, tuple[Reason, ...]]:
    """Add the excluded scores that verdicts report to the causes of missing runs, by mix."""
    by_mix = {mix: dict.fromkeys(causes) for mix, causes in known.items()}
    for reason in reasons:
        if reason.code in CODES:
            by_mix.setdefault(reason.subject, {})[reason] = None
    return {mix: tuple(causes) for mix, causes in by_mix.items()}


def _reason(code: Code, mix: str, seeds: Sequence[Seed], metrics: Sequence[Metric], **more: Any) -> Reason:
    listed = [{"task": task, "metric": metric} for task, metric in metrics]
    return Reason(code=code, subject=mix, figures={"seeds": seeds, "metrics": listed, **more})


def _known_seeds(causes: Sequence[Reason]) -> set[Any]:
    """Return the seeds of planned runs without results."""
    return {seed for cause in causes if cause.code is Code.MISSING_RUNS for seed in cause.figures["seeds"]}
