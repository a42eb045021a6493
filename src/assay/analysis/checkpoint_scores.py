"""Collect a sweep's scores at intermediate and final checkpoints, also during training."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.analysis.results import DAMAGE, ITEMS, SCORES, delivered_problem, items_of, scores_of, with_units

if TYPE_CHECKING:
    import pandas as pd

    from assay.plan.plan import Plan, PlannedRun
    from assay.store.evaluations import WeightsDirectory
    from assay.store.runs import Store

log = logging.getLogger(__name__)


def collect_checkpoint_scores(store: Store, plan: Plan) -> pd.DataFrame:
    """Collect the scores of a sweep's runs at intermediate checkpoints (`training.interim_evaluations`) and at the end.

    A run that is training or has failed has rows for its completed interim evaluations. An evaluation is excluded with
    a log message if its record is damaged, or if its delivered mix differs from the requested mix.

    Args:
        store: the store of the runs.
        plan: the sweep's plan, which names the evaluation to read.

    Returns:
        One row per mix, seed, tokens, task and metric: `mix, seed, scale, tokens, task, metric, value, n, stderr, chance`, with
        ascending `tokens` for each run. The final checkpoint of a run has `tokens` equal to the token budget. If no
        evaluation is completed, the table has no rows.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for evaluation in _evaluations(store, plan):
        try:
            rows += scores_of(evaluation.record, evaluation.run, plan.evaluation, tokens=evaluation.tokens)
        except DAMAGE as error:
            _log_excluded(evaluation, error)
    return with_units(pd.DataFrame(rows, columns=SCORES))


def collect_checkpoint_items(store: Store, plan: Plan) -> pd.DataFrame:
    """Collect the items behind `collect_checkpoint_scores`, per mix, seed, tokens, task and metric.

    Returns:
        `mix, seed, tokens, task, metric, item, value, group, weight`.
    """
    import pandas as pd

    parts: list[pd.DataFrame] = []
    for evaluation in _evaluations(store, plan):
        try:
            parts.append(items_of(evaluation.record, evaluation.run, plan.evaluation).assign(tokens=evaluation.tokens))
        except DAMAGE as error:
            _log_excluded(evaluation, error)
    columns = [*ITEMS[:2], "tokens", *ITEMS[2:]]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


class _Evaluation(NamedTuple):
    """A completed evaluation of a planned run, at an intermediate or the final checkpoint."""

    run: PlannedRun
    record: WeightsDirectory
    tokens: int


def _evaluations(store: Store, plan: Plan) -> Iterator[_Evaluation]:
    """Yield the valid evaluations of a plan's runs, in the plan's order and by tokens."""
    for run in plan.runs:
        if run.spec is None:
            continue
        directory, spec = store.run(run.spec.fingerprint), run.spec
        stops: list[tuple[WeightsDirectory, int]] = [
            (look, look.step) for look in directory.interim_evaluations() if look.step < spec.steps
        ]
        for record, step in [*stops, (directory, spec.steps)]:
            if not record.evaluated(plan.evaluation):
                continue
            evaluation = _Evaluation(run, record, step * spec.tokens_per_step)
            try:
                off = delivered_problem(spec, record.delivered(), step=step)
                problem = None if off is None else f"{off.code} {off.subject} {off.figures}"
            except DAMAGE as error:
                problem = str(error)
            if problem is None:
                yield evaluation
            else:
                _log_excluded(evaluation, problem)


def _log_excluded(evaluation: _Evaluation, problem: object) -> None:
    log.warning("%s at %s tokens is excluded: %s", evaluation.run.label, f"{evaluation.tokens:,}", problem)
