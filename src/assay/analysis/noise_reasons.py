"""State where the noise of a comparison comes from, and which scores are outliers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.analysis.stats.sweep_model import OUTLIER
from assay.config.reason import Code, Reason

if TYPE_CHECKING:
    from assay.analysis.comparison import Comparison
    from assay.analysis.stats.results_table import ResultsTable
    from assay.analysis.stats.sweep_noise import SweepNoise
    from assay.analysis.stats.tables import Metric, Seed
    from assay.config.policy import Policy


def list_noise_reasons(comparisons: Sequence[Comparison]) -> list[Reason]:
    """State unpaired seeds, arms with a noise of their own, and histories whose noise disagrees with the sweep."""
    voters = [c for c in comparisons if c.votes]
    return [*_unpaired(comparisons), *_apart(voters), *_history(voters)]


def _unpaired(comparisons: Sequence[Comparison]) -> list[Reason]:
    by_seeds: dict[tuple[tuple[Seed, ...], tuple[Seed, ...]], list[Comparison]] = {}
    for c in comparisons:
        if c.pairing == "unpaired" and c.n_seeds:
            by_seeds.setdefault((c.baseline_seeds, c.candidate_seeds), []).append(c)
    return [
        Reason(
            code=Code.SEEDS_UNSHARED,
            subject=of[0].candidate,
            figures={
                "baseline": of[0].baseline,
                "baseline_seeds": first,
                "candidate_seeds": second,
                "shared": tuple(of[0].differences),
                "metrics": [{"task": c.task, "metric": c.metric} for c in of],
                "every": len(of) == len(comparisons),
            },
        )
        for (first, second), of in by_seeds.items()
    ]


def _apart(voters: Sequence[Comparison]) -> list[Reason]:
    apart = [c for c in voters if c.noise_apart]
    if not apart:
        return []
    metrics = [
        {
            "task": c.task,
            "metric": c.metric,
            "ratio": c.noise_ratio,
            "arms": c.noise_apart_arms,
            "between": c.noise_between,
        }
        for c in apart
    ]
    figures = {"baseline": apart[0].baseline, "metrics": metrics}
    return [Reason(code=Code.ARM_NOISE_DIFFERS, subject=apart[0].candidate, figures=figures)]


def _history(voters: Sequence[Comparison]) -> list[Reason]:
    unused = [c for c in voters if c.history_ratio > 0 and not c.noise_sources["history"]]
    if not unused:
        return []
    metrics = [{"task": c.task, "metric": c.metric, "ratio": c.history_ratio} for c in unused]
    return [Reason(code=Code.HISTORY_NOISE_UNUSED, figures={"metrics": metrics})]


Run = tuple[str, "Seed"]
"""A mix and a seed."""


def find_outliers(noise: SweepNoise, policy: Policy, candidate: str) -> dict[Run, list[dict[str, Any]]]:
    """Find the runs with outliers among the scores of voting metrics.

    The runs are those of the two compared arms, and of all other arms that contribute to the noise of the comparison. The
    level is divided among the voting metrics (Bonferroni).

    Returns:
        By mix and seed, the outliers as figures: task, metric, score, expected score and p-value.
    """
    voters: list[Metric] = [(c.task, c.metric) for c in (*policy.primary, *policy.guardrails)]
    found: dict[Run, list[dict[str, Any]]] = {}
    for task, metric in voters:
        model = noise.model((task, metric), candidate)
        others = model.pooled_arms if noise.compare(candidate, (task, metric)).sweep_df > 0 else ()
        informing = {noise.baseline, candidate, *others}
        for outlier in noise.outliers((task, metric), candidate):
            p = outlier.p * len(voters)
            if outlier.arm in informing and p < OUTLIER:
                figures = {"task": task, "metric": metric, "value": outlier.value, "expected": outlier.expected, "p": p}
                found.setdefault((outlier.arm, outlier.seed), []).append(figures)
    return found


def without_runs(results: ResultsTable, runs: Mapping[Run, Any]) -> ResultsTable:
    """Return the results without some runs."""
    named = zip(results.frame["mix"].astype(str), results.frame["seed"], strict=True)
    return results.select([run not in runs for run in named])  # type: ignore[arg-type]  # a list is a mask too


def list_outliers(
    outliers: Mapping[Run, list[dict[str, Any]]],
    decision: str,
    decide_without: Callable[[], tuple[str, bool]],
    *,
    arms: Collection[str],
) -> list[Reason]:
    """Name each outlying run, with the decision on all runs and the decision without the outlying runs.

    Args:
        outliers: as `find_outliers` returns them.
        decision: the decision on all runs.
        decide_without: returns the decision without the outlying runs, and whether fewer seeds than the policy requires are left.
        arms: the compared mixes. Runs of other mixes contribute only to the noise.
    """
    if not outliers:
        return []
    without, too_few = decide_without()
    return [
        Reason(
            code=Code.OUTLIER_SEED,
            subject=mix,
            figures={
                "seed": seed,
                "metrics": metrics,
                "decision": decision,
                "without": without,
                "too_few": too_few,
                "noise_only": mix not in arms,
            },
        )
        for (mix, seed), metrics in outliers.items()
    ]
