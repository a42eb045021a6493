from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from assay.core.processes import ProcessIdentity
from assay.core.serde import to_json
from assay.launch.logs import line_that_matters
from assay.launch.sparkline import POINTS, losses
from assay.launch.status import RunProgress, SweepProgress, overview
from assay.launch.status_view import render
from assay.store.runs import Failure, RunDirectory, Store
from assay.store.submissions import Submission, SubmissionDirectory, SubmittedRun, Worker
from tests.launch.planned_sweeps import EVALUATION, STEPS, TOKENS, make_plan, record, spec

NOW = 1_700_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def submitted(store: Store, runs: list[tuple[str, int]], *, workers: int = 1) -> SubmissionDirectory:
    identifier = "20260101T000000-000000"
    directory = SubmissionDirectory(store.sweep("tiny") / "submissions" / identifier)
    directory.create(
        Submission(
            id=identifier,
            sweep="tiny",
            created=NOW,
            cluster="local",
            executor="local",
            workers=workers,
            code="c" * 64,
            digests={},
            runs=tuple(SubmittedRun(fingerprint=spec(mix, seed).fingerprint, mix=mix, seed=seed) for mix, seed in runs),
            evaluation=EVALUATION,
            study={},
        )
    )
    return directory


def ended_process() -> ProcessIdentity:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = ProcessIdentity.of(process.pid)
    process.communicate()
    return identity


def working(
    directory: SubmissionDirectory, number: int = 0, run: str | None = None, process: ProcessIdentity | None = None
) -> None:
    process = process or ProcessIdentity.of(os.getpid())
    directory.record_worker(Worker(name=str(number), process=process, job="1", started=NOW, runs=(run,) if run else ()))


def by_label(progress: SweepProgress) -> dict[str, RunProgress]:
    return {run.label: run for run in progress.runs}


def test_a_run_without_a_status_is_queued(store: Store) -> None:
    progress = overview(store, make_plan(["web", "code"], [0]), now=NOW)
    assert [run.state for run in progress.runs] == ["queued", "queued"]
    assert not progress.active
    assert not progress.complete


def test_training_shows_fraction_speed_and_time_left(store: Store) -> None:
    run = record(store, "web", 0, state="training", step=40, steps=STEPS, tokens=4000, tokens_per_second=100.0)
    with run.claim() as held:
        assert held
        seen = by_label(overview(store, make_plan(["web", "code"], [0]), now=NOW))["web s0"]
    assert (seen.state, seen.step, seen.steps, seen.share) == ("training", 40, STEPS, 0.4)
    assert seen.seconds_left == pytest.approx((TOKENS - 4000) / 100)


def test_a_run_in_an_interim_evaluation_shows_its_fraction_and_remaining_training(store: Store) -> None:
    """Of the typical 30 s of evaluation, this run has spent 10 on an earlier interim evaluation, and 4 on this one."""
    record(store, "code", 0, state="done", evaluated=True, tokens=TOKENS, train_seconds=100.0, evaluate_seconds=30.0)
    run = record(
        store, "web", 0, state="evaluating", step=75, steps=STEPS, tokens=TOKENS * 3 // 4, evaluate_seconds=10.0
    )
    with run.claim():
        progress = overview(store, make_plan(["web", "code"], [0]), now=run.status().updated + 4)
        text = shown(progress, 80)
    assert by_label(progress)["web s0"].seconds_left == pytest.approx(TOKENS / 4 / 100 + 30 - 10 - 4)
    assert "evaluating at 75%" in text


def test_an_active_status_without_a_lease_is_stale(store: Store) -> None:
    record(store, "web", 0, state="training", step=40, steps=STEPS)
    progress = overview(store, make_plan(["web", "code"], [0]), now=NOW)
    assert by_label(progress)["web s0"].state == "stale"
    assert by_label(progress)["web s0"] in progress.left_behind


def test_a_run_is_done_once_it_has_the_evaluation_of_this_sweep(store: Store) -> None:
    record(store, "web", 0, state="done")
    record(store, "code", 0, state="done", evaluated=True)
    seen = by_label(overview(store, make_plan(["web", "code"], [0]), now=NOW))
    assert seen["web s0"].state == "trained"
    assert seen["code s0"].state == "done"


def test_a_run_that_a_live_worker_has_just_started_is_preparing(store: Store) -> None:
    working(submitted(store, [("web", 0)]), run=spec("web", 0).fingerprint)
    seen = by_label(overview(store, make_plan(["web", "code"], [0]), now=NOW))
    assert seen["web s0"].state == "preparing"
    assert seen["code s0"].state == "queued"


def test_the_runs_of_a_dead_worker_are_not_preparing(store: Store) -> None:
    working(submitted(store, [("web", 0)]), run=spec("web", 0).fingerprint, process=ended_process())
    progress = overview(store, make_plan(["web", "code"], [0]), now=NOW)
    assert by_label(progress)["web s0"].state == "queued"
    assert [worker.alive for worker in progress.workers] == [False]
    assert not progress.active


def test_a_refused_mix_is_refused_and_a_diverged_run_diverged(store: Store) -> None:
    record(store, "code", 0, state="diverged", failure=Failure(kind="diverged", message="NaN at step 3"))
    progress = overview(store, make_plan(["web", "code", "books"], [0], refused=("books",)), now=NOW)
    assert {run.label: run.state for run in progress.runs} == {
        "web s0": "queued",
        "code s0": "diverged",
        "books s0": "refused",
    }
    assert "code s0" not in {run.label for run in progress.left_behind}


def test_time_left_accounts_for_the_number_of_workers(store: Store) -> None:
    """Two workers, three runs of 100 s: 200 s, not 150."""
    runs = [("web", seed) for seed in range(3)]
    directory = submitted(store, runs, workers=2)
    working(directory, 0)
    working(directory, 1)
    record(store, "code", 0, state="done", evaluated=True, tokens=TOKENS, train_seconds=90.0, evaluate_seconds=10.0)
    progress = overview(store, make_plan(["web", "code"], [0, 1, 2]), now=NOW)
    assert by_label(progress)["web s1"].seconds_left == pytest.approx(100)
    assert progress.seconds_left == pytest.approx(200)
    assert not progress.at_least


def test_without_a_measured_evaluation_time_left_is_a_lower_bound(store: Store) -> None:
    working(submitted(store, [("web", 0)]))
    run = record(store, "web", 0, state="training", step=50, steps=STEPS, tokens=5000, tokens_per_second=50.0)
    with run.claim():
        progress = overview(store, make_plan(["web", "code"], [0]), now=NOW)
    assert progress.seconds_left == pytest.approx(100)
    assert progress.at_least
    assert progress.tokens_per_second == 50.0
    assert "at least 2 min left" in shown(progress, 80)


def test_without_workers_time_left_is_unknown(store: Store) -> None:
    record(store, "code", 0, state="done", evaluated=True, tokens=TOKENS, train_seconds=90.0, evaluate_seconds=10.0)
    assert overview(store, make_plan(["web", "code"], [0]), now=NOW).seconds_left is None


def test_failures_are_grouped_by_cause_with_the_decisive_line(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("loading\nTraceback (most recent call last):\n  File x\nValueError: page 7 is bad\nclosing files\n")
    for seed in range(3):
        failure = Failure(kind="ValueError", message=f"page {seed + 7} is bad", log=str(log))
        record(store, "web", seed, state="failed", failure=failure)
    record(store, "code", 0, state="failed", failure=Failure(kind="killed", message="killed by SIGKILL"))
    groups = overview(store, make_plan(["web", "code"], [0, 1, 2]), now=NOW).failures
    assert [(group.kind, group.runs) for group in groups] == [
        ("ValueError", ("web s0", "web s1", "web s2")),
        ("killed", ("code s0",)),
    ]
    assert groups[0].line == "ValueError: page 7 is bad"


def test_a_log_without_an_exception_gives_its_last_line(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("step 1\nstep 2\n")
    assert line_that_matters(log) == "step 2"
    assert line_that_matters(tmp_path / "none.log") is None


def test_messages_of_slurm_about_a_failed_program_are_not_the_decisive_line(tmp_path: Path) -> None:
    log = tmp_path / "job.out"
    own = "assay.core.errors.Damaged: source 'web': not JSON"
    srun = ["srun: error: n1: task 0: Exited with exit code 1", "srun: launch/slurm: _step_signal: Terminating"]
    step = "slurmstepd-n1: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-23T17:00:55 ***"
    log.write_text("\n".join(["begun", own, "Fix the file.", *srun, step, ""]))
    assert line_that_matters(log) == own
    log.write_text("\n".join(["slurmstepd-n1: error: *** JOB 7 ON n1 CANCELLED DUE TO TIME LIMIT ***", step, *srun]))
    assert "DUE TO TIME LIMIT" in (line_that_matters(log) or "")
    log.write_text(srun[0])
    assert line_that_matters(log) == srun[0]


def shown(progress: SweepProgress, width: int, *, terminal: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=terminal, color_system=None).print(render(progress))
    return out.getvalue()


@pytest.mark.parametrize(("width", "terminal"), [(80, False), (80, True), (200, True)])
@pytest.mark.parametrize("seeds", [2, 40])
def test_the_view_fits_narrow_and_wide_terminals_and_pipes(
    store: Store, width: int, terminal: bool, seeds: int
) -> None:
    """No line exceeds the width, and no text that distinguishes runs is cut."""
    mixes = ["web_and_github_with_a_rather_long_name", "cc_code_replace_github", "books"]
    failure = Failure(kind="out of memory", message="the kernel killed it", log="/a/long/path/" + "x" * 90 + "/run.log")
    record(store, mixes[0], 0, state="failed", failure=failure)
    run = record(store, mixes[1], 0, state="training", step=43, steps=STEPS, tokens=4300, tokens_per_second=1234.0)
    with run.claim():
        progress = overview(store, make_plan(mixes, list(range(seeds))), now=NOW)
        text = shown(progress, width, terminal=terminal)
    assert max(map(len, text.splitlines())) <= width
    assert "training 43%" in text
    assert "1.23k" in text
    assert "out of memory: the kernel killed it" in text
    assert mixes[0] in text
    assert f"{3 * seeds - 1} runs wait for: assay submit sweep=tiny" in text


def test_losses_are_sampled_from_histories_of_any_length_and_content(tmp_path: Path) -> None:
    """Few places are read, the last record counts, and truncated or invalid records are skipped."""
    history = tmp_path / "metrics.jsonl"
    history.write_text("".join(json.dumps({"step": i, "loss": 9 - 8 * i / 999}) + "\n" for i in range(1000)))
    samples = losses(history)
    assert len(samples) == POINTS
    assert samples[0] == 9.0
    assert samples[-1] == 1.0
    assert samples == tuple(sorted(samples, reverse=True))
    history.write_text('{"step": 1, "loss": 5.0}\n{"step": 2, "loss": 4.0}\n{"step": 3, "lo')
    assert losses(history)[-1] == 4.0
    history.write_bytes(b"\xff\x00[1]\nnull\n3\n{}\n" + b'{"loss": null}\n{"loss": NaN}\n')
    assert losses(history) == ()
    assert losses(tmp_path / "missing") == ()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_run_in_training_shows_its_progress_and_losses(store: Store, width: int) -> None:
    run = record(store, "web", 0, state="training", step=43, steps=STEPS, tokens=4300, tokens_per_second=1234.0)
    run.metrics.write_text("".join(json.dumps({"step": i, "loss": 8 - i / 10}) + "\n" for i in range(43)))
    with run.claim():
        text = shown(overview(store, make_plan(["web", "code"], [0]), now=NOW), width)
    (line,) = (line for line in text.splitlines() if line.startswith("web s0"))
    assert "training 43%" in line
    assert "3.80" in line
    assert "█▇▆▅▅▄▃▂▁▁" in line
    assert ("████░░░░░░" in line) == (width > 80)


def test_a_large_sweep_shows_the_progress_of_each_mix(store: Store) -> None:
    for seed in range(30):
        record(store, "web", seed, state="queued", step=STEPS // 2 if seed < 15 else 0, steps=STEPS)
    text = shown(overview(store, make_plan(["web", "code"], list(range(30))), now=NOW), 80)
    assert "██░░░░░░░░ 25%" in text
    assert "░░░░░░░░░░ 0%" in text


def test_an_unreadable_status_is_reported_once_with_its_fix(store: Store) -> None:
    for seed in range(3):
        run = record(store, "web", seed, state="training")
        (run.path / "status.json").write_text('{"state": "tra')
    text = " ".join(shown(overview(store, make_plan(["web", "code"], [0, 1, 2]), now=NOW), 200).split())
    assert "3 runs: damaged record:" in text
    assert "web s0, web s1, web s2" in text
    assert text.count("Delete the file") == 1


def test_fields_of_a_later_version_are_ignored(store: Store) -> None:
    run = record(store, "web", 0, state="training", step=40, steps=STEPS)
    path = run.path / "status.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "field_of_a_later_version": 1}))
    assert run.status().step == 40


def test_a_failure_cannot_control_the_terminal(store: Store) -> None:
    failure = Failure(kind="ValueError", message="bad \x1b]0;owned\x07[red]text[/red]")
    record(store, "web", 0, state="failed", failure=failure)
    text = shown(overview(store, make_plan(["web", "code"], [0]), now=NOW), 80)
    assert "\x1b" not in text
    assert "[red]text[/red]" in text


def test_the_status_is_available_as_plain_json(store: Store) -> None:
    record(store, "web", 0, state="failed", failure=Failure(kind="killed", message="m"))
    plain = to_json(overview(store, make_plan(["web", "code"], [0]), now=NOW))
    again = json.loads(json.dumps(plain))
    assert again["counts"] == {"failed": 1, "queued": 1}
    assert again["runs"][0]["failure"] == {"kind": "killed", "message": "m", "log": None}
    assert again["complete"] is False


def test_leases_are_read_for_active_runs_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """This keeps the status of a large sweep fast."""
    looked = []
    claimed = RunDirectory.claimed.fget
    assert claimed is not None
    monkeypatch.setattr(RunDirectory, "claimed", property(lambda run: looked.append(run.fingerprint) or claimed(run)))
    for seed in range(50):
        record(store, "web", seed, state="queued")
    busy = record(store, "code", 0, state="training", step=1, steps=STEPS)
    progress = overview(store, make_plan(["web", "code"], list(range(50))), now=NOW)
    assert len(progress.runs) == 100
    assert looked == [busy.fingerprint]
