"""What a sweep comes to: whatever became of its runs, there is a verdict, and it says what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from assay.conclude import Concluded, conclude, judge
from assay.errors import AssayError
from assay.store import Failure
from tests.finished import finish

if TYPE_CHECKING:
    from assay.store import RunDirectory
    from assay.study import Study
    from assay.workspace import Workspace

SEEDS = [0, 1, 2, 3]


@pytest.fixture
def sweep(tiny_study: Callable[..., Study]) -> Callable[..., Workspace]:
    """Makes a study whose runs are all done: `more_web` is better at code, `no_books` is like the baseline."""
    from assay.workspace import Workspace

    def make(*, without: tuple[tuple[str, int], ...] = (), **overrides: Any) -> Workspace:
        space = Workspace(tiny_study(sweep__seeds=SEEDS, **overrides))
        for mix in space.study.require_sweep().mixes:
            for seed in SEEDS:
                if (mix, seed) not in without:
                    finish(space, mix, seed, bits={"code": -0.1} if mix == "more_web" else None)
        return space

    return make


def concluded(space: Workspace) -> Concluded:
    return conclude(space, space.plan())


def run_of(space: Workspace, mix: str, seed: int) -> RunDirectory:
    return space.store.run(space.spec(mix, seed).fingerprint)


def test_the_verdict_the_markdown_and_the_page_are_in_the_reports_under_the_sweeps_name(
    sweep: Callable[..., Workspace],
) -> None:
    space = sweep()
    told: list[tuple[str, float]] = []
    done = conclude(space, space.plan(), progress=lambda what, share: told.append((what, share)))
    reports = space.store.reports
    assert (done.json, done.markdown, done.page) == (
        reports / "tiny.verdict.json",
        reports / "tiny.md",
        reports / "tiny.html",
    )
    verdict = json.loads(done.json.read_text())
    assert verdict["sweep"] == "tiny"
    assert {name: one["verdict"] for name, one in verdict["candidates"].items()} == {
        "more_web": "ACCEPT",
        "no_books": "INCONCLUSIVE",
    }
    assert verdict["verdict"] == done.verdict.decision == "INCONCLUSIVE"
    assert "ACCEPT: `more_web`" in done.markdown.read_text()
    page = done.page.read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "ACCEPT" in page
    assert done.wandb.mode == "disabled"
    assert [told.index((what, 1.0)) > told.index((what, 0.0)) for what in ("verdict", "page")] == [True, True]


NATURAL = {"mix.base": {"natural": {"sources": {"source": ["code", "web", "books"]}}}}
CAPPED = {"mix.base": {"weights": {"code": 0.4, "web": 0.4, "books": 0.2}, "max_epochs": 2.0}}


@pytest.mark.parametrize(
    ("changes", "decision", "reason"),
    [
        ({}, "INCONCLUSIVE", "base has 0 of 2 seeds: seeds 0, 1: todo: never run."),
        (NATURAL, "INCONCLUSIVE", "weights are known once books, code, web are tokenised"),
        (CAPPED, "INCONCLUSIVE", "weights are known once books, code, web are tokenised"),
        ({"source.code.files": ["gone/*.jsonl"]}, "INCONCLUSIVE", "no file matches"),
        ({"source.code.clearance": {"state": "blocked"}}, "BLOCKED", "source 'code' is blocked"),
    ],
    ids=["never submitted", "weights that wait for tokens", "caps that wait for tokens", "text gone", "blocked"],
)
def test_a_sweep_of_which_nothing_is_done_has_a_verdict_and_a_page(
    tiny_study: Callable[..., Study], changes: dict[str, Any], decision: str, reason: str
) -> None:
    from assay.workspace import Workspace

    done = concluded(Workspace(tiny_study(**changes)))
    assert done.verdict.decision == decision
    assert reason in " ".join(done.verdict.candidates["more_web"].reasons)
    assert json.loads(done.json.read_text())["verdict"] == decision
    assert done.markdown.read_text().startswith(f"## {decision}")
    assert done.page.read_text().startswith("<!DOCTYPE html>")


def test_a_failed_run_is_named_as_missing_and_the_others_are_judged(sweep: Callable[..., Workspace]) -> None:
    space = sweep(without=(("more_web", 1), ("no_books", 0), ("no_books", 1), ("no_books", 2)))
    failed = run_of(space, "more_web", 1)
    failed.create(space.spec("more_web", 1), {})
    failed.update(state="failed", failure=Failure(kind="out of memory", message="the GPU has 80 GiB"))
    verdict = concluded(space).verdict
    accepted = verdict.candidates["more_web"]
    assert accepted.decision == "ACCEPT"
    assert accepted.comparisons[0].n_seeds == 3
    assert any("seed 1: todo: ended before: out of memory" in reason for reason in accepted.reasons)
    undecided = verdict.candidates["no_books"]
    assert undecided.decision == "INCONCLUSIVE"
    assert any("seeds 0 to 2: todo: never run" in reason for reason in undecided.reasons)


def scores(space: Workspace, run: RunDirectory) -> Path:
    return run.evaluation(space.evaluation.fingerprint) / "scores.json"


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
    ids=["scores", "no scores", "items", "items cut", "delivered cut", "delivered another thing", "delivered gone"],
)
def test_a_damaged_record_costs_its_own_run_alone(
    sweep: Callable[..., Workspace], damage: Callable[[Workspace, RunDirectory], object]
) -> None:
    space = sweep()
    damage(space, run_of(space, "more_web", 2))
    verdict = concluded(space).verdict.candidates["more_web"]
    assert verdict.decision == "ACCEPT"
    assert verdict.comparisons[0].n_seeds == 3
    assert any("seed 2: " in reason and "record" in reason for reason in verdict.reasons)


def test_a_source_of_a_later_stage_that_lost_its_clearance_blocks(sweep: Callable[..., Workspace]) -> None:
    """Also a baseline and a candidate that do not have it in their own mixes."""
    from assay.study import Study
    from assay.workspace import Workspace

    stages = [
        {"name": "pretrain", "share": 0.75},
        {"name": "anneal", "share": 0.25, "mix": "fine", "anneal": True},
    ]
    space = sweep()
    raw = space.study.raw
    raw["source"]["fine"] = {**raw["source"]["books"], "clearance": {"state": "blocked", "by": "the tests"}}
    raw["mix"]["fine"] = {"weights": {"fine": 1.0}}
    space = Workspace(Study.parse({**raw, "stages": stages}))
    verdict = concluded(space).verdict
    assert verdict.decision == "BLOCKED"
    assert any("source 'fine' is blocked" in reason for reason in verdict.candidates["no_books"].reasons)


def test_what_wandb_fails_at_is_told_and_loses_nothing(sweep: Callable[..., Workspace]) -> None:
    space = sweep(tracking__mode="offline")
    space.store.wandb.write_text("a file, where W&B's folder has to be")
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
    assert done.wandb.published == 6, "one run and its scores, what it was trained on, two comparisons, and the verdict"
    assert len(list(space.store.wandb.glob("offline-run-*"))) == 6


def test_a_run_that_cannot_be_published_keeps_no_other_from_it(sweep: Callable[..., Workspace]) -> None:
    left = [("no_books", seed) for seed in SEEDS] + [(mix, seed) for mix in ("base", "more_web") for seed in (1, 2, 3)]
    space = sweep(without=tuple(left), tracking__mode="offline")
    plan = space.plan()
    (run_of(space, "base", 0).path / "spec.json").write_text("{")
    done = conclude(space, plan)
    assert done.wandb.published == 6, "the other run with its scores, and what is told of the sweep"
    assert len(done.wandb.problems) == 1
    assert "base s0" in done.wandb.problems[0]


def test_a_candidate_that_the_sweep_does_not_have_is_refused(sweep: Callable[..., Workspace]) -> None:
    space = sweep()
    assert list(judge(space, space.plan(), candidate="more_web").candidates) == ["more_web"]
    with pytest.raises(AssayError, match="Did you mean 'more_web'"):
        judge(space, space.plan(), candidate="more_wbe")
