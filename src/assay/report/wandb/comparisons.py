"""Create the W&B content of a sweep: comparisons, the verdict and taints.

Each comparison, the verdict and the taints have a W&B run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.core.fingerprint import fingerprint
from assay.core.serde import to_json, to_mapping
from assay.report.model import finite
from assay.report.reason_text import scope_text, text, texts
from assay.report.wandb import charts, lineage
from assay.report.wandb.content import (
    Alert,
    Artifact,
    Content,
    WandbTable,
    alert,
    artifact_name,
    clipped,
    day,
    noted,
    rows_of,
    tags,
    wandb_id,
)

if TYPE_CHECKING:
    from assay.analysis.comparison import Comparison
    from assay.analysis.gate import SweepVerdict, Verdict
    from assay.config.reason import Reason
    from assay.report.model import Report, RunShown

COMPARISON = (
    *("candidate", "baseline", "task", "metric", "role", "votes", "signal", "signal_reason"),
    *("effect", "ci_low", "ci_high", "claim", "p_claim", "p", "p_adjusted", "p_noninferior", "q"),
    *("effect_percent", "effect_sds", "baseline_mean", "candidate_mean"),
    *("margin", "mde", "noise", "n_seeds", "n_items"),
)
FIGURES = ("effect", "ci_low", "ci_high", "p_adjusted", "baseline_mean", "candidate_mean")
DELIVERED = ("source", "requested", "delivered", "tokens", "sequences", "documents", "epochs")
LEVELS: Mapping[str, Any] = {"ACCEPT": "INFO", "REJECT": "WARN", "INCONCLUSIVE": "INFO", "BLOCKED": "ERROR"}


def sweep_contents(report: Report, *, taints: Sequence[Reason] = ()) -> list[Content]:
    """Return the W&B content of a sweep's comparisons, verdict and taints.

    The content of a W&B run follows the content of the runs whose artifacts it uses.

    Args:
        report: the sweep's report.
        taints: reasons not to trust the results, such as findings in the sources or a revoked clearance.
    """
    verdicts = {} if report.verdict is None else report.verdict.candidates
    compared = [compare_content(report, verdict) for verdict in verdicts.values()]
    audits = [audit_content(report, taints)] if taints else []
    return [*compared, gate_content(report, compared, taints=taints), *audits]


def compare_content(report: Report, verdict: Verdict) -> Content:
    """Return the W&B content of the comparison of one candidate with its control."""
    sweep, arms = report.sweep, (verdict.baseline, verdict.candidate)
    runs = [run for run in report.runs if run.mix in arms]
    subjects = _subjects(report, verdict.comparisons)
    made = _artifact(
        f"comparison-{sweep.name}-{verdict.candidate}",
        "comparison",
        f"{verdict.candidate} against {verdict.baseline}: {verdict.decision}.",
        {"verdict": str(verdict.decision), "figures": _summary(verdict.comparisons)},
        _evaluations(report, runs),
    )
    outcome = {
        "verdict": str(verdict.decision),
        "reasons": "\n".join(texts(verdict.reasons)),
        "scope": scope_text(verdict.scope),
    }
    return Content(
        id=wandb_id(fingerprint("wandb compare", {**_place(report), "candidate": verdict.candidate})),
        name=clipped(f"{_finished(report)}_{sweep.name}_{verdict.candidate}_vs_{verdict.baseline}"),
        group=clipped(sweep.name),
        job_type="compare",
        tags=tags(["compare", str(verdict.decision), *arms, f"sweep:{sweep.name}"]),
        notes=noted(_verdict_notes(verdict)),
        config={
            "kind": "compare",
            "sweep": sweep.name,
            "candidate": verdict.candidate,
            "baseline": verdict.baseline,
            "evaluation": report.plan.evaluation,
            "policy": None if report.policy is None else to_mapping(report.policy),
            "registration": to_json(verdict.registration),
            "mixes": {mix.name: mix.weights for mix in report.mixes if mix.name in arms},
        },
        summary={**outcome, **_summary(verdict.comparisons)},
        tables={
            "comparisons": WandbTable(columns=COMPARISON, rows=rows_of(verdict.comparisons, COMPARISON)),
            **({"subjects": WandbTable(columns=COMPARISON, rows=rows_of(subjects, COMPARISON))} if subjects else {}),
            "delivered": _delivered_table(runs),
            "runs": _run_table(runs),
        },
        figures={
            **({"effects": charts.plot_effects(verdict.comparisons)} if verdict.comparisons else {}),
            **({"subjects": charts.plot_effects(subjects)} if subjects else {}),
            "mixes": charts.plot_mixes([mix for mix in report.mixes if mix.name in arms]),
        },
        uses=tuple(_used(report, runs)),
        makes=(made,),
    )


def _mark(verdict: SweepVerdict | None) -> list[str]:
    """Return a tag for a verdict whose policy changed after the results."""
    registration = verdict.registration if verdict else None
    return [registration.state] if registration and registration.marked else []


def gate_content(report: Report, compared: Sequence[Content], *, taints: Sequence[Reason] = ()) -> Content:
    """Return the W&B content of a sweep's verdict.

    Args:
        report: the sweep's report.
        compared: content of the sweep's comparisons, which the verdict uses.
        taints: reasons not to trust the results.
    """
    sweep, verdict = report.sweep, report.verdict
    candidates = {} if verdict is None else verdict.candidates
    summary: dict[str, Any] = {"verdict": report.decision, "runs_finished": report.finished, "taints": len(taints)}
    for name, candidate in candidates.items():
        summary[f"verdict/{name}"] = str(candidate.decision)
        summary[f"reasons/{name}"] = "\n".join(texts(candidate.reasons))
        summary |= {key.replace("/", f"/{name}/", 1): value for key, value in _summary(candidate.comparisons).items()}
    uses = [artifact for content in compared for artifact in content.makes]
    made = _artifact(
        f"verdict-{sweep.name}",
        "verdict",
        f"{sweep.name}: {report.decision}.",
        {
            "verdict": report.decision,
            "candidates": {name: str(candidate.decision) for name, candidate in candidates.items()},
        },
        [artifact.name for artifact in uses],
    )
    return Content(
        id=wandb_id(fingerprint("wandb gate", _place(report))),
        name=clipped(f"{_finished(report)}_{sweep.name}_gate"),
        group=clipped(sweep.name),
        job_type="gate",
        tags=tags(["gate", report.decision, *(["tainted"] if taints else []), *_mark(verdict), f"sweep:{sweep.name}"]),
        notes=noted("\n\n".join([sweep.question, *map(_verdict_notes, candidates.values())]).strip()),
        config={
            "kind": "gate",
            "sweep": to_mapping(sweep),
            "policy": None if report.policy is None else to_mapping(report.policy),
            "registration": to_json(verdict.registration) if verdict else None,
            "evaluation": report.plan.evaluation,
            "budget": report.budget,
            "mixes": {mix.name: mix.weights for mix in report.mixes},
            "versions": report.versions,
            "compared": {content.config["candidate"]: content.id for content in compared},
        },
        summary=summary,
        tables={
            "comparisons": WandbTable(columns=COMPARISON, rows=rows_of(report.comparisons, COMPARISON)),
            "mixes": _mix_table(report),
            "delivered": _delivered_table(report.runs),
            "runs": _run_table(report.runs),
        },
        figures={"mixes": charts.plot_mixes(report.mixes)},
        uses=tuple(uses),
        makes=(made,),
        alerts=(*_verdict_alerts(report), *_taint_alerts(report, taints)),
    )


def audit_content(report: Report, taints: Sequence[Reason]) -> Content:
    """Return the W&B content of the taints of a sweep."""
    name = report.sweep.name
    return Content(
        id=wandb_id(fingerprint("wandb audit", {"sweep": name})),
        name=clipped(f"{_finished(report)}_{name}_audit"),
        group=clipped(name),
        job_type="audit",
        tags=tags(["audit", "tainted", f"sweep:{name}"]),
        notes=noted("\n\n".join(texts(taints))),
        config={"kind": "audit", "sweep": name},
        summary={"taints": len(taints)},
        tables={"taints": WandbTable(columns=("taint",), rows=[[text(taint)] for taint in taints])},
    )


def _place(report: Report) -> dict[str, str]:
    return {"sweep": report.sweep.name, "evaluation": report.plan.evaluation}


def _finished(report: Report) -> str:
    ends = [run.result.status.finished for run in report.runs if run.result and run.result.status.finished]
    return day(max(ends, default=None))


def _verdict_notes(verdict: Verdict) -> str:
    lines = [f"**{verdict.candidate} against {verdict.baseline}: {verdict.decision}**", *texts(verdict.reasons)]
    return "\n\n".join([*lines, *texts(verdict.needed), scope_text(verdict.scope)]).strip()


def _summary(comparisons: Sequence[Comparison]) -> dict[str, float]:
    """Return all finite figures by `figure/task/metric`."""
    figures = {f"{key}/{c.task}/{c.metric}": finite(getattr(c, key)) for c in comparisons for key in FIGURES}
    return {key: value for key, value in figures.items() if value is not None}


def _subjects(report: Report, comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons of parts of a suite task, such as MMLU's subjects."""
    tasks = [] if report.evaluation is None else [task.task for task in report.evaluation.tasks]
    return [c for c in comparisons if c.task not in tasks and any(c.task.startswith(f"{task}_") for task in tasks)]


def _verdict_alerts(report: Report) -> list[Alert]:
    verdicts = {} if report.verdict is None else report.verdict.candidates
    return [
        alert(
            f"{verdict.decision}: {name} in {report.sweep.name}",
            "\n\n".join(texts(verdict.reasons)),
            LEVELS[str(verdict.decision)],
        )
        for name, verdict in verdicts.items()
    ]


def _taint_alerts(report: Report, taints: Sequence[Reason]) -> list[Alert]:
    return [alert(f"{report.sweep.name} is tainted", "\n\n".join(texts(taints)), "ERROR")] if taints else []


def _artifact(name: str, kind: Any, description: str, metadata: dict[str, Any], inputs: Sequence[str]) -> Artifact:
    return Artifact(
        name=artifact_name(name), type=kind, description=description, metadata={**metadata, "from": list(inputs)}
    )


def _scores(run: RunShown) -> dict[str, float]:
    return {f"{score.task}/{score.metric}": score.value for score in run.scores}


def _used(report: Report, runs: Sequence[RunShown]) -> list[Artifact]:
    return [
        lineage.evaluation(run.fingerprint, report.plan.evaluation, _scores(run))
        for run in runs
        if run.fingerprint and run.evaluated
    ]


def _evaluations(report: Report, runs: Sequence[RunShown]) -> list[str]:
    return [artifact.name for artifact in _used(report, runs)]


def _delivered_table(runs: Sequence[RunShown]) -> WandbTable:
    rows = [[run.mix, run.seed, *row] for run in runs for row in rows_of(run.delivered, DELIVERED)]
    return WandbTable(columns=("mix", "seed", *DELIVERED), rows=rows)


def _mix_table(report: Report) -> WandbTable:
    rows = [
        [mix.name, source, weight, mix.tokens[source], mix.epochs.get(source)]
        for mix in report.mixes
        for source, weight in mix.weights.items()
    ]
    return WandbTable(columns=("mix", "source", "requested", "tokens", "epochs"), rows=rows)


def _run_table(runs: Sequence[RunShown]) -> WandbTable:
    rows = [[run.mix, run.seed, run.state, run.fingerprint, _link(run), run.problem] for run in runs]
    return WandbTable(columns=("mix", "seed", "state", "fingerprint", "run", "problem"), rows=rows)


def _link(run: RunShown) -> dict[str, str] | None:
    return {"run": wandb_id(run.fingerprint)} if run.fingerprint and run.result is not None else None
