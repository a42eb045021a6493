"""A sweep has a verdict for any state of its runs, and the verdict lists missing runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from assay.analysis.verdict import decide_sweep
from assay.config.reason import Code, Reason
from assay.core.errors import AssayError
from assay.core.files import write_json
from assay.report.publish import Concluded, conclude
from assay.store.runs import Failure
from tests.helpers.finished import finish
from tests.helpers.reasons import all_codes, facts, first

if TYPE_CHECKING:
    from assay.config.study import Study
    from assay.plan.workspace import Workspace
    from assay.store.runs import RunDirectory

SEEDS = [0, 1, 2, 3]


@pytest.fixture
def sweep(tiny_study: Callable[..., Study]) -> Callable[..., Workspace]:
    """Make a study with finished runs: `more_web` is better at code, `no_books` equals the baseline."""
    from assay.plan.workspace import Workspace

    def make(*, without: tuple[tuple[str, int], ...] = (), **overrides: Any) -> Workspace:
        space = Workspace(tiny_study(sweep__seeds=SEEDS, **overrides))
        for mix in space.study.require_sweep().mixes:
            for seed in SEEDS:
                if (mix, seed) not in without:
                    finish(space, mix, seed, bits={"code": -0.1} if mix == "more_web" else None)
        return space

    return make


def concluded(space: Workspace) -> Concluded:
    return conclude(space, space.planner.plan())


def run_of(space: Workspace, mix: str, seed: int) -> RunDirectory:
    return space.store.run(space.runs.spec(mix, seed).fingerprint)


def test_verdict_markdown_and_page_are_reports_named_after_the_sweep(
    sweep: Callable[..., Workspace],
) -> None:
    space = sweep()
    events: list[tuple[str, float]] = []
    done = conclude(space, space.planner.plan(), progress=lambda step, fraction: events.append((step, fraction)))
    reports = space.store.reports
    assert (done.json, done.markdown, done.page) == (
        reports / "tiny.verdict.json",
        reports / "tiny.md",
        reports / "tiny.html",
    )
    verdict = json.loads(done.json.read_text())
    assert verdict["sweep"] == "tiny"
    assert {name: candidate["verdict"] for name, candidate in verdict["candidates"].items()} == {
        "more_web": "ACCEPT",
        "no_books": "INCONCLUSIVE",
    }
    assert verdict["verdict"] == done.verdict.decision == "INCONCLUSIVE"
    assert "ACCEPT: `more_web`" in done.markdown.read_text()
    page = done.page.read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "ACCEPT" in page
    assert done.wandb.mode == "disabled"
    assert [events.index((step, 1.0)) > events.index((step, 0.0)) for step in ("verdict", "page")] == [True, True]


NATURAL = {"mix.base": {"natural": {"sources": {"source": ["code", "web", "books"]}}}}
CAPPED = {"mix.base": {"weights": {"code": 0.4, "web": 0.4, "books": 0.2}, "max_epochs": 2.0}}


@pytest.mark.parametrize(
    ("changes", "decision", "reason"),
    [
        ({}, "INCONCLUSIVE", Code.NEVER_RUN),
        (NATURAL, "INCONCLUSIVE", Code.WAITING_FOR_TOKENS),
        (CAPPED, "INCONCLUSIVE", Code.WAITING_FOR_TOKENS),
        ({"source.code.files": ["gone/*.jsonl"]}, "INCONCLUSIVE", Code.SOURCE_UNAVAILABLE),
        ({"source.code.clearance": {"state": "blocked"}}, "BLOCKED", Code.SOURCE_BLOCKED),
    ],
    ids=["never submitted", "weights without token counts", "caps without token counts", "missing text", "blocked"],
)
def test_a_sweep_without_results_has_a_verdict_and_a_page(
    tiny_study: Callable[..., Study], changes: dict[str, Any], decision: str, reason: Code
) -> None:
    from assay.plan.workspace import Workspace

    done = concluded(Workspace(tiny_study(**changes)))
    assert done.verdict.decision == decision
    assert reason in all_codes(done.verdict.candidates["more_web"].reasons)
    assert json.loads(done.json.read_text())["verdict"] == decision
    assert done.markdown.read_text().startswith(f"## {decision}")
    assert done.page.read_text().startswith("<!DOCTYPE html>")


def test_the_verdict_lists_failed_runs_and_uses_the_others(sweep: Callable[..., Workspace]) -> None:
    space = sweep(without=(("more_web", 1), ("no_books", 0), ("no_books", 1), ("no_books", 2)))
    failed = run_of(space, "more_web", 1)
    failed.create(space.runs.spec("more_web", 1), {})
    failed.update(state="failed", failure=Failure(kind="out of memory", message="the GPU has 80 GiB"))
    verdict = concluded(space).verdict
    accepted = verdict.candidates["more_web"]
    assert accepted.decision == "ACCEPT"
    assert accepted.comparisons[0].n_seeds == 3
    [missing] = first(accepted.reasons, Code.RUNS_EXCLUDED).causes
    assert (missing.code, missing.figures["seeds"]) == (Code.MISSING_RUNS, (1,))
    [ended] = missing.causes[0].causes
    assert (ended.code, missing.causes[0].subject) == (Code.ENDED_BEFORE, "todo")
    assert ended.figures["failure"].startswith("out of memory")
    undecided = verdict.candidates["no_books"]
    assert undecided.decision == "INCONCLUSIVE"
    [missing] = first(undecided.reasons, Code.SEEDS_MISSING).causes
    assert missing.figures["seeds"] == (0, 1, 2)
    assert missing.causes[0].causes == (Reason(code=Code.NEVER_RUN),)


def scores(space: Workspace, run: RunDirectory) -> Path:
    return run.evaluation(space.runs.evaluation.fingerprint) / "scores.json"


def items(space: Workspace, run: RunDirectory) -> Path:
    return scores(space, run).with_name("items.parquet")


@pytest.mark.parametrize(
    "damage",
    [
        lambda space, run: scores(space, run).write_bytes(b"\0" * 100 + b"}\n"),
        lambda space, run: scores(space, run).write_text('{"values": []\n}\n'),
        lambda space, run: items(space, run).write_bytes(b"\0" * 100 + b"PAR1"),
        lambda space, run: items(space, run).write_bytes(b"PAR1"),
        lambda _, run: (run.path / "delivered.json").write_text("{"),
        lambda _, run: (run.path / "delivered.json").write_text("[]"),
        lambda _, run: (run.path / "delivered.json").unlink(),
    ],
    ids=["scores", "no scores", "items", "truncated items", "truncated mix", "wrong mix type", "missing mix"],
)
def test_a_damaged_record_excludes_only_its_run(
    sweep: Callable[..., Workspace], damage: Callable[[Workspace, RunDirectory], object]
) -> None:
    space = sweep()
    damage(space, run_of(space, "more_web", 2))
    verdict = concluded(space).verdict.candidates["more_web"]
    assert verdict.decision == "ACCEPT"
    assert verdict.comparisons[0].n_seeds == 3
    [missing] = first(verdict.reasons, Code.RUNS_EXCLUDED).causes
    assert missing.figures["seeds"] == (2,)
    assert missing.causes[0].code in {Code.RECORD_UNREADABLE, Code.DELIVERED_UNKNOWN}


def change_score(space: Workspace, run: RunDirectory, task: str, change: dict[str, Any] | None) -> None:
    """Change the record of a score; None removes it."""
    record = json.loads(scores(space, run).read_text())
    kept = [score for score in record["scores"] if score["task"] != task]
    changed = [{**score, **change} for score in record["scores"] if score["task"] == task] if change else []
    write_json(scores(space, run), {**record, "scores": [*kept, *changed]})


@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_run_with_a_score_that_is_not_finite_is_named_in_every_view(
    sweep: Callable[..., Workspace], value: str
) -> None:
    space = sweep()
    change_score(space, run_of(space, "more_web", 2), "validation/code", {"value": None, "not_finite": value})
    done = concluded(space)
    verdict = done.verdict.candidates["more_web"]
    assert verdict.decision == "INCONCLUSIVE"
    reason = first(verdict.reasons, Code.SCORES_NOT_FINITE)
    assert (reason.subject, reason.figures["seeds"], reason.figures["values"]) == ("more_web", (2,), (value,))
    sentence = f"validation/code bits_per_byte of more_web is not finite for seed 2 ({value})"
    assert sentence in done.markdown.read_text().replace("\\", "")
    assert sentence in done.page.read_text()
    record = json.loads(done.json.read_text())
    assert [reason["code"] for reason in record["missing"]["more_web"]] == ["scores_not_finite"]


def test_a_score_that_an_evaluation_lacks_is_named(sweep: Callable[..., Workspace]) -> None:
    """Evaluations of earlier versions omit scores that are not finite."""
    space = sweep()
    change_score(space, run_of(space, "base", 3), "validation/code", None)
    verdict = concluded(space).verdict
    accepted = verdict.candidates["more_web"]
    assert accepted.decision == "ACCEPT"
    reason = first(accepted.reasons, Code.SCORES_MISSING)
    assert (reason.subject, reason.figures["seeds"]) == ("base", (3,))
    assert set(verdict.missing) == {"base"}


@pytest.mark.parametrize("change", [{"value": None}, {"value": None, "not_finite": "big"}, {"value": "0.5"}])
def test_a_score_without_a_number_is_damaged(sweep: Callable[..., Workspace], change: dict[str, Any]) -> None:
    space = sweep()
    run = run_of(space, "base", 0)
    change_score(space, run, "validation/code", change)
    with pytest.raises(AssayError, match="a score has no task, no metric or no value"):
        run.scores(space.runs.evaluation.fingerprint)


def test_a_blocked_source_of_a_later_stage_blocks_the_sweep(sweep: Callable[..., Workspace]) -> None:
    """The stage also blocks a baseline and a candidate whose own mixes lack the source."""
    from assay.config.study import Study
    from assay.plan.workspace import Workspace

    stages = [
        {"name": "pretrain", "fraction": 0.75},
        {"name": "anneal", "fraction": 0.25, "mix": "fine", "anneal": True},
    ]
    space = sweep()
    raw = space.study.raw
    raw["source"]["fine"] = {**raw["source"]["books"], "clearance": {"state": "blocked", "by": "the tests"}}
    raw["mix"]["fine"] = {"weights": {"fine": 1.0}}
    space = Workspace(Study.parse({**raw, "stages": stages}))
    verdict = concluded(space).verdict
    assert verdict.decision == "BLOCKED"
    assert (Code.SOURCE_BLOCKED, "fine") in map(facts, verdict.candidates["no_books"].reasons)


def test_a_wandb_failure_is_reported_and_loses_no_results(sweep: Callable[..., Workspace]) -> None:
    space = sweep(tracking__mode="offline")
    space.store.wandb.write_text("a file in place of the W&B folder")
    done = concluded(space)
    assert done.wandb.published == 0
    assert done.wandb.problems
    assert json.loads(done.json.read_text())["candidates"]["more_web"]["verdict"] == "ACCEPT"
    assert done.page.exists()


def test_finished_runs_and_the_verdict_are_published(sweep: Callable[..., Workspace]) -> None:
    left = [(mix, seed) for mix in ("base", "more_web", "no_books") for seed in SEEDS if (mix, seed) != ("base", 0)]
    space = sweep(without=tuple(left), tracking__mode="offline")
    done = concluded(space)
    assert done.wandb.problems == ()
    assert done.wandb.published == 6, "one run, its scores, its training data, two comparisons, and the verdict"
    assert len(list(space.store.wandb.glob("offline-run-*"))) == 6


def test_a_run_that_cannot_be_published_does_not_affect_others(sweep: Callable[..., Workspace]) -> None:
    left = [("no_books", seed) for seed in SEEDS] + [(mix, seed) for mix in ("base", "more_web") for seed in (1, 2, 3)]
    space = sweep(without=tuple(left), tracking__mode="offline")
    plan = space.planner.plan()
    (run_of(space, "base", 0).path / "spec.json").write_text("{")
    done = conclude(space, plan)
    assert done.wandb.published == 6, "the other run with its scores, and the sweep's results"
    assert len(done.wandb.problems) == 1
    assert "base s0" in done.wandb.problems[0]


def test_an_unknown_candidate_is_refused(sweep: Callable[..., Workspace]) -> None:
    space = sweep()
    assert list(decide_sweep(space, space.planner.plan(), candidate="more_web").candidates) == ["more_web"]
    with pytest.raises(AssayError, match="Did you mean 'more_web'"):
        decide_sweep(space, space.planner.plan(), candidate="more_wbe")
