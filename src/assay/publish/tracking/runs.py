"""What W&B is told of a run: the recipe, the history by tokens, the scores, the mix that it really got."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.fingerprint import fingerprint
from assay.publish import words
from assay.publish.report import finite, given, overall_weights
from assay.publish.tracking import lineage
from assay.publish.tracking.content import (
    LOOKS,
    STEP,
    Alert,
    Content,
    Table,
    alert,
    cell,
    clipped,
    day,
    noted,
    rows_of,
    tags,
    wandb_id,
)
from assay.results import DAMAGE
from assay.structure import to_mapping

if TYPE_CHECKING:
    from assay.publish.report import RunResult
    from assay.recipe import RunSpec
    from assay.settings import Tracking
    from assay.store import RunDirectory, Store

HISTORY = ("loss", "bits_per_byte", "lr", "grad_norm", "tokens_per_second", "mfu", "train_seconds")
SCORE = ("task", "metric", "value", "n", "stderr", "chance")
COUNTS = ("tokens", "sequences", "documents", "epochs")
BROKEN = ("failed", "diverged", "cancelled")


def recipe_of(spec: RunSpec) -> str:
    """Identity of a run without its seed: what its replicates share."""
    return fingerprint("recipe", {key: value for key, value in spec.identity.items() if key != "seed"})


def run_name(spec: RunSpec, result: RunResult, version: int) -> str:
    """`261123_web_and_github_0.3m_500k_v1_s000`: date, mix, proxy, budget, version, seed.

    Args:
        spec: the run.
        result: its labels, and when it began.
        version: the how-manieth recipe of that mix, proxy and budget the store has: corpora or the trainer changed.
    """
    mix, proxy = labels_of(spec, result)
    tail = f"{proxy}_{words.amount(spec.tokens)}_v{version}_s{spec.seed:03d}"
    return clipped(f"{day(result.status.started)}_{mix}_{tail}")


def labels_of(spec: RunSpec, result: RunResult) -> tuple[str, str]:
    """What people call a run's mix and its proxy."""
    return str(result.labels.get("mix", "run")), str(result.labels.get("proxy", spec.model.name))


def run_content(
    store: Store,
    run: RunDirectory,
    result: RunResult,
    *,
    sweeps: Sequence[str],
    evaluation: str,
    settings: Tracking,
    version: int = 1,
    name: str | None = None,
) -> Content:
    """What W&B shows of a run, finished or on its way.

    Args:
        store: where it is.
        run: its folder.
        result: what was read of it.
        sweeps: the studies it belongs to; the first is its group.
        evaluation: identity of the evaluation whose scores are told.
        settings: whether weights are uploaded, and W&B's own sweep.
        version: as in `run_name`.
        name: what it is called already; a name that was told is kept.
    """
    spec, labels, state = run.spec(), dict(result.labels), result.status.state
    mix, proxy = labels_of(spec, result)
    scores = _told(result)
    delivered = given(result.delivered or {})
    checkpoint = lineage.checkpoint(run, spec, result.status, mix, upload=settings.upload_weights)
    return Content(
        id=wandb_id(run.fingerprint),
        name=name or run_name(spec, result, version),
        group=clipped(sweeps[0]),
        job_type="train",
        tags=tags([mix, proxy, str(labels.get("role", "")), state, *(f"sweep:{sweep}" for sweep in sweeps)]),
        notes=noted(_notes(spec, result, mix, proxy)),
        config={
            **{key: labels[key] for key in ("mix", "arm", "proxy", "role", "parameters") if key in labels},
            "kind": "train",
            "seed": spec.seed,
            "tokens": spec.tokens,
            "steps": spec.steps,
            "version": version,
            "requested": overall_weights(spec),
            "delivered": {source: dict(part) for source, part in delivered.items()},
            "spec": to_mapping(spec),
            "weights_sha256": result.status.weights,
            "fingerprint": run.fingerprint,
            "recipe_fingerprint": recipe_of(spec),
            "evaluation": evaluation,
            "sweeps": list(sweeps),
        },
        summary={
            "state": state,
            "attempts": result.status.attempt,
            "train_seconds": result.status.train_seconds,
            "evaluate_seconds": result.status.evaluate_seconds,
            **({"failure": failure_of(result)} if failure_of(result) else {}),
            **{f"eval/{name}": value for name, value in named(scores).items()},
        },
        history=with_looks(history_of(result.history), looks_of(run, spec, evaluation, scores), spec),
        tables={
            **({"evaluation": Table(columns=SCORE, rows=rows_of(scores, SCORE))} if scores else {}),
            **({"delivered": _delivered(delivered, spec)} if delivered else {}),
        },
        uses=(lineage.mix(mix, spec), *lineage.corpora(store, spec).values()),
        makes=() if checkpoint is None else (checkpoint,),
        alerts=run_alerts(spec, result, mix),
        sweep=settings.sweep,
        failed=state in BROKEN,
    )


def evaluation_content(
    run: RunDirectory,
    result: RunResult,
    *,
    trained: Content,
    evaluation: str,
) -> Content:
    """What W&B shows of one evaluation of a run; the run itself has the scores of the newest.

    Args:
        run: its folder.
        result: what was read of it, with the scores.
        trained: what W&B is told of the run.
        evaluation: identity of the evaluation.
    """
    scores = _told(result)
    told = named(scores)
    checkpoint = [one for one in trained.makes if one.type == "checkpoint"]
    kept = ("mix", "arm", "proxy", "role", "parameters", "seed", "tokens", "fingerprint", "sweeps")
    return Content(
        id=wandb_id(fingerprint("wandb eval", {"run": run.fingerprint, "evaluation": evaluation})),
        name=clipped(f"{trained.name}_eval_{evaluation[:6]}"),
        group=trained.group,
        job_type="eval",
        tags=tuple(tag for tag in trained.tags if tag != result.status.state),
        notes=f"{len(scores)} scores of {trained.name}, evaluation {evaluation[:12]}.",
        config={
            **{key: trained.config[key] for key in kept if key in trained.config},
            "kind": "eval",
            "evaluation": evaluation,
            "trained": trained.id,
        },
        summary={f"eval/{name}": value for name, value in told.items()},
        tables={"evaluation": Table(columns=SCORE, rows=rows_of(scores, SCORE))},
        uses=tuple(checkpoint),
        makes=(lineage.evaluation(run.fingerprint, evaluation, told),),
    )


def history_of(records: Sequence[Mapping[str, Any]]) -> list[tuple[int, dict[str, float]]]:
    """Records by step; a step that was trained again after a kill stands once, as it was the last time."""
    by_step = {record["step"]: _logged(record) for record in records if isinstance(record.get("step"), int)}
    return sorted(by_step.items())


def looks_of(
    run: RunDirectory, spec: RunSpec, evaluation: str, final: Sequence[Mapping[str, Any]]
) -> dict[int, dict[str, float]]:
    """Scores by step of a run that was looked at on its way, the final ones with them; none of a run that was not."""
    found = {}
    for look in run.looks():
        if look.step < spec.steps and look.evaluated(evaluation):
            with contextlib.suppress(*DAMAGE):  # a damaged look hides no other
                found[look.step] = named(_finite(look.scores(evaluation)))
    return {**found, spec.steps: named(final)} if found and final else found


def with_looks(
    history: Sequence[tuple[int, dict[str, float]]], looks: Mapping[int, Mapping[str, float]], spec: RunSpec
) -> list[tuple[int, dict[str, float]]]:
    """A history with the scores that looks gave, each with the tokens that it was taken at.

    W&B takes no step again, and has the record of a look's own step before the look is scored. Training waits for that,
    so that the first record afterwards is told later: the scores go with it, and the final ones after the last step.
    """
    rows, free = dict(history), sorted(step for step, _ in history)
    for step, scores in looks.items():
        after = spec.steps + 1 if step == spec.steps else next((place for place in free if place > step), None)
        if after is None:  # nothing is there yet to go with
            continue
        told = {f"{LOOKS}/{name}": value for name, value in scores.items()}
        rows[after] = {**rows.get(after, {}), f"{LOOKS}/{STEP}": step * spec.tokens_per_step, **told}
        free = [place for place in free if place > after]
    return sorted(rows.items())


def named(scores: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Scores by `task/metric`."""
    return {f"{score['task']}/{score['metric']}": float(score["value"]) for score in scores}


def run_alerts(spec: RunSpec, result: RunResult, mix: str) -> tuple[Alert, ...]:
    """What a run that ended badly tells those who do not look."""
    if result.status.state not in ("failed", "diverged"):
        return ()
    what = "diverged" if result.status.state == "diverged" else "failed"
    title = f"{mix} s{spec.seed} {what}"
    return (alert(title, failure_of(result) or what, "ERROR"),)


def failure_of(result: RunResult) -> str:
    """What went wrong, in words; empty where nothing did."""
    failure = result.status.failure
    return f"{failure.kind}: {failure.message}" if failure else result.problem or ""


def _told(result: RunResult) -> list[Mapping[str, Any]]:
    return _finite(result.scores or ())


def _finite(scores: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [score for score in scores if finite(score.get("value")) is not None]


def _notes(spec: RunSpec, result: RunResult, mix: str, proxy: str) -> str:
    shares = sorted(overall_weights(spec).items(), key=lambda item: -item[1])
    lines = [
        f"{mix} on {proxy}, seed {spec.seed}, {words.amount(spec.tokens)} tokens; run {spec.short}.",
        "Asked for: " + ", ".join(f"{name} {words.share(share)}" for name, share in shares) + ".",
    ]
    return "\n\n".join(line for line in (*lines, failure_of(result)) if line)


def _logged(record: Mapping[str, Any]) -> dict[str, float]:
    values = {f"train/{key}": finite(record.get(key)) for key in HISTORY}
    by_source = record.get("loss_by_source") or {}
    values |= {f"train/loss_by_source/{name}": finite(value) for name, value in by_source.items()}
    return {STEP: record.get(STEP, 0), **{key: value for key, value in values.items() if value is not None}}


def _delivered(delivered: Mapping[str, Mapping[str, Any]], spec: RunSpec) -> Table:
    requested = overall_weights(spec)
    rows = [
        [name, requested.get(name, 0.0), *(cell(part.get(key)) for key in ("share", *COUNTS))]
        for name, part in delivered.items()
    ]
    return Table(columns=("source", "requested", "delivered", *COUNTS), rows=rows)
