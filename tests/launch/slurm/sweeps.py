"""Tiny sweeps on a test's cluster: submitted, watched while something happens to them, and held against a quiet life."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.launch.records import SubmissionDirectory, submissions
from assay.launch.slurm.ledger import Ledger
from assay.launch.slurm.reconcile import settled
from assay.launch.submission import submit
from assay.study import Study
from assay.workspace import Workspace
from tests.launch.waiting import until
from tests.tiny import tiny_study

if TYPE_CHECKING:
    import pytest

    from assay.launch.records import Submission
    from assay.launch.slurm.queue import Settled
    from assay.store import RunDirectory
    from tests.slurm.cluster import Cluster

STEPS = 1000
"""Of a run: some seconds of a core, so that something can happen meanwhile."""
LEASE = {"ASSAY_LEASE_BEAT": "1", "ASSAY_LEASE_STALE": "6"}
"""Seconds: a holder on a node that died is missed after 6 s, not after a minute."""
SUBMIT = """
import json, pathlib, sys
from assay.launch.submission import submit
from assay.study import Study
from assay.workspace import Workspace
space = Workspace(Study.parse(json.loads(pathlib.Path(sys.argv[1]).read_text())))
submit(space, space.plan())
"""
"""Sends the study whose JSON is in a file, from a process of its own."""
BAD = frozenset({"failed", "diverged", "cancelled"})

_quiet: dict[str, str] = {}
"""The weights of runs to which nothing happened, by fingerprint: made once, whichever tests want them."""


class Sweep:
    """A tiny sweep on a cluster: the baseline `base` and the candidate `no_books`, with one seed.

    Attributes:
        cluster: where its jobs go.
        space: its study.
        name: `tiny`, if it was given no other.
    """

    def __init__(self, cluster: Cluster, space: Workspace) -> None:
        self.cluster, self.space, self.name = cluster, space, space.study.require_sweep().name

    # --- sending and finding things

    def submit(self) -> Submission | None:
        """What `assay submit` does."""
        return submit(self.space, self.space.plan())

    @property
    def directory(self) -> SubmissionDirectory:
        """The newest submission."""
        return submissions(self.space.store, self.name)[-1]

    @property
    def ledger(self) -> Ledger:
        """Its batches."""
        return Ledger(self.directory)

    @property
    def runs(self) -> list[RunDirectory]:
        """Its runs, in order."""
        return self.directory.runs()

    def task(self, run: RunDirectory) -> str:
        """SLURM's name of the newest task that has a run."""
        job = self.ledger.places()[run.fingerprint].job
        assert job is not None, "not handed over"
        return job

    def job(self, run: RunDirectory) -> dict[str, str]:
        """What the controller says of that task: JobState, Restarts, NodeList, ..."""
        return self.cluster.job(self.task(run))

    def settled(self, run: RunDirectory) -> Settled:
        """What assay makes of what SLURM says of a run's job."""
        return settled(self.ledger, [run.fingerprint])[run.fingerprint]

    def queue(self) -> list[str]:
        """Every job and task in the queue: its name, its state and SLURM's reason for that, in one line each."""
        return self.cluster.command("squeue", "--noheader", "--array", "--format=%i %j %T %r").splitlines()

    def said(self) -> str:
        """What all jobs of the submission have printed so far."""
        logs = sorted(self.directory.submitit.glob("*.out"))
        return "\n".join(f"-- {log.name}\n{log.read_text(errors='replace')}" for log in logs)

    # --- waiting

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Come back once a condition holds. Meanwhile no run is ever called failed, diverged or cancelled."""

        def holds() -> bool:
            for run in self.space.store.runs():
                status = run.status()
                assert status.state not in BAD, f"{run.fingerprint[:8]} {status}\n{self.said()}"
            return bool(condition())

        try:
            until(holds, what)
        except AssertionError as error:
            error.add_note(self.said() if submissions(self.space.store, self.name) else "nothing was submitted")
            raise

    def until_checkpoint(self, run: RunDirectory, *, after: int = 0) -> int:
        """Come back once a run trains and has a checkpoint of a step above this one; returns that step."""

        def newest() -> int:
            return max((int(path.name.removeprefix("step-")) for path in run.checkpoints.glob("step-*")), default=0)

        self.until(lambda: newest() > after and run.status().state == "training", f"a checkpoint above step {after}")
        return newest()

    def until_closed(self) -> None:
        """Come back once the submission is over, and nothing of it is in the queue any more."""
        self.until(lambda: self.directory.closed, "the sweep to be judged and closed")
        self.until(lambda: not any(self._mine in line for line in self.queue()), "the queue to be empty")

    # --- what has to be so in the end

    def all_done_once(self) -> None:
        """Every run is done, was trained to its end once, and has the weights of a quiet run; the sweep is judged."""
        weights = quiet(self.space)
        for run in map(self.space.store.run, weights):
            status, steps = run.status(), [record["step"] for record in run.history()]
            assert (status.state, status.failure) == ("done", None)
            assert run.evaluated(self.space.evaluation.fingerprint)
            assert times_trained(run) == 1, run.log.read_text()
            assert steps == sorted(set(steps))
            assert steps[-1] == status.step == status.steps
            assert status.weights == weights[run.fingerprint]
            assert not run.claimed
        assert not any(directory.live for directory in submissions(self.space.store, self.name))
        closed, reports = self.directory.closed, self.space.store.reports
        assert closed is not None
        assert closed.decision in {"ACCEPT", "REJECT", "INCONCLUSIVE"}
        for kind in ("verdict.json", "md", "html"):
            assert (reports / f"{self.name}.{kind}").stat().st_size > 0
        assert not [line for line in self.queue() if self._mine in line]

    @property
    def _mine(self) -> str:
        """What the names of its jobs begin with, in a line of `queue`."""
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
    """Make a tiny sweep for a cluster; nothing is submitted.

    Args:
        cluster: to which SLURM's commands go.
        folder: of the test's own.
        monkeypatch: sets the leases' times, here and in all jobs.
        steps: of a run.
        slurm: changes to the profile's part about SLURM.
        prepared: whether the corpora are made here, which saves the job that would make them.
        **overrides: of the study, as ``sweep__seeds=[0, 1]``.
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
    space = Workspace(study)
    if prepared:
        space.prepare(sorted(space.digests))
    return Sweep(cluster, space)


def profile(slurm: Mapping[str, Any]) -> dict[str, Any]:
    """What tests ask of SLURM, with changes."""
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


def quiet(space: Workspace) -> dict[str, str]:
    """The weights that a sweep's runs end with in this process, where nothing happens to them; by fingerprint."""
    wanted = {run.fingerprint for run in space.plan().runs if run.fingerprint is not None}
    if not wanted <= _quiet.keys():
        with tempfile.TemporaryDirectory() as folder:
            raw = {**space.study.raw, "cluster": {**profile({}), "executor": "debug", "slurm": None}}
            raw["paths"] = {**raw["paths"], "store": folder}
            alone = Workspace(Study.parse(raw))
            submit(alone, alone.plan())
            _quiet.update({run.fingerprint: run.status().weights or "" for run in alone.store.runs()})
    return {fingerprint: _quiet[fingerprint] for fingerprint in wanted}


def times_trained(run: RunDirectory) -> int:
    """How often a run's final weights were put in place, over all its attempts."""
    return run.log.read_text(encoding="utf-8").count("final weights")


def gated(gate: Path) -> dict[str, list[str]]:
    """Settings with which jobs wait until there is a file."""
    return {"setup": [f"until [ -e {gate} ]; do sleep 0.1; done"]}


class Evil:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)
