"""From run records to the frames that comparing reads; refuses runs that did not get what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.errors import AssayError
from assay.stats.checkpoints import average_last

if TYPE_CHECKING:
    import pandas as pd

    from assay.plan import Plan, PlannedRun
    from assay.recipe import RunSpec
    from assay.store import Measured, Store

ITEM_METRICS = ("acc", "acc_norm", "bits_per_byte")
SCORES = ["mix", "seed", "scale", "tokens", "task", "metric", "value", "n", "stderr", "chance"]
"""Columns of the scores."""
ITEMS = ["mix", "seed", "task", "metric", "item", "value", "group", "weight"]
"""Columns of the questions behind them."""
DAMAGE = (AssayError, OSError, ValueError, KeyError, TypeError, AttributeError)
"""What a damaged record raises: AssayError of JSON, OSError and ValueError of Parquet, the others of what is inside."""


class Results(NamedTuple):
    """What a sweep measured.

    Attributes:
        scores: one row a mix, seed, task and metric: `mix, seed, scale, tokens, task, metric, value, n, stderr, chance`; means
            over the last checkpoints, which the column `checkpoints` counts, where the plan asks for that.
        items: one row a mix, seed, task, metric and question: `item, value, group, weight` besides.
        missing: why a planned run has no row, by mix, in words.
    """

    scores: pd.DataFrame
    items: pd.DataFrame
    missing: dict[str, list[str]]


def collect(store: Store, plan: Plan) -> Results:
    """Read every evaluated run of a plan.

    A run whose delivered mix is not the requested one, whose record is damaged (its spec, too, which says what was
    trained), or of which a checkpoint that counts was not scored, is left out and said to be missing.
    """
    import pandas as pd

    scores: list[pd.DataFrame] = []
    items: list[pd.DataFrame] = []
    missing: dict[str, dict[str, list[int]]] = {}
    for run in plan.runs:
        try:
            problem = _problem(store, run, plan)
            if problem is None:
                measured, questions = _read(store, run, plan)
                scores.append(measured)
                items.append(questions)
        except DAMAGE as error:
            problem = f"its record cannot be read: {_told(error)}"
        if problem is not None:
            missing.setdefault(run.mix, {}).setdefault(problem.rstrip("."), []).append(run.seed)
    table = pd.concat(scores, ignore_index=True) if scores else pd.DataFrame(columns=SCORES)
    everything = pd.concat(items, ignore_index=True) if items else pd.DataFrame(columns=ITEMS)
    told = {
        mix: [f"{_seeds(seeds)}: {problem}" for problem, seeds in problems.items()] for mix, problems in missing.items()
    }
    return Results(table, everything[ITEMS], told)


def _told(error: Exception) -> str:
    """What is wrong with a record and what to do, in one line; of other errors than ours their kind, too."""
    kind = "" if isinstance(error, (AssayError, OSError)) else f"{type(error).__name__}: "
    return f"{kind}{error}".replace("\n", " ")


def _seeds(seeds: Sequence[int]) -> str:
    """Seeds as people say them, three and more in a row by their ends: `seed 3`, `seeds 0 to 4, 7, 8`."""
    rows: list[list[int]] = []
    for seed in sorted(seeds):
        if rows and seed == rows[-1][-1] + 1:
            rows[-1].append(seed)
        else:
            rows.append([seed])
    parts = [f"{row[0]} to {row[-1]}" if len(row) > 2 else ", ".join(map(str, row)) for row in rows]
    return f"seed{'s' * (len(seeds) != 1)} {', '.join(parts)}"


def _read(store: Store, run: PlannedRun, plan: Plan) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scores of an evaluated run and its questions, averaged over the checkpoints that count."""
    import pandas as pd

    assert run.spec is not None, "an evaluated run has a spec"
    store.run(run.spec.fingerprint).spec()  # raises unless it says that this is what was trained
    scores, items = [], []
    for record, step in checkpoints(store, run, plan):
        tokens = step * run.spec.tokens_per_step
        scores += scores_of(record, run, plan.evaluation, tokens=tokens)
        items.append(items_of(record, run, plan.evaluation).assign(tokens=tokens))
    table, questions = pd.DataFrame(scores, columns=SCORES), pd.concat(items, ignore_index=True)
    averaged = average_last(table, len(items), items=questions)
    assert averaged.items is not None
    return averaged.scores, averaged.items


def checkpoints(store: Store, run: PlannedRun, plan: Plan) -> list[tuple[Measured, int]]:
    """The weights that a run's score comes from, and after which step each was taken; the final ones last."""
    assert run.spec is not None, "a run that may be evaluated has a spec"
    record, spec = store.run(run.spec.fingerprint), run.spec
    return [*((record.look(step), step) for step in spec.steps_at(plan.average.shares)), (record, spec.steps)]


def scores_of(record: Measured, run: PlannedRun, evaluation: str, *, tokens: int) -> list[dict[str, Any]]:
    """The scores of a planned run's weights, the final ones or those after so many tokens, with the columns `SCORES`."""
    assert run.spec is not None, "what was evaluated has a spec"
    scale = run.spec.model.parameters(run.spec.vocabulary)
    place = {"mix": run.mix, "seed": run.seed, "scale": scale, "tokens": tokens}
    return [{**place, **score} for score in record.scores(evaluation)]


def items_of(record: Measured, run: PlannedRun, evaluation: str) -> pd.DataFrame:
    """The questions behind the scores of a planned run's weights, with the columns `ITEMS`."""
    import pandas as pd

    frame = pd.read_parquet(record.evaluation(evaluation) / "items.parquet")
    return _long(frame).assign(mix=run.mix, seed=run.seed)


def _problem(store: Store, run: PlannedRun, plan: Plan) -> str | None:
    if run.spec is None:
        return "; ".join(run.reasons)
    *looks, (final, _) = checkpoints(store, run, plan)
    if not final.evaluated(plan.evaluation):
        return f"{run.status}: {'; '.join(run.reasons)}"
    lacking = [str(step) for look, step in looks if not look.evaluated(plan.evaluation)]
    if lacking or len(looks) < plan.average.last - 1:
        at = f"after step {', '.join(lacking)}" if lacking else f"in a run of {run.spec.steps} steps"
        return f"it was not scored {at}, and a score is the mean over the last {plan.average.last} checkpoints"
    problems = (
        delivered_problem(run.spec, look.delivered(), step=step) for look, step in [*looks, (final, run.spec.steps)]
    )
    return next((problem for problem in problems if problem is not None), None)


def delivered_problem(spec: RunSpec, delivered: Mapping[str, Any] | None, *, step: int | None = None) -> str | None:
    """In words, where a run did not get the mix it asked for; ``None`` where it did.

    The schedule keeps every source within one sequence of weight x position in each stage, so a source that is
    further off by more than that was not delivered.

    Args:
        spec: what was asked for.
        delivered: what was given.
        step: up to which step; left out, to the end.
    """
    if delivered is None:
        return "its record of what was delivered is missing"
    stages = spec.stages_until(spec.steps if step is None else step)
    for source in spec.corpora:
        asked = sum(stage.weights.get(source, 0.0) * stage.steps * spec.batch_sequences for stage in stages)
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
