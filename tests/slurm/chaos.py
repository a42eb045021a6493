"""`python -m tests.slurm.chaos`: forty runs on a cluster with random faults, compared with forty undisturbed runs.

The script kills and restarts nodes, the controller, accounting and submitting processes. It preempts, suspends and
requeues jobs. The seed determines the order. At the end, every run must be finished, must have completed its training
once, and must have exactly the weights of the undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.config.study import Study
from assay.launch.slurm.batches import Ledger
from assay.launch.submit import submit
from assay.plan.prepare import prepare_corpora
from assay.plan.workspace import Workspace
from assay.store.submissions import SubmissionDirectory, submissions
from tests.helpers.tiny import tiny_study
from tests.launch.slurm.sweeps import LEASE, times_trained, undisturbed_weights
from tests.slurm.cluster import Cluster, missing

SUBMIT = (
    "import json, sys; from assay.config.study import Study; from assay.plan.workspace import Workspace; "
    "from assay.launch.submit import submit; "
    "space = Workspace(Study.parse(json.loads(open(sys.argv[1]).read()))); submit(space, space.planner.plan())"
)
"""Program that does the same as `assay submit`, in a process that may be killed."""
GPUS = 1


@dataclass
class Chaos:
    """Fault injection into a cluster, with the faults that are active now."""

    cluster: Cluster
    dice: random.Random
    study: Path
    began: float = field(default_factory=time.monotonic)
    done: Counter[str] = field(default_factory=Counter)
    repairs: list[tuple[float, str, Callable[[], None]]] = field(default_factory=list)
    submitters: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def log(self, message: str) -> None:
        print(f"{time.monotonic() - self.began:6.0f} s  {message}", flush=True)

    def step(self) -> None:
        """Inject one fault, and repair the faults that are due."""
        self._repair_due()
        active = {what for _, what, _ in self.repairs}
        acts = {
            "node": 4,
            "preempt": 4,
            "slurmctld": 2,
            "slurmdbd": 2,
            "suspend": 2,
            "requeue": 2,
            "submitter": 2,
            "slurmd": 1,
        }
        what = self.dice.choices(list(acts), weights=list(acts.values()))[0]
        if what in active or ("slurmctld" in active and what in {"preempt", "suspend", "requeue", "slurmd"}):
            return
        try:
            getattr(self, f"_{what}")()
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            self.log(f"{what}: skipped ({getattr(error, 'stderr', '') or error})"[:120])
            return
        self.done[what] += 1

    def _later(self, what: str, low: float, high: float, repair: Callable[[], None]) -> None:
        self.repairs.append((time.monotonic() + self.dice.uniform(low, high), what, repair))

    def _repair_due(self, *, all_faults: bool = False) -> None:
        due = [entry for entry in self.repairs if all_faults or entry[0] <= time.monotonic()]
        self.repairs = [entry for entry in self.repairs if entry not in due]
        for _, what, repair in due:
            try:
                repair()
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                self.log(f"{what}: repair delayed ({error})"[:120])
                self.repairs.append((time.monotonic() + 5.0, what, repair))

    def repair_all(self) -> None:
        """Repair all faults."""
        while self.repairs:
            self._repair_due(all_faults=True)
        for process in self.submitters:
            process.wait()

    def _node(self) -> None:
        node = self.dice.choice(self.cluster.nodes)
        self.log(f"{node}: power failure")
        self.cluster.kill(node)
        self._later("node", 5, 40, lambda: self.cluster.start(node))

    def _slurmd(self) -> None:
        node = self.dice.choice(self.cluster.nodes)
        self.log(f"{node}: slurmd crashes, jobs continue")
        self.cluster.kill_slurmd_only(node)
        self._later("node", 5, 30, lambda: self.cluster.start(node))

    def _slurmctld(self) -> None:
        self.log("slurmctld crashes")
        self.cluster.kill("slurmctld")
        self._later("slurmctld", 2, 15, lambda: self.cluster.start("slurmctld"))

    def _slurmdbd(self) -> None:
        if self.dice.random() < 0.5:
            self.log("slurmdbd freezes")
            self.cluster.freeze("slurmdbd")
            self._later("slurmdbd", 5, 30, lambda: self.cluster.thaw("slurmdbd"))
        else:
            self.log("slurmdbd crashes")
            self.cluster.kill("slurmdbd")
            self._later("slurmdbd", 5, 30, lambda: self.cluster.start("slurmdbd"))

    def _preempt(self) -> None:
        node = self.dice.choice(self.cluster.nodes)
        self.log(f"{node}: preemption by main")
        job = self.cluster.preempt(node)
        self._later("preempt", 5, 20, lambda: self.cluster.cancel(job))

    def _running(self) -> str | None:
        jobs = self.cluster.command("squeue", "-h", "-t", "R", "-p", "scavenge", "-o", "%F_%K %j").splitlines()
        running = [line.split()[0] for line in jobs if "-runs" in line]
        return self.dice.choice(running) if running else None

    def _suspend(self) -> None:
        if (job := self._running()) is not None:
            self.log(f"job {job}: suspended")
            self.cluster.command("scontrol", "suspend", job)
            self._later("suspend", 2, 15, lambda: self._resume(job))

    def _resume(self, job: str) -> None:
        if job in self.cluster.command("squeue", "-h", "-r", "-t", "S", "-o", "%F_%K").splitlines():
            self.cluster.command("scontrol", "resume", job)

    def _requeue(self) -> None:
        if (job := self._running()) is not None:
            self.log(f"job {job}: requeued")
            self.cluster.command("scontrol", "requeue", job)

    def _submitter(self) -> None:
        """Submit the sweep again, in a process that may be killed."""
        process = subprocess.Popen(
            [sys.executable, "-c", SUBMIT, str(self.study)],
            env=os.environ | self.cluster.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.submitters.append(process)
        if self.dice.random() < 0.7:
            self.log("another submission, to be killed")
            self._later("submitter", 0.5, 6, lambda: process.send_signal(signal.SIGKILL))
        else:
            self.log("another submission")
            self._later("submitter", 10, 20, lambda: None)


def main() -> int:
    """Run the experiment and print the results; return 1 if a check fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--every", type=float, default=8.0, help="mean time between faults in seconds")
    asked = parser.parse_args()
    if reason := missing():
        print(reason)
        return 2
    os.environ.update(LEASE)
    with tempfile.TemporaryDirectory(prefix="assay-chaos-") as folder, Cluster.temporary() as cluster:
        os.environ.update(cluster.environment)
        return _run(Path(folder), cluster, asked)


def _run(folder: Path, cluster: Cluster, asked: argparse.Namespace) -> int:
    workspace = Workspace(_study(folder, asked))
    prepare_corpora(workspace.sources, workspace.mixes.sweep_sources)
    print(f"{asked.runs} undisturbed runs of {asked.steps} steps ...", flush=True)
    began = time.monotonic()
    weights = undisturbed_weights(workspace)
    print(
        f"... took {time.monotonic() - began:.0f} s\nseed {asked.seed}, {asked.minutes:g} minutes of chaos", flush=True
    )
    file = folder / "study.json"
    file.write_text(json.dumps(workspace.study.raw), encoding="utf-8")
    chaos = Chaos(cluster=cluster, dice=random.Random(asked.seed), study=file)
    submit(workspace, workspace.planner.plan())
    finished_after = _run_chaos(chaos, workspace, asked)
    return _report(chaos, workspace, weights, finished_after)


def _study(folder: Path, asked: argparse.Namespace) -> Study:
    profile: dict[str, Any] = {
        "name": "chaos",
        "executor": "slurm",
        "cpus_per_worker": 1,
        "device": "cpu",
        "environment": {},
        "timeout_hours": 0.5,
        "slurm": {
            "partition": "scavenge",
            "control_partition": "main",
            "gpus_per_node": GPUS,
            "jobs_at_once": 6,
            "runs_per_job": 2,
            "preemptible": True,
            "grace_seconds": 10,
            "monitor_minutes": 0.5,
            # With a fault every few seconds, runs exceed every normal retry limit.
            "retries": dict.fromkeys(("node failed", "killed", "vanished", "job failed", "launch failed"), 100),
        },
    }
    overrides = {
        "cluster": profile,
        "training.checkpoint_seconds": 1.0,
        "sweep.seeds": list(range(asked.runs // 2)),
        "sweep.candidates": ["no_books"],
    }
    return tiny_study(folder / "project", steps=asked.steps, overrides=overrides)


def _run_chaos(chaos: Chaos, workspace: Workspace, asked: argparse.Namespace) -> float | None:
    """Inject faults for the given time, then wait for the sweep; return its duration in seconds, ``None`` if it never ends."""
    until = chaos.began + asked.minutes * 60
    logged = 0.0
    while not _closed(workspace) and time.monotonic() < until + 1200:
        if time.monotonic() < until:
            chaos.step()
            time.sleep(chaos.dice.uniform(0.5, 2 * asked.every - 0.5))
        else:
            if chaos.repairs:
                chaos.repair_all()
                chaos.log("no further faults")
            time.sleep(2.0)
        if time.monotonic() - logged > 30:
            logged = time.monotonic()
            chaos.log(f"-- {dict(Counter(run.status().state for run in workspace.store.runs()))}")
    chaos.repair_all()
    return time.monotonic() - chaos.began if _closed(workspace) else None


def _closed(workspace: Workspace) -> bool:
    return all(directory.closed is not None for directory in submissions(workspace.store, "tiny"))


def _report(chaos: Chaos, workspace: Workspace, weights: dict[str, str], finished_after: float | None) -> int:
    runs = [workspace.store.run(fingerprint) for fingerprint in weights]
    statuses = [run.status() for run in runs]
    evaluation = workspace.runs.evaluation.fingerprint
    finished = sum(run.evaluated(evaluation) for run in runs)
    same = sum(status.weights == weights[run.fingerprint] for run, status in zip(runs, statuses, strict=True))
    ends = [times_trained(run) if run.log.exists() else 0 for run in runs]
    attempts = sum(status.attempt for status in statuses)
    held, useful = _gpu_seconds(workspace), _useful_seconds(runs)
    causes = Counter(
        cause
        for directory in submissions(workspace.store, "tiny")
        for batch in Ledger(directory).batches()
        for cause in batch.causes.values()
    )
    print("\nfaults      ", ", ".join(f"{count} {what}" for what, count in chaos.done.most_common()))
    print("resubmitted", ", ".join(f"{count} {what}" for what, count in causes.most_common()) or "none")
    print(f"duration    {'unfinished' if finished_after is None else f'{finished_after:.0f} s'}")
    print(f"finished    {finished} of {len(runs)}; {attempts} attempts")
    print(f"same bytes  {same} of {len(runs)} as in undisturbed runs")
    print(f"finished training more than once: {sum(count > 1 for count in ends)}, never: {ends.count(0)}")
    print(f"GPU-seconds {held:.0f} allocated to jobs; {useful:.0f} of them produced the final weights and scores")
    for run, status in zip(runs, statuses, strict=True):
        if status.failure is not None:
            print(f"failed      {run.fingerprint[:12]} {status.failure.kind}: {status.failure.message[:200]}")
    good = finished_after is not None and finished == same == len(runs) and all(count == 1 for count in ends)
    print("passed" if good else "FAILED")
    return 0 if good else 1


def _gpu_seconds(workspace: Workspace) -> float:
    """Sum the GPU-seconds of all jobs of the sweep, from their worker records."""
    total = 0.0
    for directory in submissions(workspace.store, "tiny"):
        for worker in directory.workers():
            last = worker.ended or _written(directory, worker.name)
            total += GPUS * (worker.spent + last - worker.started)
    return total


def _written(directory: SubmissionDirectory, name: str) -> float:
    return (directory.path / "workers" / f"{name}.json").stat().st_mtime


def _useful_seconds(runs: list[Any]) -> float:
    """Sum the GPU-seconds of the runs' final weights and scores, at each run's mean speed."""
    total = 0.0
    for run in runs:
        status = run.status()
        rates = [record["tokens_per_second"] for record in run.history() if record.get("tokens_per_second")]
        if rates:
            total += status.tokens * sum(1 / rate for rate in rates) / len(rates)
        total += status.evaluate_seconds
    return total * GPUS


if __name__ == "__main__":
    sys.exit(main())
