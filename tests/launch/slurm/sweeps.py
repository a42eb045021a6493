"""Tiny sweeps on a test cluster: submission, waiting, and comparison with undisturbed runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.config.study import Study
from assay.launch.slurm.batches import Ledger
from assay.launch.slurm.reconcile import query_run_statuses
from assay.launch.submit import submit
from assay.plan.prepare import prepare_corpora
from assay.plan.workspace import Workspace
from assay.store.submissions import SubmissionDirectory, submissions
from tests.helpers.tiny import tiny_study
from tests.launch.polling import until

if TYPE_CHECKING:
    import pytest

    from assay.launch.slurm.queue import JobStatus
    from assay.store.runs import RunDirectory
    from assay.store.submissions import Submission
    from tests.slurm.cluster import Cluster

STEPS = 1000
"""Steps of a run: some seconds on a core, so that a test can disturb it."""
LEASE = {"ASSAY_LEASE_BEAT": "1", "ASSAY_LEASE_STALE": "6"}
"""Lease times in seconds: the lease of a failed node is stale after 6 s instead of a minute."""
SUBMIT = """
import json, pathlib, sys
from assay.launch.submit import submit
from assay.config.study import Study
from assay.plan.workspace import Workspace
space = Workspace(Study.parse(json.loads(pathlib.Path(sys.argv[1]).read_text())))
submit(space, space.planner.plan())
"""
"""Program that submits the study whose JSON is in a file."""
BAD = frozenset({"failed", "diverged", "cancelled"})

_undisturbed: dict[str, str] = {}
"""Cached weights of undisturbed runs, by fingerprint."""


class Sweep:
    """A tiny sweep on a cluster: the baseline `base` and the candidate `no_books`, with one seed.

    Attributes:
        cluster: cluster of its jobs.
        space: workspace of its study.
        name: name of the sweep (default: `tiny`).
    """

    def __init__(self, cluster: Cluster, workspace: Workspace) -> None:
        self.cluster, self.workspace, self.name = cluster, workspace, workspace.study.require_sweep().name

    # --- submission and queries

    def submit(self) -> Submission | None:
        """Submit the sweep like `assay submit`."""
        return submit(self.workspace, self.workspace.planner.plan())

    @property
    def directory(self) -> SubmissionDirectory:
        """The newest submission."""
        return submissions(self.workspace.store, self.name)[-1]

    @property
    def ledger(self) -> Ledger[SubmissionDirectory]:
        """Ledger of the newest submission."""
        return Ledger(self.directory)

    @property
    def runs(self) -> list[RunDirectory]:
        """Runs of the newest submission, in order."""
        return self.directory.runs()

    def task(self, run: RunDirectory) -> str:
        """Return SLURM's id of the newest task of a run."""
        job = self.ledger.newest_tasks()[run.fingerprint].job
        assert job is not None, "the run was not submitted"
        return job

    def job(self, run: RunDirectory) -> dict[str, str]:
        """Query the controller for that task: JobState, Restarts, NodeList, ..."""
        return self.cluster.job(self.task(run))

    def job_status(self, run: RunDirectory) -> JobStatus:
        """Query the status of a run's job."""
        return query_run_statuses(self.ledger, [run.fingerprint])[run.fingerprint]

    def queue(self) -> list[str]:
        """List every job and task in the queue, one per line: id, name, state and reason."""
        return self.cluster.command("squeue", "--noheader", "--array", "--format=%i %j %T %r").splitlines()

    def job_logs(self) -> str:
        """Read the logs of all jobs of the submission."""
        logs = sorted(self.directory.submitit.glob("*.out"))
        return "\n".join(f"-- {log.name}\n{log.read_text(errors='replace')}" for log in logs)

    # --- waiting

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds; fail if a run becomes failed, diverged or cancelled meanwhile."""

        def holds() -> bool:
            for run in self.workspace.store.runs():
                status = run.status()
                assert status.state not in BAD, f"{run.fingerprint[:8]} {status}\n{self.job_logs()}"
            return bool(condition())

        try:
            until(holds, what)
        except AssertionError as error:
            error.add_note(self.job_logs() if submissions(self.workspace.store, self.name) else "nothing was submitted")
            raise

    def until_checkpoint(self, run: RunDirectory, *, after: int = 0) -> int:
        """Wait until a run trains and has a checkpoint after a step; return the step of the checkpoint."""

        def newest() -> int:
            return max((int(path.name.removeprefix("step-")) for path in run.checkpoints.glob("step-*")), default=0)

        self.until(lambda: newest() > after and run.status().state == "training", f"a checkpoint above step {after}")
        return newest()

    def until_closed(self) -> None:
        """Wait until the submission is closed and none of its jobs is queued."""
        self.until(lambda: self.directory.closed, "the sweep to be closed with a verdict")
        self.until(lambda: not any(self._mine in line for line in self.queue()), "the queue to be empty")

    # --- final state

    def all_done_once(self) -> None:
        """Assert that every run finished training once with the undisturbed weights, and that the sweep has a verdict."""
        weights = undisturbed_weights(self.workspace)
        for run in map(self.workspace.store.run, weights):
            status, steps = run.status(), [record["step"] for record in run.history()]
            assert (status.state, status.failure) == ("done", None)
            assert run.evaluated(self.workspace.runs.evaluation.fingerprint)
            assert times_trained(run) == 1, run.log.read_text()
            assert steps == sorted(set(steps))
            assert steps[-1] == status.step == status.steps
            assert status.weights == weights[run.fingerprint]
            assert not run.claimed
        assert not any(directory.live for directory in submissions(self.workspace.store, self.name))
        closed, reports = self.directory.closed, self.workspace.store.reports
        assert closed is not None
        assert closed.decision in {"ACCEPT", "REJECT", "INCONCLUSIVE"}
        for kind in ("verdict.json", "md", "html"):
            assert (reports / f"{self.name}.{kind}").stat().st_size > 0
        assert not [line for line in self.queue() if self._mine in line]

    @property
    def _mine(self) -> str:
        """Start of its job names in a line of `queue`."""
        return f" assay-{self.name}-"


def make_sweep(
    cluster: Cluster,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    steps: int = STEPS,
    slurm: Mapping[str, Any] | None = None,
    prepared: bool = True,
    **overrides: Any,
) -> Sweep:
    """Create a tiny sweep for a cluster without submitting it.

    Args:
        cluster: cluster of its jobs.
        folder: folder of the test.
        monkeypatch: sets the lease times, in this process and in all jobs.
        steps: steps of a run.
        slurm: changes to the SLURM section of the profile.
        prepared: whether to build the corpora in this process; otherwise a corpus job builds them.
        **overrides: overrides of the study, such as ``sweep__seeds=[0, 1]``.
    """
    for name, value in LEASE.items():
        monkeypatch.setenv(name, value)
    study = tiny_study(
        folder / "project",
        steps=steps,
        overrides={
            "cluster": profile(slurm or {}),
            "training.checkpoint_seconds": 0.3,
            "sweep.seeds": [0],
            "sweep.candidates": ["no_books"],
            **{name.replace("__", "."): value for name, value in overrides.items()},
        },
    )
    workspace = Workspace(study)
    if prepared:
        prepare_corpora(workspace.sources, workspace.mixes.sweep_sources)
    return Sweep(cluster, workspace)


def profile(slurm: Mapping[str, Any]) -> dict[str, Any]:
    """Return the test profile, with changes to its SLURM section."""
    return {
        "name": "tests",
        "executor": "slurm",
        "workers": None,
        "cpus_per_worker": 1,
        "device": "cpu",
        "environment": {},
        "timeout_hours": 0.2,
        "slurm": {"partition": "main", "grace_seconds": 10, "runs_per_job": 2, **slurm},
    }


def undisturbed_weights(workspace: Workspace) -> dict[str, str]:
    """Train a sweep's runs in this process and return their final weights, by fingerprint."""
    wanted = {run.fingerprint for run in workspace.planner.plan().runs if run.fingerprint is not None}
    if not wanted <= _undisturbed.keys():
        with tempfile.TemporaryDirectory() as folder:
            raw = {**workspace.study.raw, "cluster": {**profile({}), "executor": "debug", "slurm": None}}
            raw["paths"] = {**raw["paths"], "store": folder}
            local_workspace = Workspace(Study.parse(raw))
            submit(local_workspace, local_workspace.planner.plan())
            _undisturbed.update({run.fingerprint: run.status().weights or "" for run in local_workspace.store.runs()})
    return {fingerprint: _undisturbed[fingerprint] for fingerprint in wanted}


def times_trained(run: RunDirectory) -> int:
    """Count how often a run's final weights were written, over all its attempts."""
    return run.log.read_text(encoding="utf-8").count("final weights")


def gated(gate: Path) -> dict[str, list[str]]:
    """Return settings that make jobs wait until a file exists."""
    return {"setup": [f"until [ -e {gate} ]; do sleep 0.1; done"]}


class PickleTrap:
    """Object that creates a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)
