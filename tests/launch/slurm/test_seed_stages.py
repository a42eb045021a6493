"""Sequential seeds on SLURM: the monitor job decides on a stage, and submits the seeds of the next stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.launch.seed_stages import record_stages, submit_next_stage
from assay.launch.slurm.batches import Ledger
from assay.store import stage_decisions
from assay.store.submissions import submissions
from tests.launch.slurm.sweeps import Sweep, make_sweep, times_trained
from tests.slurm.cluster import Cluster


def staged_sweep(cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Make a sweep with two stages, of two and three seeds."""
    return make_sweep(
        cluster,
        folder,
        monkeypatch,
        steps=40,
        slurm={"runs_per_job": 4},
        sweep__seeds=[0, 1, 2],
        policy__sequential_seeds={"stages": [2, 3]},
    )


def labels(sweep: Sweep) -> list[list[str]]:
    """Return the runs of each submission, the oldest first."""
    return [
        sorted(run.label for run in directory.read().runs)
        for directory in submissions(sweep.workspace.store, sweep.name)
    ]


def assert_complete(sweep: Sweep) -> None:
    """Assert that each run of both stages was trained once, and that every submission is closed with a verdict."""
    workspace = sweep.workspace
    runs = [run for directory in submissions(workspace.store, sweep.name) for run in directory.runs()]
    assert len({run.fingerprint for run in runs}) == len(runs) == 6
    assert all(run.evaluated(workspace.runs.evaluation.fingerprint) for run in runs)
    assert [times_trained(run) for run in runs] == [1] * 6
    assert workspace.planner.plan().complete
    closed = [directory.closed for directory in submissions(workspace.store, sweep.name)]
    assert all(end is not None and end.decision == "INCONCLUSIVE" for end in closed)


FIRST = ["base s0", "base s1", "no_books s0", "no_books s1"]
SECOND = ["base s2", "no_books s2"]


def test_the_monitor_job_decides_on_a_stage_and_submits_the_next(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = staged_sweep(cluster, tmp_path, monkeypatch)
    sweep.submit()
    assert labels(sweep) == [FIRST]
    sweep.until(lambda: len(labels(sweep)) == 2, "the monitor job to submit the second stage")
    sweep.until_closed()

    assert labels(sweep) == [FIRST, SECOND]
    assert_complete(sweep)
    recorded = stage_decisions.read(sweep.workspace.store, sweep.name, 1, "no_books")
    assert recorded is not None
    assert (recorded.decision, recorded.final) == ("INCONCLUSIVE", False)


def test_after_a_monitor_job_that_was_killed_with_a_recorded_decision_the_next_one_submits_the_stage(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage is decided before any monitor job runs: as if a job had been killed after its decision."""
    sweep = staged_sweep(cluster, tmp_path, monkeypatch)
    sweep.submit()
    evaluation = sweep.workspace.runs.evaluation.fingerprint
    runs = sweep.runs
    sweep.until(lambda: all(run.evaluated(evaluation) for run in runs), "the first stage to end")
    record_stages(sweep.workspace)
    decided = stage_decisions.read(sweep.workspace.store, sweep.name, 1, "no_books")
    sweep.until(lambda: len(labels(sweep)) == 2, "a monitor job to submit the second stage")
    sweep.until_closed()

    assert labels(sweep) == [FIRST, SECOND]
    assert stage_decisions.read(sweep.workspace.store, sweep.name, 1, "no_books") == decided
    assert submit_next_stage(submissions(sweep.workspace.store, sweep.name)[0]) is None
    assert Ledger(sweep.directory).jobs("runs")
    assert_complete(sweep)
