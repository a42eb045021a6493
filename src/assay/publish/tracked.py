"""What W&B is told of a run and of a verdict, in plain values."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from assay.fingerprint import fingerprint
from assay.publish import words
from assay.publish.report import finite, given, overall_weights
from assay.structure import to_mapping

if TYPE_CHECKING:
    from assay.publish.report import Report, RunResult
    from assay.recipe import RunSpec
    from assay.settings import Tracking
    from assay.store import RunDirectory

TAG, NAME = 64, 128
"""The longest tags and names that W&B takes."""

STEP = "tokens"
"""The axis of every curve."""

COMPARISON = (
    *("candidate", "baseline", "task", "metric", "role", "votes", "signal", "signal_reason"),
    *("effect", "ci_low", "ci_high", "p", "p_adjusted", "p_noninferior", "baseline_mean", "candidate_mean"),
    *("margin", "mde", "n_seeds", "n_items"),
)
HISTORY = ("loss", "bits_per_byte", "lr", "grad_norm", "tokens_per_second", "mfu", "train_seconds")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows for W&B."""

    columns: tuple[str, ...]
    rows: list[list[Any]]


@dataclass(frozen=True, kw_only=True)
class Content:
    """One run as W&B shows it, in plain values."""

    id: str
    name: str
    group: str
    job_type: str
    tags: tuple[str, ...]
    config: dict[str, Any]
    summary: dict[str, Any]
    history: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """Records by step."""
    tables: dict[str, Table] = field(default_factory=dict)
    failed: bool = False

    def digest(self, settings: Tracking) -> str:
        """Identity of all that is shown and of where it is shown."""
        return fingerprint("wandb", {**to_mapping(self), "to": [settings.entity, settings.project]})


def wandb_id(run_fingerprint: str) -> str:
    """The id in W&B of a run of ours."""
    return run_fingerprint[:32]


def run_content(run: RunDirectory, result: RunResult, *, sweeps: Sequence[str], evaluation: str) -> Content:
    """What W&B shows of a run."""
    spec, labels = run.spec(), dict(result.labels)
    mix, proxy = str(labels.get("mix", "run")), str(labels.get("proxy", spec.model.name))
    state = result.status.state
    scores = [score for score in result.scores or () if finite(score.get("value")) is not None]
    tags = [mix, proxy, str(labels.get("role", "")), state, *(f"sweep:{name}" for name in sweeps)]
    return Content(
        id=wandb_id(run.fingerprint),
        name=_clipped(f"{_day(result.status.started)}_{mix}_{proxy}_s{spec.seed:03d}", NAME),
        group=_clipped(sweeps[0], NAME),
        job_type="train",
        tags=_tags(tags),
        config={
            **{key: labels[key] for key in ("mix", "arm", "proxy", "role", "parameters") if key in labels},
            **_config(spec, result),
            "fingerprint": run.fingerprint,
            "evaluation": evaluation,
            "sweeps": list(sweeps),
        },
        summary={
            "state": state,
            "train_seconds": result.status.train_seconds,
            "evaluate_seconds": result.status.evaluate_seconds,
            **({"failure": _failure(result)} if _failure(result) else {}),
            **{f"eval/{score['task']}/{score['metric']}": float(score["value"]) for score in scores},
        },
        history=[(record["step"], _logged(record)) for record in result.history if isinstance(record.get("step"), int)],
        tables={
            **({"evaluation": _score_table(scores)} if scores else {}),
            **({"delivered": _delivered_table(result.delivered, spec)} if result.delivered else {}),
        },
        failed=state in ("failed", "diverged", "cancelled"),
    )


def verdict_content(report: Report) -> Content:
    """What W&B shows of a sweep's verdict."""
    sweep, verdict = report.sweep, report.verdict
    finished = [run.result.status.finished for run in report.runs if run.result and run.result.status.finished]
    candidates = {} if verdict is None else verdict.candidates
    summary: dict[str, Any] = {"verdict": report.decision, "runs_finished": report.finished}
    for name, one in candidates.items():
        summary[f"verdict/{name}"] = str(one.decision)
        summary[f"reasons/{name}"] = "\n".join(one.reasons)
        for c in one.comparisons:
            values = {"effect": c.effect, "ci_low": c.ci_low, "ci_high": c.ci_high, "p_adjusted": c.p_adjusted}
            for key, value in values.items():
                if finite(value) is not None:
                    summary[f"{key}/{name}/{c.task}/{c.metric}"] = finite(value)
    return Content(
        id=wandb_id(fingerprint("wandb gate", {"sweep": sweep.name, "evaluation": report.plan.evaluation})),
        name=_clipped(f"{_day(max(finished, default=None))}_{sweep.name}_gate", NAME),
        group=_clipped(sweep.name, NAME),
        job_type="gate",
        tags=_tags(["gate", report.decision, f"sweep:{sweep.name}"]),
        config={
            "sweep": to_mapping(sweep),
            "policy": None if report.policy is None else to_mapping(report.policy),
            "evaluation": report.plan.evaluation,
            "budget": report.budget,
            "mixes": {mix.name: mix.weights for mix in report.mixes},
            "versions": report.versions,
        },
        summary=summary,
        tables={
            "comparisons": _comparison_table(report),
            "mixes": _mix_table(report),
            "runs": _run_table(report),
        },
    )


def _config(spec: RunSpec, result: RunResult) -> dict[str, Any]:
    return {
        "seed": spec.seed,
        "tokens": spec.tokens,
        "steps": spec.steps,
        "requested": overall_weights(spec),
        "delivered": {name: dict(part) for name, part in given(result.delivered or {}).items()},
        "spec": to_mapping(spec),
        "weights_sha256": result.status.weights,
    }


def _logged(record: Mapping[str, Any]) -> dict[str, float]:
    values = {f"train/{key}": finite(record.get(key)) for key in HISTORY}
    by_source = record.get("loss_by_source") or {}
    values |= {f"train/loss_by_source/{name}": finite(value) for name, value in by_source.items()}
    return {STEP: record.get(STEP, 0), **{key: value for key, value in values.items() if value is not None}}


def _score_table(scores: Sequence[Mapping[str, Any]]) -> Table:
    columns = ("task", "metric", "value", "n", "stderr", "chance")
    return Table(columns=columns, rows=[[_cell(score.get(column)) for column in columns] for score in scores])


def _delivered_table(delivered: Mapping[str, Any], spec: RunSpec) -> Table:
    requested, counts = overall_weights(spec), ("tokens", "sequences", "documents", "epochs")
    rows = [
        [name, requested.get(name, 0.0), *(_cell(part.get(key)) for key in ("share", *counts))]
        for name, part in given(delivered).items()
    ]
    return Table(columns=("source", "requested", "delivered", *counts), rows=rows)


def _comparison_table(report: Report) -> Table:
    rows = [[_cell(getattr(c, column)) for column in COMPARISON] for c in report.comparisons]
    return Table(columns=COMPARISON, rows=rows)


def _mix_table(report: Report) -> Table:
    rows = [
        [mix.name, source, weight, mix.tokens[source], mix.epochs.get(source)]
        for mix in report.mixes
        for source, weight in mix.weights.items()
    ]
    return Table(columns=("mix", "source", "requested", "tokens", "epochs"), rows=rows)


def _run_table(report: Report) -> Table:
    rows = [
        [
            run.mix,
            run.seed,
            run.state,
            run.fingerprint,
            wandb_id(run.fingerprint) if run.fingerprint else None,
            run.problem,
        ]
        for run in report.runs
    ]
    return Table(columns=("mix", "seed", "state", "fingerprint", "wandb_id", "problem"), rows=rows)


def _cell(value: Any) -> Any:
    """A table's cell: W&B takes text, numbers, booleans and nothing."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return finite(value)


def _failure(result: RunResult) -> str:
    failure = result.status.failure
    return f"{failure.kind}: {failure.message}" if failure else result.problem or ""


def _day(seconds: float | None) -> str:
    return "undated" if not seconds else datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%y%m%d")


def _tags(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_clipped(name, TAG) for name in names if name))


def _clipped(name: str, length: int) -> str:
    """A name that W&B takes; what is cut is told apart by a digest of the whole."""
    if len(name) <= length:
        return name
    return words.shortened(name, length - 9) + "-" + fingerprint("name", name)[:8]
