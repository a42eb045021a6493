"""Read the content of a report from the store, for all published views."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, TypeVar

from assay.analysis.results import DAMAGE
from assay.core.errors import Damaged
from assay.core.log_tail import last_lines
from assay.report.details import Details, InterimScore
from assay.report.model import RunResult, delivered_sources, finite
from assay.store.runs import RunDirectory, Status, Store

if TYPE_CHECKING:
    import pandas as pd

    from assay.analysis.breakdowns import Ranks
    from assay.analysis.comparison import Comparison
    from assay.config.references import ReferenceScore
    from assay.plan.plan import Plan, PlannedRun
    from assay.report.details import FindingShown
    from assay.report.flips import Flips

log = logging.getLogger(__name__)

T = TypeVar("T")

PROGRAMS = ("assay", "torch", "transformers", "lm_eval", "datasets", "tokenizers", "numpy")
"""Packages whose versions a report shows."""

TAIL = 12
"""Number of log lines that a report shows per run."""

SEEDS = 5
"""Maximum number of seeds per mix whose items are read. More seeds add little information about a single item."""
RUNS = 120
"""Maximum number of runs whose items are read. Reading a run takes about 10 ms."""


def read_runs(store: Store, fingerprints: Iterable[str], *, evaluation: str) -> dict[str, RunResult]:
    """Read the records of some runs by fingerprint.

    A damaged record does not hide other records. Its error is in `RunResult.problem`.

    Args:
        store: the store.
        fingerprints: fingerprints of the runs. Runs that are not in the store are omitted.
        evaluation: identity of the evaluation whose scores are read.
    """
    directories = {key: store.run(key) for key in dict.fromkeys(fingerprints)}
    return {key: read_run(run, evaluation=evaluation) for key, run in directories.items() if run.path.is_dir()}


def read_run(run: RunDirectory, *, evaluation: str) -> RunResult:
    """Read the record of one run."""
    problems: list[str] = []

    def try_read(read: Callable[[], T], default: T) -> T:
        try:
            return read()
        except FileNotFoundError:
            return default
        except (Damaged, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(str(error).replace("\n", " ") or type(error).__name__)
            return default

    def delivered() -> dict[str, Any] | None:
        tokens = run.delivered()
        if tokens is not None:
            delivered_sources(tokens)  # raises if the record has another structure
        return tokens

    nothing: list[dict[str, Any]] = []
    evaluated = run.evaluated(evaluation) if evaluation else False
    return RunResult(
        status=try_read(run.status, Status(state="queued")),
        labels=try_read(run.labels, {}),
        history=[record for record in try_read(run.history, nothing) if isinstance(record, dict)],
        delivered=try_read(delivered, None),
        scores=try_read(lambda: run.scores(evaluation), None) if evaluated else None,
        problem="; ".join(problems) or None,
        log=tuple(try_read(lambda: last_lines(run.log, TAIL), list[str]())),
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
    """Read the details of a page; omit and log damaged details.

    Args:
        store: the store.
        plan: the sweep's plan.
        published: scores of reference models with which the page compares the sweep.
        bytes_per_token: mean number of bytes per token, by source.
        findings: findings in the sweep's sources.
        runs: records of the runs by fingerprint. Their scores determine the ranks of the mixes.
        comparisons: comparisons, which provide the signal and the better direction of each metric.
    """
    from assay.analysis.tokens_to_match import Record, match

    def try_read(name: str, read: Callable[[], T], default: T) -> T:
        try:
            return read()
        except DAMAGE as error:
            log.warning("the page omits the %s: %s", name, error)
            return default

    records = {key: Record(run.history, run.delivered) for key, run in (runs or {}).items()}
    return Details(
        interim_scores=try_read("interim scores", lambda: _read_interim_scores(store, plan), ()),
        flips=try_read("flipped items", lambda: _read_flips(store, plan), ()),
        matches=try_read("tokens to match", lambda: match(store, plan, records=records), None),
        published=tuple(published),
        bytes_per_token=dict(bytes_per_token or {}),
        findings=tuple(findings),
        ranks=_ranks(plan, runs or {}, list(comparisons)),
    )


def _ranks(plan: Plan, runs: Mapping[str, RunResult], comparisons: Sequence[Comparison]) -> Ranks | None:
    """Return the average rank of each mix with scores; None without scores or comparisons."""
    import pandas as pd

    from assay.analysis.breakdowns import average_ranks

    rows = [
        {"mix": run.mix, "seed": run.seed, **{key: score.get(key) for key in ("task", "metric", "value")}}
        for run in plan.runs
        if run.fingerprint is not None and run.fingerprint in runs
        for score in runs[run.fingerprint].scores or ()
        if finite(score.get("value")) is not None
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


def _read_interim_scores(store: Store, plan: Plan) -> tuple[InterimScore, ...]:
    from assay.analysis.checkpoint_scores import collect_checkpoint_scores

    if not any(store.run(run.fingerprint).interim_evaluations() for run in plan.runs if run.fingerprint):
        return ()  # a curve needs more than final scores
    return tuple(
        InterimScore(
            mix=str(row["mix"]),
            seed=int(row["seed"]),
            tokens=int(row["tokens"]),
            task=str(row["task"]),
            metric=str(row["metric"]),
            value=float(row["value"]),
        )
        for row in collect_checkpoint_scores(store, plan).to_dict("records")
        if finite(row["value"]) is not None
    )


def _read_flips(store: Store, plan: Plan) -> tuple[Flips, ...]:
    import pandas as pd

    from assay.report.flips import find_flips

    seeds, mixes = plan.sweep.seeds[:SEEDS], plan.sweep.mixes
    done = [run for run in plan.of("reuse") if run.seed in seeds][:RUNS]
    parts: list[pd.DataFrame] = []
    damaged: list[PlannedRun] = []
    for run in done:
        try:
            parts.append(_answers(store, run, plan.evaluation))
        except DAMAGE as error:
            log.info("cannot read the items of %s: %s", run.label, error)
            damaged.append(run)
    if damaged:
        _warn_damaged(store, plan, damaged)
    if not parts:
        return ()
    pairs = [(name, plan.sweep.control(name)) for name in mixes if name != plan.sweep.baseline]
    return find_flips(pd.concat(parts, ignore_index=True), pairs)


def _warn_damaged(store: Store, plan: Plan, runs: Sequence[PlannedRun]) -> None:
    """Log one warning for all damaged runs, because a full disk damages many runs at once."""
    first = runs[0]
    log.warning(
        "cannot read the items of %s. Delete %s and submit the sweep again to repeat the evaluation: %s",
        f"{len(runs)} runs (the first is {first.label})" if len(runs) > 1 else first.label,
        "their evaluations" if len(runs) > 1 else "its evaluation",
        store.run(first.fingerprint or "").evaluation(plan.evaluation),
    )


def _answers(store: Store, run: PlannedRun, evaluation: str) -> pd.DataFrame:
    """Return whether a run answered each item correctly, in the form for `find_flips`."""
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
    """Return the versions of Python and of installed packages that affect results."""
    installed = {"python": platform.python_version()}
    for name in PROGRAMS:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed
