"""Out of the store what a report shows: the only reading that the published views do."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, TypeVar

from assay.errors import AssayError
from assay.publish.details import Details, LookShown
from assay.publish.report import RunResult, finite, given
from assay.results import DAMAGE
from assay.store import RunDirectory, Status, Store
from assay.tails import last_lines

if TYPE_CHECKING:
    import pandas as pd

    from assay.compare import Comparison
    from assay.effects import Ranks
    from assay.plan import Plan, PlannedRun
    from assay.publish.details import FindingShown
    from assay.publish.flips import Flips
    from assay.references import ReferenceScore

log = logging.getLogger(__name__)

T = TypeVar("T")

PROGRAMS = ("assay", "torch", "transformers", "lm_eval", "datasets", "tokenizers", "numpy")
"""Whose versions a report names."""

TAIL = 12
"""Lines of its log that are shown of a run."""

SEEDS = 5
"""Of each mix whose questions are read: more seeds tell no more of a single question."""
RUNS = 120
"""Whose questions are read at most; it takes some 10 ms a run."""


def read_runs(store: Store, fingerprints: Iterable[str], *, evaluation: str) -> dict[str, RunResult]:
    """What the store has of some runs.

    A record that cannot be read does not hide the others: what is wrong with it stands in `RunResult.problem`.

    Args:
        store: where the runs are.
        fingerprints: which ones; those it has never seen are left out.
        evaluation: identity of the evaluation whose scores are wanted.
    """
    directories = {key: store.run(key) for key in dict.fromkeys(fingerprints)}
    return {key: read_run(run, evaluation=evaluation) for key, run in directories.items() if run.path.is_dir()}


def read_run(run: RunDirectory, *, evaluation: str) -> RunResult:
    """What the store has of one run."""
    problems: list[str] = []

    def tried(read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except FileNotFoundError:
            return otherwise
        except (AssayError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(str(error).replace("\n", " ") or type(error).__name__)
            return otherwise

    def delivered() -> dict[str, Any] | None:
        found = run.delivered()
        if found is not None:
            given(found)  # fails on what has another shape
        return found

    nothing: list[dict[str, Any]] = []
    evaluated = run.evaluated(evaluation) if evaluation else False
    return RunResult(
        status=tried(run.status, Status(state="queued")),
        labels=tried(run.labels, {}),
        history=[record for record in tried(run.history, nothing) if isinstance(record, dict)],
        delivered=tried(delivered, None),
        scores=tried(lambda: run.scores(evaluation), None) if evaluated else None,
        problem="; ".join(problems) or None,
        log=tuple(tried(lambda: last_lines(run.log, TAIL), list[str]())),
    )


def read_details(
    store: Store,
    plan: Plan,
    *,
    published: Iterable[ReferenceScore] = (),
    bytes_per_token: Mapping[str, float] | None = None,
    findings: Iterable[FindingShown] = (),
    runs: Mapping[str, RunResult] | None = None,
    comparisons: Iterable[Comparison] = (),
) -> Details:
    """What a page shows beyond the records of the runs; what is damaged of it is left out, and the log says so.

    Args:
        store: where the runs are.
        plan: the sweep's.
        published: reference models' scores that the sweep's may be set beside.
        bytes_per_token: by source.
        findings: of the sweep's sources.
        runs: what the store has of them, by fingerprint; their scores are ranked.
        comparisons: that say which metrics have signal, and which direction is better.
    """
    from assay.curves import Record, match

    def tried(what: str, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except DAMAGE as error:
            log.warning("the page goes without %s: %s", what, error)
            return otherwise

    records = {key: Record(run.history, run.delivered) for key, run in (runs or {}).items()}
    return Details(
        looks=tried("scores by tokens", lambda: _looks(store, plan), ()),
        flips=tried("flipped questions", lambda: _flips(store, plan), ()),
        matches=tried("tokens to match", lambda: match(store, plan, records=records), None),
        published=tuple(published),
        bytes_per_token=dict(bytes_per_token or {}),
        findings=tuple(findings),
        ranks=_ranks(plan, runs or {}, list(comparisons)),
    )


def _ranks(plan: Plan, runs: Mapping[str, RunResult], comparisons: Sequence[Comparison]) -> Ranks | None:
    """The average rank of each mix that has scores; ``None`` where there is nothing to rank."""
    import pandas as pd

    from assay.effects import average_ranks

    rows = [
        {"mix": run.mix, "seed": run.seed, **{key: score.get(key) for key in ("task", "metric", "value")}}
        for run in plan.runs
        if run.fingerprint is not None and run.fingerprint in runs
        for score in runs[run.fingerprint].scores or ()
    ]
    if not rows or not comparisons:
        return None
    table = pd.DataFrame(rows)
    ranked = {row["mix"] for row in rows}
    mixes = [mix for mix in plan.sweep.mixes if mix in ranked]
    try:
        return average_ranks(table, comparisons, mixes=mixes)
    except DAMAGE as error:
        log.info("the mixes are not ranked: %s", error)
        return None


def _looks(store: Store, plan: Plan) -> tuple[LookShown, ...]:
    from assay.looks import collect_looks

    if not any(store.run(run.fingerprint).looks() for run in plan.runs if run.fingerprint):
        return ()  # the ends alone are no curve
    return tuple(
        LookShown(
            mix=str(row["mix"]),
            seed=int(row["seed"]),
            tokens=int(row["tokens"]),
            task=str(row["task"]),
            metric=str(row["metric"]),
            value=float(row["value"]),
        )
        for row in collect_looks(store, plan).to_dict("records")
        if finite(row["value"]) is not None
    )


def _flips(store: Store, plan: Plan) -> tuple[Flips, ...]:
    import pandas as pd

    from assay.publish.flips import flips

    seeds, mixes = plan.sweep.seeds[:SEEDS], plan.sweep.mixes
    done = [run for run in plan.of("reuse") if run.seed in seeds][:RUNS]
    parts: list[pd.DataFrame] = []
    damaged: list[PlannedRun] = []
    for run in done:
        try:
            parts.append(_answers(store, run, plan.evaluation))
        except DAMAGE as error:
            log.info("%s: its questions cannot be read: %s", run.label, error)
            damaged.append(run)
    if damaged:
        _say_damaged(store, plan, damaged)
    if not parts:
        return ()
    pairs = [(name, plan.sweep.control(name)) for name in mixes if name != plan.sweep.baseline]
    return flips(pd.concat(parts, ignore_index=True), pairs)


def _say_damaged(store: Store, plan: Plan, runs: Sequence[PlannedRun]) -> None:
    """One line, however many runs it befell: a disk that was full damages them all."""
    first = runs[0]
    log.warning(
        "the questions of %s cannot be read: %s. Delete its evaluation%s and submit again, which scores it again: %s",
        f"{len(runs)} runs" if len(runs) > 1 else "a run",
        f"{first.label} is the first" if len(runs) > 1 else first.label,
        ", and those of the others," if len(runs) > 1 else "",
        store.run(first.fingerprint or "").evaluation(plan.evaluation),
    )


def _answers(store: Store, run: PlannedRun, evaluation: str) -> pd.DataFrame:
    """Whether a run answered each question right, as `flips` takes it."""
    import pandas as pd

    assert run.fingerprint is not None, "an evaluated run has a spec"
    path = store.run(run.fingerprint).evaluation(evaluation) / "items.parquet"
    frame = pd.read_parquet(path)
    columns = ["task", "group", "doc_id", "doc_hash", "prompt_hash", "acc"]
    frame = frame.reindex(columns=columns)
    frame = frame[frame["acc"].notna()]
    return pd.DataFrame(
        {
            "mix": run.mix,
            "seed": run.seed,
            "task": frame["group"],
            "part": frame["task"],
            "document": frame["doc_id"],
            "digest": frame["doc_hash"].str[:12],
            "right": frame["acc"] > 0.5,  # 1 is right, 0 is wrong
        }
    )


def versions() -> dict[str, str]:
    """Of Python and of the programs that decide figures; those that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PROGRAMS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
