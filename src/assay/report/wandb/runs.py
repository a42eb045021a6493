"""Create the W&B content of a run: its recipe, history by tokens, scores and delivered mix."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.analysis.results import DAMAGE
from assay.core.fingerprint import fingerprint
from assay.core.serde import to_mapping
from assay.report import formatting
from assay.report.model import delivered_sources, finite, overall_weights
from assay.report.wandb import lineage
from assay.report.wandb.content import (
    INTERIM,
    STEP,
    Alert,
    Content,
    WandbTable,
    alert,
    cell,
    clipped,
    day,
    noted,
    rows_of,
    tags,
    wandb_id,
)

if TYPE_CHECKING:
    from assay.config.recipe import RunSpec
    from assay.config.settings import Tracking
    from assay.report.model import RunResult
    from assay.store.runs import RunDirectory, Store

HISTORY = ("loss", "bits_per_byte", "lr", "grad_norm", "tokens_per_second", "mfu", "train_seconds")
SCORE = ("task", "metric", "value", "n", "stderr", "chance")
COUNTS = ("tokens", "sequences", "documents", "epochs")
BROKEN = ("failed", "diverged", "cancelled")


def recipe_of(spec: RunSpec) -> str:
    """Return the digest of a run's spec without the seed. All replicates share the digest."""
    return fingerprint("recipe", {key: value for key, value in spec.identity.items() if key != "seed"})


def run_name(spec: RunSpec, result: RunResult, version: int) -> str:
    """Return a name such as `261123_web_and_github_0.3m_500k_v1_s000`.

    The parts are date, mix, proxy, token budget, version and seed.

    Args:
        spec: the run's spec.
        result: record of the run, with labels and start time.
        version: number of the recipe, from 1, among all recipes of this mix, proxy and budget in the store. Changed corpora
            or a changed trainer version make a new recipe.
    """
    mix, proxy = labels_of(spec, result)
    tail = f"{proxy}_{formatting.amount(spec.tokens)}_v{version}_s{spec.seed:03d}"
    return clipped(f"{day(result.status.started)}_{mix}_{tail}")


def labels_of(spec: RunSpec, result: RunResult) -> tuple[str, str]:
    """Return the names of a run's mix and proxy."""
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
    """Return the W&B content of a run in any state.

    Args:
        store: the run's store.
        run: directory of the run.
        result: record of the run.
        sweeps: the sweeps of the run. The first sweep is the group in W&B.
        evaluation: identity of the evaluation whose scores are published.
        settings: settings on the upload of weights, and W&B's own sweep.
        version: number of the recipe; see `run_name`.
        name: name under which the run was published before, and which does not change (default: a new name).
    """
    spec, labels, state = run.spec(), dict(result.labels), result.status.state
    mix, proxy = labels_of(spec, result)
    scores = _finite_scores(result.scores or ())
    delivered = delivered_sources(result.delivered or {})
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
        history=add_interim_scores(
            history_of(result.history), read_interim_scores(run, spec, evaluation, scores), spec
        ),
        tables={
            **({"evaluation": WandbTable(columns=SCORE, rows=rows_of(scores, SCORE))} if scores else {}),
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
    """Return the W&B content of one evaluation of a run.

    The W&B run of the training has the newest scores too.

    Args:
        run: directory of the run.
        result: record of the run, with the scores.
        trained: the content of the run itself.
        evaluation: identity of the evaluation.
    """
    scores = _finite_scores(result.scores or ())
    by_name = named(scores)
    checkpoint = [artifact for artifact in trained.makes if artifact.type == "checkpoint"]
    kept = ("mix", "arm", "proxy", "role", "parameters", "seed", "tokens", "fingerprint", "sweeps")
    return Content(
        id=wandb_id(fingerprint("wandb eval", {"run": run.fingerprint, "evaluation": evaluation})),
        name=clipped(f"{trained.name}_eval_{evaluation[:6]}"),
        group=trained.group,
        job_type="eval",
        tags=tuple(tag for tag in trained.tags if tag != result.status.state),
        notes=f"{len(scores)} scores of {trained.name}, evaluation {evaluation[:12]}."
        + _not_finite(result.scores or ()),
        config={
            **{key: trained.config[key] for key in kept if key in trained.config},
            "kind": "eval",
            "evaluation": evaluation,
            "trained": trained.id,
        },
        summary={f"eval/{name}": value for name, value in by_name.items()},
        tables={"evaluation": WandbTable(columns=SCORE, rows=rows_of(scores, SCORE))},
        uses=tuple(checkpoint),
        makes=(lineage.evaluation(run.fingerprint, evaluation, by_name),),
    )


def history_of(records: Sequence[Mapping[str, Any]]) -> list[tuple[int, dict[str, float]]]:
    """Return records by step. If a step was repeated, the last record counts."""
    by_step = {record["step"]: _logged(record) for record in records if isinstance(record.get("step"), int)}
    return sorted(by_step.items())


def read_interim_scores(
    run: RunDirectory, spec: RunSpec, evaluation: str, final: Sequence[Mapping[str, Any]]
) -> dict[int, dict[str, float]]:
    """Read interim scores by step, and add the final scores.

    The result is empty for a run without interim evaluations.
    """
    scores = {}
    for checkpoint in run.interim_evaluations():
        if checkpoint.step < spec.steps and checkpoint.evaluated(evaluation):
            with contextlib.suppress(*DAMAGE):  # a damaged record must not hide other records
                scores[checkpoint.step] = named(_finite_scores(checkpoint.scores(evaluation)))
    return {**scores, spec.steps: named(final)} if scores and final else scores


def add_interim_scores(
    history: Sequence[tuple[int, dict[str, float]]], scores_by_step: Mapping[int, Mapping[str, float]], spec: RunSpec
) -> list[tuple[int, dict[str, float]]]:
    """Add interim scores to a history, each with its number of tokens.

    W&B accepts each step only once. When a checkpoint is scored, W&B already has the record of the checkpoint's step.
    Training waits for the interim evaluation, so the next record follows the scores. The scores are therefore added to
    the next record. A record after the last step has the final scores.
    """
    rows, free = dict(history), sorted(step for step, _ in history)
    for step, scores in scores_by_step.items():
        after = spec.steps + 1 if step == spec.steps else next((place for place in free if place > step), None)
        if after is None:  # there is no later record yet
            continue
        interim = {f"{INTERIM}/{name}": value for name, value in scores.items()}
        rows[after] = {**rows.get(after, {}), f"{INTERIM}/{STEP}": step * spec.tokens_per_step, **interim}
        free = [place for place in free if place > after]
    return sorted(rows.items())


def named(scores: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return values by `task/metric`."""
    return {f"{score['task']}/{score['metric']}": float(score["value"]) for score in scores}


def run_alerts(spec: RunSpec, result: RunResult, mix: str) -> tuple[Alert, ...]:
    """Return the alert of a run that failed or diverged."""
    if not result.status.failed:
        return ()
    what = "diverged" if result.status.state == "diverged" else "failed"
    title = f"{mix} s{spec.seed} {what}"
    return (alert(title, failure_of(result) or what, "ERROR"),)


def failure_of(result: RunResult) -> str:
    """Return the failure's kind and message; empty for a run without a failure."""
    failure = result.status.failure
    return f"{failure.kind}: {failure.message}" if failure else result.problem or ""


def _finite_scores(scores: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [score for score in scores if finite(score.get("value")) is not None]


def _not_finite(scores: Sequence[Mapping[str, Any]]) -> str:
    """Return a sentence on the scores that W&B cannot show; empty if W&B can show all scores."""
    names = [f"{score['task']}/{score['metric']}" for score in scores if finite(score.get("value")) is None]
    return f" Not finite: {', '.join(names)}." if names else ""


def _notes(spec: RunSpec, result: RunResult, mix: str, proxy: str) -> str:
    weights = sorted(overall_weights(spec).items(), key=lambda item: -item[1])
    lines = [
        f"{mix} on {proxy}, seed {spec.seed}, {formatting.amount(spec.tokens)} tokens; run {spec.short}.",
        "Requested: " + ", ".join(f"{name} {formatting.fraction(weight)}" for name, weight in weights) + ".",
    ]
    return "\n\n".join(line for line in (*lines, failure_of(result)) if line)


def _logged(record: Mapping[str, Any]) -> dict[str, float]:
    values = {f"train/{key}": finite(record.get(key)) for key in HISTORY}
    by_source = record.get("loss_by_source") or {}
    values |= {f"train/loss_by_source/{name}": finite(value) for name, value in by_source.items()}
    return {STEP: record.get(STEP, 0), **{key: value for key, value in values.items() if value is not None}}


def _delivered(delivered: Mapping[str, Mapping[str, Any]], spec: RunSpec) -> WandbTable:
    requested = overall_weights(spec)
    rows = [
        [name, requested.get(name, 0.0), *(cell(part.get(key)) for key in ("share", *COUNTS))]
        for name, part in delivered.items()
    ]
    return WandbTable(columns=("source", "requested", "delivered", *COUNTS), rows=rows)
