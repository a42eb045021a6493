"""Read the results of a plan from run records; exclude runs with a wrong delivered mix."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.analysis.stats.checkpoint_average import average_last
from assay.analysis.stats.units import EQUAL
from assay.config.metrics import BITS_PER_BYTE, FRACTIONS, ITEM_METRICS, without_filter
from assay.config.reason import Code, Reason
from assay.core.errors import AssayError, Damaged, NotFound, Refused

if TYPE_CHECKING:
    import pandas as pd

    from assay.config.recipe import RunSpec
    from assay.plan.plan import Plan, PlannedRun
    from assay.store.evaluations import WeightsDirectory
    from assay.store.runs import Store

SCORES = ["mix", "seed", "scale", "tokens", "task", "metric", "value", "n", "stderr", "chance"]
"""Columns of the scores."""
ITEMS = ["mix", "seed", "task", "metric", "item", "value", "group", "weight"]
"""Columns of the item scores."""
DAMAGE = (Damaged, NotFound, Refused, OSError, ValueError, KeyError, TypeError, AttributeError)
"""Errors of a damaged record.

Damaged JSON raises Damaged, tables raise NotFound and Refused, and Parquet raises OSError and ValueError. Unexpected
contents raise the remaining errors.
"""


class Results(NamedTuple):
    """The measured results of a sweep.

    Attributes:
        scores: one row per mix, seed, task and metric: `mix, seed, scale, tokens, task, metric, value, n, stderr, chance`, and
            `unit` if a metric is between 0 and 1. If the plan averages checkpoints, `value` is the mean and the column
            `checkpoints` has their number.
        items: one row per mix, seed, task, metric and item, with `item, value, group, weight`.
        missing: why planned runs have no rows, by mix. Each reason names its seeds.
    """

    scores: pd.DataFrame
    items: pd.DataFrame
    missing: dict[str, list[Reason]]


def collect(store: Store, plan: Plan) -> Results:
    """Read every evaluated run of a plan.

    A run is excluded and listed as missing in three cases: the delivered mix differs from the requested mix, the record or the
    spec is damaged, or a required checkpoint has no scores.
    """
    import pandas as pd

    scores: list[pd.DataFrame] = []
    items: list[pd.DataFrame] = []
    missing: dict[str, dict[Reason, list[int]]] = {}
    for run in plan.runs:
        try:
            problem = _problem(store, run, plan)
            if problem is None:
                run_scores, run_items = _read(store, run, plan)
                scores.append(run_scores)
                items.append(run_items)
        except DAMAGE as error:
            problem = Reason(code=Code.RECORD_UNREADABLE, figures={"error": _error_line(error)})
        if problem is not None:
            missing.setdefault(run.mix, {}).setdefault(problem, []).append(run.seed)
    table = pd.concat(scores, ignore_index=True) if scores else pd.DataFrame(columns=SCORES)
    all_items = pd.concat(items, ignore_index=True) if items else pd.DataFrame(columns=ITEMS)
    reasons = {
        mix: [
            Reason(code=Code.MISSING_RUNS, figures={"seeds": sorted(seeds)}, causes=(problem,))
            for problem, seeds in problems.items()
        ]
        for mix, problems in missing.items()
    }
    return Results(with_units(table), all_items[ITEMS], reasons)


def with_units(scores: pd.DataFrame) -> pd.DataFrame:
    """Declare the unit of metrics between 0 and 1 in a column `unit`.

    All runs of one evaluation report a metric in the same unit. Some lm-eval tasks report percentages, so that a value above 1
    shows that all values of its metric are in percent. Without such a value, the comparison only checks whether standard errors
    and item counts fit fractions (`EQUAL`).

    Args:
        scores: scores of one evaluation.
    """
    import numpy as np
    import pandas as pd

    fractions = scores["metric"].map(without_filter).isin(FRACTIONS).to_numpy(dtype=bool)
    if not fractions.any():
        return scores
    finite = scores["value"].where(np.isfinite(scores["value"].to_numpy(dtype=float)))
    largest = finite.groupby([scores["task"], scores["metric"]]).transform("max")
    units = pd.Series("percent", index=scores.index, dtype=object).where(largest > 1, EQUAL)
    return scores.assign(unit=units.where(fractions, None))


def _error_line(error: Exception) -> str:
    """Return an error's message in one line, with the type of unexpected errors."""
    kind = "" if isinstance(error, (AssayError, OSError)) else f"{type(error).__name__}: "
    return f"{kind}{error}".replace("\n", " ")


def _read(store: Store, run: PlannedRun, plan: Plan) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the scores and the items of an evaluated run, averaged over the required checkpoints."""
    import pandas as pd

    assert run.spec is not None, "an evaluated run has a spec"
    store.run(run.spec.fingerprint).spec()  # raises if the trained spec differs
    scores, items = [], []
    for record, step in checkpoints(store, run, plan):
        tokens = step * run.spec.tokens_per_step
        scores += scores_of(record, run, plan.evaluation, tokens=tokens)
        items.append(items_of(record, run, plan.evaluation).assign(tokens=tokens))
    table, item_table = pd.DataFrame(scores, columns=SCORES), pd.concat(items, ignore_index=True)
    averaged = average_last(table, len(items), items=item_table)
    assert averaged.items is not None
    return averaged.scores, averaged.items


def checkpoints(store: Store, run: PlannedRun, plan: Plan) -> list[tuple[WeightsDirectory, int]]:
    """Return the checkpoints behind a run's score with their steps. The final weights are last."""
    assert run.spec is not None, "a run that may be evaluated has a spec"
    record, spec = store.run(run.spec.fingerprint), run.spec
    return [*((record.interim(step), step) for step in spec.steps_at(plan.average.shares)), (record, spec.steps)]


def scores_of(record: WeightsDirectory, run: PlannedRun, evaluation: str, *, tokens: int) -> list[dict[str, Any]]:
    """Read the scores of a planned run's weights after `tokens` tokens, with the columns `SCORES`."""
    assert run.spec is not None, "what was evaluated has a spec"
    scale = run.spec.model.parameters(run.spec.vocabulary)
    columns = {"mix": run.mix, "seed": run.seed, "scale": scale, "tokens": tokens}
    return [{**columns, **score} for score in record.scores(evaluation)]


def items_of(record: WeightsDirectory, run: PlannedRun, evaluation: str) -> pd.DataFrame:
    """Read the item scores of a planned run's weights, with the columns `ITEMS`."""
    import pandas as pd

    frame = pd.read_parquet(record.evaluation(evaluation) / "items.parquet")
    return _long(frame).assign(mix=run.mix, seed=run.seed)


def _problem(store: Store, run: PlannedRun, plan: Plan) -> Reason | None:
    if run.spec is None:
        return Reason(code=Code.NOT_FINISHED, causes=run.reasons)
    *interim, (final, _) = checkpoints(store, run, plan)
    if not final.evaluated(plan.evaluation):
        return Reason(code=Code.NOT_FINISHED, subject=run.status, causes=run.reasons)
    lacking = [step for weights, step in interim if not weights.evaluated(plan.evaluation)]
    if lacking or len(interim) < plan.average.last - 1:
        figures = {"steps": lacking, "run_steps": run.spec.steps, "last": plan.average.last}
        return Reason(code=Code.CHECKPOINTS_NOT_SCORED, figures=figures)
    problems = (
        delivered_problem(run.spec, weights.delivered(), step=step)
        for weights, step in [*interim, (final, run.spec.steps)]
    )
    return next((problem for problem in problems if problem is not None), None)


def delivered_problem(spec: RunSpec, delivered: Mapping[str, Any] | None, *, step: int | None = None) -> Reason | None:
    """Return a reason that names a source with a wrong delivered amount; None if there is no such source.

    In each stage, the schedule delivers every source within one sequence of weight x position. A larger difference
    means that the run did not train on the requested mix.

    Args:
        spec: the requested run.
        delivered: the delivered sequences by source, as in the run's record; None if unknown.
        step: last step to count (default: the end).
    """
    if delivered is None:
        return Reason(code=Code.DELIVERED_UNKNOWN)
    stages = spec.stages_until(spec.steps if step is None else step)
    for source in spec.corpora:
        requested = sum(stage.weights.get(source, 0.0) * stage.steps * spec.batch_sequences for stage in stages)
        actual = delivered["delivered"].get(source, {}).get("sequences", 0)
        if abs(actual - requested) > len(spec.stages) + 1e-6:
            return Reason(
                code=Code.DELIVERED_OFF, subject=source, figures={"delivered": actual, "requested": requested}
            )
    return None


def _long(items: pd.DataFrame) -> pd.DataFrame:
    """Return items with one row per metric, also under the name of their task group."""
    import pandas as pd

    items = items.assign(item=items["doc_hash"].astype(str) + ":" + items["prompt_hash"].astype(str))
    # Stored evaluations of earlier versions have neither column, or only that of held-out documents.
    ones = pd.Series(1.0, index=items.index)
    weights = dict.fromkeys(ITEM_METRICS, items["weight"].fillna(ones) if "weight" in items else ones)
    weights[BITS_PER_BYTE] = ones
    if "bytes" in items:
        weights[BITS_PER_BYTE] = items["bytes"].fillna(_bytes_of_documents(items)).fillna(1.0)
    parts = []
    for metric in ITEM_METRICS:
        if metric in items:
            part = items.assign(weight=weights[metric]).loc[items[metric].notna()]
            parts.append(part.assign(metric=metric, value=part[metric]))
    long = pd.concat(parts, ignore_index=True)[["task", "group", "metric", "item", "value", "weight"]]
    grouped = long[long["group"] != long["task"]]
    # An item of mmlu_anatomy also counts for mmlu, clustered by subject. For mmlu_anatomy itself, the item has no
    # cluster.
    return pd.concat([long.assign(group=None), grouped.assign(task=grouped["group"], group=grouped["task"])])


def _bytes_of_documents(items: pd.DataFrame) -> pd.Series[float]:
    """Return the bytes of documents that earlier versions stored as their only choice; NaN for other items."""
    import pandas as pd

    if not {"is_greedy", "choice_bytes"} <= set(items):
        return pd.Series(math.nan, index=items.index)
    documents = items["is_greedy"].isna() & items["choice_bytes"].notna()
    return items["choice_bytes"].where(documents).str[0].astype(float)
