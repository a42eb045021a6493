"""The estimate of what a run costs, from the runs of the store."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from assay.config.study import Study
from assay.plan.speed import READ_LIMIT, SAMPLE, estimate_speed, finished_runs, has_same_setup, save_speed
from assay.plan.workspace import Workspace

MakeStudy = Callable[..., Study]


def test_a_plan_before_the_first_run_uses_the_measured_speed(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study())
    assert space.planner.plan().cost.wall_seconds is None
    save_speed(space.runs, space.store, 1000.0)
    cost = space.planner.plan().cost
    assert cost.worker_seconds == pytest.approx(cost.tokens / 1000)
    assert "assay doctor" in cost.basis


def timed(space: Workspace, seed: int, *, rate: float, at: float, **changes: object) -> None:
    """Record a run with a training speed in tokens per second and a modification time."""
    spec = replace(space.runs.spec("base", seed), **changes)
    run = space.store.run(spec.fingerprint)
    run.create(spec, {})
    run.update(state="done", tokens=1000, train_seconds=1000 / rate, evaluate_seconds=7.0)
    os.utime(run.path, (at, at))


def test_speed_is_taken_from_the_newest_runs_of_the_proxy(tiny_study: MakeStudy) -> None:
    """Older runs are ignored: machines change, and reading thousands of records takes seconds."""
    space = Workspace(tiny_study())
    for seed in range(SAMPLE + 1):
        timed(space, seed, rate=100.0, at=1000.0)
    for seed in range(100, 100 + SAMPLE):
        timed(space, seed, rate=300.0, at=2000.0)
    other = replace(space.study.proxy, layers=8)
    timed(space, 0, rate=1.0, at=3000.0, model=other)
    assert estimate_speed(space.runs, space.store) == (
        pytest.approx(300.0),
        7.0,
        f"measured on {SAMPLE} runs of this proxy",
    )


def test_speed_is_read_from_older_runs_if_the_newest_have_none(tiny_study: MakeStudy) -> None:
    """The folders of a sweep that was just submitted are newer than those of measured runs."""
    space = Workspace(tiny_study())
    timed(space, 0, rate=100.0, at=1000.0)
    for seed in range(1, READ_LIMIT + 2):
        run = space.store.run(space.runs.spec("base", seed).fingerprint)
        run.create(space.runs.spec("base", seed), {})
    assert estimate_speed(space.runs, space.store).tokens_per_second == pytest.approx(100.0)


def test_a_damaged_record_of_another_run_does_not_affect_the_speed(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study())
    timed(space, 0, rate=100.0, at=1000.0)
    timed(space, 1, rate=300.0, at=2000.0)
    (space.store.run(space.runs.spec("base", 1).fingerprint).path / "spec.json").write_text("{}")
    (space.store.root / "runs" / "notes.txt").write_text("a file of somebody's")
    assert estimate_speed(space.runs, space.store).tokens_per_second == pytest.approx(100.0)


def test_only_runs_that_completed_training_are_finished(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study())
    timed(space, 0, rate=100.0, at=1000.0)
    timed(space, 1, rate=100.0, at=2000.0)
    space.store.run(space.runs.spec("base", 1).fingerprint).update(state="failed")
    assert [spec.seed for _, spec in finished_runs(space.store)] == [0]


def test_a_setup_is_the_same_under_another_weight_decay_but_not_another_budget(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study())
    spec = space.runs.spec("base", 0)
    decayed = replace(spec.optimizer, weight_decay=0.5)
    assert has_same_setup(space.runs, replace(spec, optimizer=decayed))
    assert not has_same_setup(space.runs, replace(spec, optimizer=replace(decayed, peak_lr=0.5)))
    assert not has_same_setup(Workspace(tiny_study(steps=13)).runs, spec)


def test_a_damaged_speed_measurement_is_reported(tiny_study: MakeStudy) -> None:
    space = Workspace(tiny_study())
    for content in ("{", "[]", '{"tokens_per_second": "fast"}'):
        space.store.speed.parent.mkdir(exist_ok=True, parents=True)
        space.store.speed.write_text(content)
        assert estimate_speed(space.runs, space.store) == (None, None, f"{space.store.speed} is damaged")
