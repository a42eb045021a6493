"""Read scores and items of the store's finished runs of any sweep, as long tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.analysis.results import DAMAGE, ITEMS, SCORES, items_of, scores_of
from assay.plan.plan import PlannedRun
from assay.plan.speed import finished_runs, has_same_setup

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from assay.config.recipe import RunSpec
    from assay.plan.workspace import Workspace
    from assay.store.evaluations import WeightsDirectory
    from assay.store.runs import RunDirectory

RUNS_WITH_ITEMS = 24
"""Maximum number of runs whose items are read: eight mixes of three seeds. A run on all of MMLU has 60,000 items."""


class PastRun(NamedTuple):
    """A finished run of the store.

    Attributes:
        record: directory of the run.
        run: the run as a plan would contain it; its mix name is unique to its replicates.
        evaluation: fingerprint of the evaluation to read.
        comparable: whether proxy, budget and optimizer equal those of the study.
    """

    record: RunDirectory
    run: PlannedRun
    evaluation: str
    comparable: bool


def past_runs(space: Workspace, *, evaluation: str = "") -> list[PastRun]:
    """List the store's finished and evaluated runs, newest first.

    Args:
        space: the study, which defines the comparable runs.
        evaluation: fingerprint of the evaluation to read; runs without it use their newest evaluation.
    """
    runs = []
    for record, spec in finished_runs(space.store):
        chosen = evaluation if record.evaluated(evaluation) else record.newest_evaluation() or ""
        if chosen:
            mix = f"{record.labels().get('mix', 'mix')} {replace(spec, seed=0).short}"
            run = PlannedRun(mix=mix, seed=spec.seed, spec=spec, status="reuse")
            runs.append(PastRun(record, run, chosen, has_same_setup(space.runs, spec)))
    return runs


def of_one_evaluation(runs: Sequence[PastRun], evaluation: str) -> list[PastRun]:
    """Keep the runs of one evaluation, because noise differs between suites.

    The function keeps the runs of the given evaluation if any mix has replicates under this evaluation. Otherwise the
    function keeps the runs of the most frequent evaluation.
    """
    replicates = Counter(past.run.mix for past in runs if past.evaluation == evaluation)
    usual = Counter(past.evaluation for past in runs).most_common(1)
    chosen = evaluation if not usual or max(replicates.values(), default=0) > 1 else usual[0][0]
    return [past for past in runs if past.evaluation == chosen]


def past_scores(runs: Sequence[PastRun], *, intermediate: bool = False) -> pd.DataFrame:
    """Read the runs' scores as a long table; skip runs with a damaged record.

    Args:
        runs: as returned by `past_runs`.
        intermediate: whether to include the scores of intermediate checkpoints.

    Returns:
        `mix, seed, scale, tokens, task, metric, value, n, stderr, chance`.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for past in runs:
        spec = _spec(past)
        stops: list[tuple[WeightsDirectory, int]] = [(past.record, spec.steps)]
        if intermediate:
            stops = [
                *((look, look.step) for look in past.record.interim_evaluations() if look.step < spec.steps),
                *stops,
            ]
        for record, step in stops:
            try:
                if record.evaluated(past.evaluation):
                    rows += scores_of(record, past.run, past.evaluation, tokens=step * spec.tokens_per_step)
            except DAMAGE:
                continue  # a damaged past record must not stop a plan
    return pd.DataFrame(rows, columns=SCORES)


def past_items(runs: Sequence[PastRun]) -> pd.DataFrame:
    """Read the items of the newest comparable runs, in the form of `results.collect`.

    All runs have the same evaluation as the first comparable run.
    """
    import pandas as pd

    parts: list[pd.DataFrame] = []
    comparable = [past for past in runs if past.comparable]
    for past in comparable[:RUNS_WITH_ITEMS]:
        try:
            if past.evaluation == comparable[0].evaluation:
                parts.append(items_of(past.record, past.run, past.evaluation))
        except DAMAGE:
            continue
    return pd.concat(parts, ignore_index=True)[ITEMS] if parts else pd.DataFrame(columns=ITEMS)


def _spec(past: PastRun) -> RunSpec:
    assert past.run.spec is not None, "a finished run has a spec"
    return past.run.spec
