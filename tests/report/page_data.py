"""Synthetic reports: a realistic sweep from the real plan, comparisons and gate, with generated values."""

from __future__ import annotations

import datetime
import json
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from assay.analysis.gate import gate
from assay.config.mixes import EditStep, Mix, MixDeclaration, resolve
from assay.config.policy import Criterion, Policy
from assay.config.reason import Code, Reason, stated
from assay.config.recipe import Optimizer, ProxyModel, RunSpec, StageSpec
from assay.config.sources import Clearance, Source
from assay.config.suite import EvaluationSpec, SuiteTask
from assay.config.sweep import Sweep
from assay.core.files import write_json
from assay.core.serde import to_mapping
from assay.plan.plan import Cost, Plan, PlannedRun
from assay.report.assemble import make_report
from assay.report.model import Report, RunResult
from assay.store.runs import Failure, Status, Store
from tests.helpers.evaluations import write_evaluation

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
"""Markup that every page must escape."""

MADE = datetime.datetime(2026, 11, 23, 12, 30, tzinfo=datetime.UTC)
BENCHMARKS = {"mmlu": 0.25, "hellaswag": 0.25, "arc_easy": 0.25, "arc_challenge": 0.25, "piqa": 0.5, "sciq": 0.25}
SOURCES = {
    "web_cc": ("web", "MIT AND BSD-3-Clause"),
    "code_github": ("code", "Apache-2.0"),
    "code_cc": ("code", "Apache-2.0"),
    "docs": ("documentation", "PSF-2.0"),
    "encyclopedia": ("encyclopedia", "CC-BY-SA-4.0"),
    "books": ("books", "LicenseRef-public-domain"),
    "science.v2_2026-09": ("science", "CC-BY-4.0"),
}
WEIGHTS = {
    "web_cc": 0.3,
    "code_github": 0.25,
    "docs": 0.15,
    "encyclopedia": 0.1,
    "books": 0.1,
    "science.v2_2026-09": 0.1,
}

PROXY = ProxyModel(
    name="0.3m",
    hidden_size=64,
    intermediate_size=192,
    layers=2,
    heads=2,
    kv_heads=2,
    tie_embeddings=True,
    rope_theta=10000.0,
    sequence_length=128,
)
OPTIM = Optimizer(
    name="cosine",
    peak_lr=3e-3,
    schedule="cosine",
    warmup=0.05,
    decay=0.0,
    final_lr=0.1,
    beta1=0.9,
    beta2=0.95,
    epsilon=1e-8,
    weight_decay=0.1,
    gradient_clip=1.0,
)
STEPS = 480


def make(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    extra_sources: int = 0,
    rename: Mapping[str, str] | None = None,
    benchmarks: Sequence[str] = tuple(BENCHMARKS),
    failed: Sequence[tuple[str, int]] = (("cc_code_replace_cc", 2),),
    unevaluated: Sequence[tuple[str, int]] = (),
    never: bool = False,
    hostile: bool = False,
    candidates: Sequence[str] = ("cc_code_replace_github", "cc_code_replace_cc"),
    records: int = 120,
    guard: Sequence[str] = ("hellaswag",),
) -> Report:
    """Build a report as the command line does.

    Args:
        seeds: seeds of each mix.
        extra_sources: number of additional sources in every mix.
        rename: new name by name of a mix.
        benchmarks: tasks in addition to the held-out text of every source.
        failed: runs, by mix and seed, that diverged.
        unevaluated: runs, by mix and seed, that are trained but not evaluated.
        never: whether no run has started.
        hostile: whether free text (question, errors, licenses, tasks) contains an attack.
        candidates: names of the candidates, one or both of the defaults.
        records: number of logged steps per run.
        guard: tasks whose accuracy is a guardrail.
    """
    names = {name: name for name in ("web_and_github", *candidates)} | dict(rename or {})
    baseline = names["web_and_github"]
    sources, declarations = _declare(names, extra_sources, hostile=hostile)
    tokens = {name: 120_000 + 31_000 * place for place, name in enumerate(sources)}
    sweep = Sweep(
        name="code_replace",
        question=HOSTILE + " & can crawled code replace repository code?"
        if hostile
        else "Can crawled code replace repository code, or part of the crawl's text?",
        baseline=baseline,
        candidates=tuple(names[name] for name in candidates),
        seeds=tuple(seeds),
    )
    mixes = {name: resolve(name, declarations, sources) for name in sweep.mixes}
    specs = {(mix, seed): _spec(mixes[mix].weights, seed) for mix in sweep.mixes for seed in seeds}
    evaluation = EvaluationSpec(
        tasks=tuple(SuiteTask(task=name, limit=5) for name in benchmarks),
        batch_size=16,
        validation_bytes=200_000,
        validation=dict.fromkeys(sources, "c" * 64),
        harness="lm_eval 0.4.13",
        datasets="d" * 64,
    )
    bad = {(names[mix], seed) for mix, seed in failed}
    unscored = {(names[mix], seed) for mix, seed in unevaluated}
    tasks = [HOSTILE if hostile and name == "sciq" else name for name in benchmarks]
    results: dict[str, RunResult] = {}
    for (mix, seed), spec in ({} if never else specs).items():
        if (mix, seed) in bad:
            results[spec.fingerprint] = _failed(mix, seed, spec, records=records, hostile=hostile)
        else:
            scores = None if (mix, seed) in unscored else _scores(mix, seed, tasks, list(sources))
            results[spec.fingerprint] = _finished(mix, seed, spec, records=records, tokens=tokens, scores=scores)
    plan = Plan(
        sweep=sweep,
        runs=tuple(
            _planned(mix, seed, specs[mix, seed], results.get(specs[mix, seed].fingerprint))
            for mix in sweep.mixes
            for seed in seeds
        ),
        evaluation=evaluation.fingerprint,
        cost=Cost(runs=0, tokens=0, worker_seconds=0.0, wall_seconds=0.0, disk_bytes=0, basis="measured"),
        warnings=()
        if never
        else (Reason(code=Code.MANY_EPOCHS, subject="books", figures={"mix": "web_and_github", "epochs": 5.1}),),
    )
    policy = Policy(
        name="code",
        primary=(
            Criterion(task="validation/code_github", metric="bits_per_byte", better="lower", margin=0.01),
            *([Criterion(task="mmlu", metric="acc", better="higher")] if "mmlu" in benchmarks else []),
        ),
        guardrails=tuple(Criterion(task=name, metric="acc", better="higher", margin=0.02) for name in guard),
        alpha=0.05,
        min_seeds=3,
    )
    return make_report(
        sweep=sweep,
        plan=plan,
        mixes=mixes,
        sources=sources,
        tokens=tokens,
        budget=next(iter(specs.values())).tokens,
        runs=results,
        verdict=_evaluate(sweep, plan, results, policy),
        evaluation=evaluation,
        policy=policy,
        made=MADE,
        versions={"assay": "0.1.0", "torch": "2.13.0", "lm_eval": "0.4.13"},
    )


def remade(report: Report, runs: Mapping[str | None, RunResult] | Mapping[str, RunResult]) -> Report:
    """Return the report with new results of some runs and the same verdict."""
    results = {run.fingerprint: run.result for run in report.runs if run.fingerprint and run.result}
    results |= {key: result for key, result in runs.items() if key}
    sources = _declare({report.sweep.baseline: report.sweep.baseline}, 0, hostile=False)[0]
    mixes = {
        mix.name: Mix(
            name=mix.name,
            weights=mix.weights,
            base=mix.base,
            steps=tuple(EditStep(edit, mix.weights) for edit in ((mix.base,) if mix.base else ()) + mix.edits),
            description=mix.description,
        )
        for mix in report.mixes
    }
    return make_report(
        sweep=report.sweep,
        plan=report.plan,
        mixes=mixes,
        sources=sources,
        tokens={source.name: source.tokens for source in report.sources if source.tokens},
        budget=report.budget,
        runs=results,
        verdict=report.verdict,
        evaluation=report.evaluation,
        policy=report.policy,
        made=report.made,
        versions=report.versions,
    )


def fill(store: Store, report: Report) -> None:
    """Write the runs of a report to a store, as training and evaluation do."""
    for run in report.runs:
        if run.spec is None or run.result is None:
            continue
        directory = store.run(run.spec.fingerprint)
        directory.create(run.spec, run.result.labels)
        write_json(directory.path / "status.json", to_mapping(run.result.status))
        directory.metrics.write_text("".join(json.dumps(record) + "\n" for record in run.result.history))
        if run.result.delivered is not None:
            write_json(directory.path / "delivered.json", run.result.delivered)
        if run.result.scores is not None:
            write_evaluation(directory.evaluation(report.plan.evaluation), run.result.scores)


def _declare(
    names: Mapping[str, str], extra: int, *, hostile: bool
) -> tuple[dict[str, Source], dict[str, MixDeclaration]]:
    kinds = {**SOURCES, **{f"extra_{place:02d}": ("web" if place % 2 else "code", None) for place in range(extra)}}
    sources = {
        name: Source(
            name=name,
            files=(f"{name}/*.jsonl",),
            domain=domain,
            language="en",
            license=HOSTILE if hostile and name == "books" else license_,
            clearance=Clearance(
                state="cleared",
                by=HOSTILE if hostile else "data board",
                date=datetime.date(2026, 9, 1),
                reference="T-17",
            ),
            description="A source.",
        )
        for name, (domain, license_) in kinds.items()
    }
    base = names["web_and_github"]
    weights = {**WEIGHTS, **{name: 0.01 for name in kinds if name.startswith("extra")}}
    bodies: dict[str, dict[str, Any]] = {
        base: {"weights": weights, "description": HOSTILE if hostile else "The current recipe."}
    }
    edits: dict[str, dict[str, Any]] = {
        "cc_code_replace_github": {"source": "code_github", "by": "code_cc"},
        "cc_code_replace_cc": {"source": "web_cc", "by": "code_cc", "fraction": 0.5},
    }
    for name in names:
        if name in edits:
            bodies[names[name]] = {"base": base, "edits": [{"replace": edits[name]}]}
    return sources, {name: MixDeclaration.parse(name, body) for name, body in bodies.items()}


def _spec(weights: Mapping[str, float], seed: int) -> RunSpec:
    return RunSpec(
        model=PROXY,
        vocabulary=4096,
        tokenizer="t" * 64,
        corpora={name: (name.encode().hex() + "0" * 64)[:64] for name in weights},
        stages=(StageSpec(name="pretrain", weights=dict(weights), steps=STEPS),),
        optimizer=OPTIM,
        batch_sequences=8,
        seed=seed,
    )


def _planned(mix: str, seed: int, spec: RunSpec, result: RunResult | None) -> PlannedRun:
    if result is None:
        return PlannedRun(mix=mix, seed=seed, spec=spec, status="todo", reasons=(Reason(code=Code.NEVER_RUN),))
    failure = result.status.failure
    if failure is not None:
        reason = Reason(code=Code.DIVERGED, figures={"failure": f"{failure.kind}: {failure.message}"})
        return PlannedRun(mix=mix, seed=seed, spec=spec, status="refused", reasons=(reason,))
    if result.scores is None:
        return PlannedRun(mix=mix, seed=seed, spec=spec, status="todo", reasons=(Reason(code=Code.EVALUATION_MISSING),))
    return PlannedRun(mix=mix, seed=seed, spec=spec, status="reuse", reasons=(Reason(code=Code.TRAINED_AND_EVALUATED),))


def _failed(mix: str, seed: int, spec: RunSpec, *, records: int, hostile: bool) -> RunResult:
    message = f"the loss is 9.125 at step {STEPS // 3}. {HOSTILE if hostile else ''}" + " It was above 6.1." * 12
    status = Status(
        state="diverged",
        step=STEPS // 3,
        steps=STEPS,
        tokens=spec.tokens // 3,
        tokens_per_second=9100.0,
        train_seconds=20.0,
        failure=Failure(kind="diverged", message=message, log="run.log"),
    )
    return RunResult(
        status=status, labels=_labels(mix, seed), history=_history(mix, seed, spec, records)[: records // 3]
    )


def _finished(
    mix: str, seed: int, spec: RunSpec, *, records: int, tokens: Mapping[str, int], scores: list[dict[str, Any]] | None
) -> RunResult:
    status = Status(
        state="trained" if scores is None else "done",
        step=STEPS,
        steps=STEPS,
        tokens=spec.tokens,
        tokens_per_second=9000.0 + seed,
        started=1795000000.0,
        finished=1795000090.0,
        train_seconds=54.0,
        evaluate_seconds=0.0 if scores is None else 31.0,
        attempt=1,
        weights="a" * 64,
    )
    return RunResult(
        status=status,
        labels=_labels(mix, seed),
        history=_history(mix, seed, spec, records),
        delivered=_delivered(spec, tokens),
        scores=scores,
    )


def _labels(mix: str, seed: int) -> dict[str, Any]:
    role = "baseline" if mix == "web_and_github" else "candidate"
    return {"sweep": "code_replace", "mix": mix, "seed": seed, "proxy": "0.3m", "role": role, "parameters": 369_000}


def _history(mix: str, seed: int, spec: RunSpec, records: int) -> list[dict[str, Any]]:
    draw = random.Random(f"history {mix} {seed}")
    return [_record(spec, place, records, draw) for place in range(1, records + 1)]


def _record(spec: RunSpec, place: int, records: int, draw: random.Random) -> dict[str, Any]:
    step = round(STEPS * place / records)
    loss = 4.1 + 4.3 * math.exp(-6 * place / records) + draw.gauss(0, 0.03)
    return {
        "step": step,
        "tokens": step * spec.tokens_per_step,
        "stage": "pretrain",
        "loss": loss,
        "bits_per_byte": loss / math.log(2) / 3.6,
        "lr": spec.lr(max(0, step - 1)),
        "grad_norm": 0.6 + draw.random() / 4,
        "tokens_per_second": 9000 + draw.gauss(0, 120),
        "mfu": None,
        "loss_by_source": {name: loss + draw.gauss(0, 0.2) for name in spec.corpora},
        "epochs_begun": {},
    }


def _delivered(spec: RunSpec, tokens: Mapping[str, int]) -> dict[str, Any]:
    weights = spec.stages[0].weights
    total = spec.steps * spec.batch_sequences
    counts = {name: math.floor(weight * total) for name, weight in weights.items()}
    for name in sorted(counts)[: total - sum(counts.values())]:
        counts[name] += 1
    length = spec.model.sequence_length
    return {
        "requested": weights,
        "tokens": spec.tokens,
        "delivered": {
            name: {
                "sequences": n,
                "tokens": n * length,
                "documents": n // 3,
                "epochs": n * length / tokens[name],
            }
            for name, n in counts.items()
        },
    }


def _scores(mix: str, seed: int, tasks: Sequence[str], sources: Sequence[str]) -> list[dict[str, Any]]:
    draw = random.Random(f"scores {mix} {seed}")
    swapped = "replace_github" in mix
    records = []
    for task in tasks:
        chance = BENCHMARKS.get(task, 0.25)
        lift = 0.0 if task == "mmlu" else 0.08
        shift = -0.004 if swapped else 0.002
        accuracy, bits = chance + lift + shift + draw.gauss(0, 0.006), 1.1 + 0.01 * swapped + draw.gauss(0, 0.004)
        records += [
            {"task": task, "metric": "acc", "value": accuracy, "n": 1000, "stderr": 0.014, "chance": chance},
            {"task": task, "metric": "bits_per_byte", "value": bits, "n": 1000, "stderr": 0.01, "chance": None},
        ]
    for name in sources:
        worse = {"code_github": 0.09, "code_cc": -0.05}.get(name, 0.0) if swapped else -0.006
        value = 2.2 + worse + draw.gauss(0, 0.003)
        records.append(
            {"task": f"validation/{name}", "metric": "bits_per_byte", "value": value, "n": 300, "stderr": None}
        )
    return records


def _evaluate(sweep: Sweep, plan: Any, results: Mapping[str, RunResult], policy: Policy) -> Any:
    import pandas as pd

    rows = [
        {"mix": run.mix, "seed": run.seed, "scale": 1, "tokens": 1, **score}
        for run in plan.runs
        for score in (results[run.fingerprint].scores or () if run.fingerprint in results else ())
    ]
    if sweep.baseline not in {row["mix"] for row in rows}:
        return None
    table = pd.DataFrame(rows).reindex(columns=[*rows[0], "chance"] if "chance" not in rows[0] else list(rows[0]))
    missing: dict[str, list[Reason]] = {}
    for run in plan.runs:
        if not any((row["mix"], row["seed"]) == (run.mix, run.seed) for row in rows):
            missing.setdefault(run.mix, []).append(stated(f"seed {run.seed} failed (diverged)"))
    return gate(table, policy, baseline=sweep.baseline, candidates=sweep.candidates, missing=missing)
