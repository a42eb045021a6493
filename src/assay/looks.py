"""The scores of a sweep's runs at several points of their training, also while they train."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.results import DAMAGE, ITEMS, SCORES, delivered_problem, items_of, scores_of

if TYPE_CHECKING:
    import pandas as pd

    from assay.plan import Plan, PlannedRun
    from assay.store import Measured, Store

log = logging.getLogger(__name__)


def collect_looks(store: Store, plan: Plan) -> pd.DataFrame:
    """The scores of a sweep's runs wherever they were looked at: on the way (`training.looks`) and at the end.

    A run that still trains, or that failed on its way, has the rows of the looks that were taken. What did not get
    the mix that was asked for up to there, or has a damaged record, is left out, and the log says so.

    Args:
        store: where the runs are.
        plan: the sweep's; looks of its evaluation are read.

    Returns:
        One row a mix, seed, tokens, task and metric: `mix, seed, scale, tokens, task, metric, value, n, stderr, chance`, with
        rising `tokens` for each run; a run whose last tokens are its budget is evaluated to its end. No rows where
        nothing was evaluated yet.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for one in _taken(store, plan):
        try:
            rows += scores_of(one.record, one.run, plan.evaluation, tokens=one.tokens)
        except DAMAGE as error:
            _left_out(one, error)
    return pd.DataFrame(rows, columns=SCORES)


def collect_look_items(store: Store, plan: Plan) -> pd.DataFrame:
    """The questions behind `collect_looks`: a row for each of a mix, seed, tokens, task and metric.

    Returns:
        `mix, seed, tokens, task, metric, item, value, group, weight`.
    """
    import pandas as pd

    parts: list[pd.DataFrame] = []
    for one in _taken(store, plan):
        try:
            parts.append(items_of(one.record, one.run, plan.evaluation).assign(tokens=one.tokens))
        except DAMAGE as error:
            _left_out(one, error)
    columns = [*ITEMS[:2], "tokens", *ITEMS[2:]]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


class _Taken(NamedTuple):
    """One evaluation of a planned run, on its way or at its end."""

    run: PlannedRun
    record: Measured
    tokens: int


def _taken(store: Store, plan: Plan) -> Iterator[_Taken]:
    """All that were taken of a plan's runs, in its order and by tokens."""
    for run in plan.runs:
        if run.spec is None:
            continue
        directory, spec = store.run(run.spec.fingerprint), run.spec
        stops: list[tuple[Measured, int]] = [(look, look.step) for look in directory.looks() if look.step < spec.steps]
        for record, step in [*stops, (directory, spec.steps)]:
            if not record.evaluated(plan.evaluation):
                continue
            one = _Taken(run, record, step * spec.tokens_per_step)
            try:
                problem = delivered_problem(spec, record.delivered(), step=step)
            except DAMAGE as error:
                problem = str(error)
            if problem is None:
                yield one
            else:
                _left_out(one, problem)


def _left_out(one: _Taken, problem: object) -> None:
    log.warning("%s at %s tokens is left out: %s", one.run.label, f"{one.tokens:,}", problem)
