"""What the store's finished runs, of any sweep, say of noise and signal at a proxy: as long tables, like a history."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.plan import PlannedRun
from assay.results import DAMAGE, ITEMS, SCORES, items_of, scores_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from assay.recipe import RunSpec
    from assay.store import Measured, RunDirectory
    from assay.workspace import Workspace

WITH_QUESTIONS = 24
"""Runs whose questions are read: eight mixes of three seeds; a run with all of MMLU has 60 thousand."""


class PastRun(NamedTuple):
    """A finished run of the store.

    Attributes:
        record: its folder.
        run: as a plan would have it; its mix is a name of its own, shared by its replicates alone.
        evaluation: the evaluation that is read.
        alike: whether proxy, budget and optimiser are the study's.
    """

    record: RunDirectory
    run: PlannedRun
    evaluation: str
    alike: bool


def past_runs(space: Workspace, *, evaluation: str = "") -> list[PastRun]:
    """The newest finished runs of the store that were evaluated.

    Args:
        space: the study, which says what is alike.
        evaluation: identity of the one to read; of runs without it, the newest that they have.
    """
    found = []
    for record, spec in space.finished():
        wanted = evaluation if record.evaluated(evaluation) else _newest(record)
        if wanted:
            mix = f"{record.labels().get('mix', 'mix')} {replace(spec, seed=0).short}"
            run = PlannedRun(mix=mix, seed=spec.seed, spec=spec, status="reuse")
            found.append(PastRun(record, run, wanted, space.alike(spec)))
    return found


def of_one_evaluation(runs: Sequence[PastRun], evaluation: str) -> list[PastRun]:
    """The runs of one evaluation, as questions of another suite have other noise.

    That is the one named where anything has replicates under it, else that of most runs.
    """
    mine = Counter(past.run.mix for past in runs if past.evaluation == evaluation)
    usual = Counter(past.evaluation for past in runs).most_common(1)
    chosen = evaluation if not usual or max(mine.values(), default=0) > 1 else usual[0][0]
    return [past for past in runs if past.evaluation == chosen]


def past_scores(runs: Sequence[PastRun], *, looks: bool = False) -> pd.DataFrame:
    """Their scores as a long table; runs with a damaged record are left out.

    Args:
        runs: as `past_runs` gives them.
        looks: whether to give those of earlier tokens too, where a run was looked at on its way.

    Returns:
        `mix, seed, scale, tokens, task, metric, value, n, stderr, chance`, and `alike`.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for past in runs:
        spec = _spec(past)
        stops: list[tuple[Measured, int]] = [(past.record, spec.steps)]
        if looks:
            stops = [*((look, look.step) for look in past.record.looks() if look.step < spec.steps), *stops]
        for record, step in stops:
            try:
                if record.evaluated(past.evaluation):
                    scores = scores_of(record, past.run, past.evaluation, tokens=step * spec.tokens_per_step)
                    rows += [{**score, "alike": past.alike} for score in scores]
            except DAMAGE:
                continue  # what cannot be read teaches nothing, and stops no plan
    return pd.DataFrame(rows, columns=[*SCORES, "alike"])


def past_items(runs: Sequence[PastRun]) -> pd.DataFrame:
    """The questions of the newest runs that are alike and have the first one's evaluation, as `results.collect` has them."""
    import pandas as pd

    parts: list[pd.DataFrame] = []
    alike = [past for past in runs if past.alike]
    for past in alike[:WITH_QUESTIONS]:
        try:
            if past.evaluation == alike[0].evaluation:
                parts.append(items_of(past.record, past.run, past.evaluation))
        except DAMAGE:
            continue
    return pd.concat(parts, ignore_index=True)[ITEMS] if parts else pd.DataFrame(columns=ITEMS)


def _spec(past: PastRun) -> RunSpec:
    assert past.run.spec is not None, "a finished run has a spec"
    return past.run.spec


def _newest(record: RunDirectory) -> str:
    """The evaluation that was put there last; empty where there is none."""
    folders = [folder for folder in (record.path / "evaluations").glob("*") if record.evaluated(folder.name)]
    return max(folders, key=lambda folder: folder.stat().st_mtime_ns).name if folders else ""
