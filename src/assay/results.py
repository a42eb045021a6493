"""From run records to the frames that comparing reads; refuses runs that did not get what was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

    from assay.plan import Plan, PlannedRun
    from assay.recipe import RunSpec
    from assay.store import Store

ITEM_METRICS = ("acc", "acc_norm", "bits_per_byte")


class Results(NamedTuple):
    """What a sweep measured.

    Attributes:
        scores: one row a mix, seed, task and metric: `mix, seed, scale, tokens, task, metric, value, n, stderr, chance`.
        items: one row a mix, seed, task, metric and question: `item, value, group, weight` besides.
        missing: why a planned run has no row, by mix, in words.
    """

    scores: pd.DataFrame
    items: pd.DataFrame
    missing: dict[str, list[str]]


def collect(store: Store, plan: Plan) -> Results:
    """Read every evaluated run of a plan.

    A run whose delivered mix is not the requested one is left out, and said to be missing.
    """
    import pandas as pd

    scores: list[dict[str, Any]] = []
    items: list[pd.DataFrame] = []
    missing: dict[str, list[str]] = {}
    for run in plan.runs:
        problem = _problem(store, run, plan.evaluation)
        if problem is not None:
            missing.setdefault(run.mix, []).append(f"seed {run.seed}: {problem}")
            continue
        assert run.spec is not None
        record = store.run(run.spec.fingerprint)
        arm: dict[str, Any] = {"mix": run.mix, "seed": run.seed}
        place = {"scale": run.spec.model.parameters(run.spec.vocabulary), "tokens": run.spec.tokens}
        scores += [{**arm, **place, **score} for score in record.scores(plan.evaluation)]
        frame = pd.read_parquet(record.evaluation(plan.evaluation) / "items.parquet")
        items.append(_long(frame).assign(**arm))
    columns = ["mix", "seed", "scale", "tokens", "task", "metric", "value", "n", "stderr", "chance"]
    table = pd.DataFrame(scores, columns=columns)
    item_columns = ["mix", "seed", "task", "metric", "item", "value", "group", "weight"]
    questions = pd.concat(items, ignore_index=True) if items else pd.DataFrame(columns=item_columns)
    return Results(table, questions[item_columns], missing)


def _problem(store: Store, run: PlannedRun, evaluation: str) -> str | None:
    if run.spec is None:
        return "; ".join(run.reasons)
    record = store.run(run.spec.fingerprint)
    if not record.evaluated(evaluation):
        return f"{run.status}: {'; '.join(run.reasons)}"
    return delivered_problem(run.spec, record.delivered())


def delivered_problem(spec: RunSpec, delivered: Mapping[str, Any] | None) -> str | None:
    """In words, where a run did not get the mix it asked for; ``None`` where it did.

    The schedule keeps every source within one sequence of weight x position in each stage, so a source that is
    further off by more than that was not delivered.
    """
    if delivered is None:
        return "its record of what was delivered is missing"
    for source in spec.corpora:
        asked = sum(stage.weights.get(source, 0.0) * stage.steps * spec.batch_sequences for stage in spec.stages)
        given = delivered["delivered"].get(source, {}).get("sequences", 0)
        if abs(given - asked) > len(spec.stages) + 1e-6:
            return f"{source} gave {given} sequences where {asked:.1f} were requested"
    return None


def _long(items: pd.DataFrame) -> pd.DataFrame:
    """Questions with one row a metric; those of a group of tasks also under the group's name."""
    import pandas as pd

    items = items.assign(item=items["doc_hash"].astype(str) + ":" + items["prompt_hash"].astype(str))
    items["weight"] = items["bytes"].where(items["bytes"].notna(), 1.0) if "bytes" in items else 1.0
    parts = []
    for metric in ITEM_METRICS:
        if metric in items:
            part = items.loc[items[metric].notna()]
            parts.append(part.assign(metric=metric, value=part[metric]))
    long = pd.concat(parts, ignore_index=True)[["task", "group", "metric", "item", "value", "weight"]]
    grouped = long[long["group"] != long["task"]]
    # An item of mmlu_anatomy counts for mmlu too, clustered by its subject; by itself it is in no cluster.
    return pd.concat([long.assign(group=None), grouped.assign(task=grouped["group"], group=grouped["task"])])
