"""Run interim analyses of external results with several token counts per run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from assay.analysis.external import selection, verdict
from assay.core.errors import NotFound, did_you_mean

if TYPE_CHECKING:
    from assay.analysis.early_stopping import InterimResult
    from assay.config.study import Study
    from assay.store.runs import Store


def analyze_candidates(
    study: Study, store: Store, *, name: str, baseline: str, candidate: str | None, budget: float | None = None
) -> list[InterimResult]:
    """Analyze external results at each checkpoint, as `assay.analysis.early_stopping.analyze_interim` does.

    Args:
        study: the study, which provides policy and history.
        store: the store of the external results.
        name: name of the results, or path of a long table.
        baseline: the mix to compare with.
        candidate: the only candidate (default: every other mix at the scale).
        budget: tokens of a complete run (default: the baseline's maximum).

    Raises:
        AssayError: the results are invalid.
    """
    from assay.analysis.early_stopping import analyze_interim
    from assay.analysis.stats.history import HistoryTable
    from assay.analysis.stats.results_table import ResultsTable

    policy = selection.with_labels(study.policy)
    frame = selection.at_proxy(verdict.results(store, name, root=Path.cwd()), policy)
    mixes = [str(mix) for mix in frame["mix"].unique()]
    for mix in (baseline, *(() if candidate is None else (candidate,))):
        if mix not in mixes:
            raise NotFound(f"no mix is named {mix!r} in {name}. {did_you_mean(mix, mixes)}")
    names = [mix for mix in mixes if mix != baseline] if candidate is None else [candidate]
    if not names:
        raise NotFound(f"{name} contains no mix other than {baseline!r}.", fix="Add results of a candidate.")
    selection.require_same_settings(frame, baseline=baseline, candidates=names)
    whole = budget if budget is not None else float(frame.loc[frame["mix"] == baseline, "tokens"].max())
    past = None
    if study.history is not None:
        past = HistoryTable.of(verdict.results(store, study.history, root=Path(study.paths.root)))
    table, policy = ResultsTable.of(frame), policy.for_candidates(len(mixes) - 1)
    return [
        analyze_interim(table, policy, baseline=baseline, candidate=mix, budget_tokens=whole, history=past)
        for mix in names
    ]
