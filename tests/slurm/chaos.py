"""`python -m tests.slurm.chaos`: forty runs on a cluster that is hurt at random, held against forty quiet ones.

Nodes, the controller, accounting and whoever submits are killed and brought back, jobs are preempted, suspended and
requeued, in an order that the seed decides. In the end every run has to be there, trained to its end once, with the
weights of a quiet run to the byte.
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

from assay.launch.records import SubmissionDirectory, submissions
from assay.launch.slurm.ledger import Ledger
from assay.launch.submission import submit
from assay.study import Study
from assay.workspace import Workspace
from tests.launch.slurm.sweeps import LEASE, quiet, times_trained
from tests.slurm.cluster import Cluster, missing
from tests.tiny import tiny_study

SUBMIT = (
    "import json, sys; from assay.study import Study; from assay.workspace import Workspace; "
    "from assay.launch.submission import submit; "
    "space = Workspace(Study.parse(json.loads(open(sys.argv[1]).read()))); submit(space, space.plan())"
)
"""What `assay submit` does, in a process that may be killed."""
GPUS = 1


@dataclass
class Chaos:
    """What is done to a cluster, and what is hurt at the moment."""

    cluster: Cluster
    dice: random.Random
    study: Path
    began: float = field(default_factory=time.monotonic)
    done: Counter[str] = field(default_factory=Counter)
    mend: list[tuple[float, str, Callable[[], None]]] = field(default_factory=list)
    submitters: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def say(self, words: str) -> None:
        print(f"{time.monotonic() - self.began:6.0f} s  {words}", flush=True)

    def step(self) -> None:
        """Do one thing, and mend what is due."""
        self._mend_due()
        hurt = {what for _, what, _ in self.mend}
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
        if what in hurt or ("slurmctld" in hurt and what in {"preempt", "suspend", "requeue", "slurmd"}):
            return
        try:
            getattr(self, f"_{what}")()
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            self.say(f"{what}: not now ({getattr(error, 'stderr', '') or error})"[:120])
            return
        self.done[what] += 1

    def _later(self, what: str, low: float, high: float, mend: Callable[[], None]) -> None:
        self.mend.append((time.monotonic() + self.dice.uniform(low, high), what, mend))

    def _mend_due(self, *, all_of_it: bool = False) -> None:
        due = [one for one in self.mend if all_of_it or one[0] <= time.monotonic()]
        self.mend = [one for one in self.mend if one not in due]
        for _, what, mend in due:
            try:
                mend()
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                self.say(f"{what} comes back later ({error})"[:120])
                self.mend.append((time.monotonic() + 5.0, what, mend))

    def mend_all(self) -> None:
        """Bring everything back."""
        while self.mend:
            self._mend_due(all_of_it=True)
        for process in self.submitters:
            process.wait()

    def _node(self) -> None:
        node = self.dice.choice(self.cluster.nodes)
        self.say(f"{node} loses its power")
        self.cluster.kill(node)
        self._later("node", 5, 40, lambda: self.cluster.start(node))

    def _slurmd(self) -> None:
        node = self.dice.choice(self.cluster.nodes)
        self.say(f"slurmd of {node} dies, its jobs live on")
        self.cluster.kill_slurmd_only(node)
        self._later("node", 5, 30, lambda: self.cluster.start(node))

    def _slurmctld(self) -> None:
        self.say("the controller dies")
        self.cluster.kill("slurmctld")
        self._later("slurmctld", 2, 15, lambda: self.cluster.start("slurmctld"))

    def _slurmdbd(self) -> None:
        if self.dice.random() < 0.5:
            self.say("accounting hangs")
            self.cluster.freeze("slurmdbd")
            self._later("slurmdbd", 5, 30, lambda: self.cluster.thaw("slurmdbd"))
        else:
            self.say("accounting dies")
            self.cluster.kill("slurmdbd")
            self._later("slurmdbd", 5, 30, lambda: self.cluster.start("slurmdbd"))

    def _preempt(self) -> None:
        node = self.dice.choice(self.cluster.nodes)
        self.say(f"{node} is wanted by main")
        job = self.cluster.preempt(node)
        self._later("preempt", 5, 20, lambda: self.cluster.cancel(job))

    def _running(self) -> str | None:
        jobs = self.cluster.command("squeue", "-h", "-t", "R", "-p", "scavenge", "-o", "%F_%K %j").splitlines()
        mine = [line.split()[0] for line in jobs if "-runs" in line]
        return self.dice.choice(mine) if mine else None

    def _suspend(self) -> None:
        if (job := self._running()) is not None:
            self.say(f"job {job} is suspended")
            self.cluster.command("scontrol", "suspend", job)
            self._later("suspend", 2, 15, lambda: self._resume(job))

    def _resume(self, job: str) -> None:
        if job in self.cluster.command("squeue", "-h", "-r", "-t", "S", "-o", "%F_%K").splitlines():
            self.cluster.command("scontrol", "resume", job)

    def _requeue(self) -> None:
        if (job := self._running()) is not None:
            self.say(f"job {job} is requeued")
            self.cluster.command("scontrol", "requeue", job)

    def _submitter(self) -> None:
        """Somebody submits again, and may be killed at it."""
        process = subprocess.Popen(
            [sys.executable, "-c", SUBMIT, str(self.study)],
            env=os.environ | self.cluster.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.submitters.append(process)
        if self.dice.random() < 0.7:
            self.say("somebody submits, and is killed at it")
            self._later("submitter", 0.5, 6, lambda: process.send_signal(signal.SIGKILL))
        else:
            self.say("somebody submits again")
            self._later("submitter", 10, 20, lambda: None)


def main() -> int:
    """Run it, print what came out, and exit with 1 if anything of it is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--every", type=float, default=8.0, help="seconds between two blows, on average")
    asked = parser.parse_args()
    if reason := missing():
        print(reason)
        return 2
    os.environ.update(LEASE)
    with tempfile.TemporaryDirectory(prefix="assay-chaos-") as folder, Cluster.temporary() as cluster:
        os.environ.update(cluster.environment)
        return _run(Path(folder), cluster, asked)


def _run(folder: Path, cluster: Cluster, asked: argparse.Namespace) -> int:
    space = Workspace(_study(folder, asked))
    space.prepare(sorted(space.digests))
    print(f"{asked.runs} quiet runs of {asked.steps} steps ...", flush=True)
    began = time.monotonic()
    weights = quiet(space)
    print(
        f"... took {time.monotonic() - began:.0f} s\nseed {asked.seed}, {asked.minutes:g} minutes of chaos", flush=True
    )
    file = folder / "study.json"
    file.write_text(json.dumps(space.study.raw), encoding="utf-8")
    chaos = Chaos(cluster=cluster, dice=random.Random(asked.seed), study=file)
    submit(space, space.plan())
    over = _pass_through(chaos, space, asked)
    return _report(chaos, space, weights, over)


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
            "tend_minutes": 0.5,
            # A cluster that is hurt every few seconds breaks any cap that suits one that isn't.
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


def _pass_through(chaos: Chaos, space: Workspace, asked: argparse.Namespace) -> float | None:
    """Hurt the cluster for the time given, then let it be until the sweep is over; returns when that was, in seconds."""
    until = chaos.began + asked.minutes * 60
    told = 0.0
    while not _closed(space) and time.monotonic() < until + 1200:
        if time.monotonic() < until:
            chaos.step()
            time.sleep(chaos.dice.uniform(0.5, 2 * asked.every - 0.5))
        else:
            if chaos.mend:
                chaos.mend_all()
                chaos.say("the chaos is over")
            time.sleep(2.0)
        if time.monotonic() - told > 30:
            told = time.monotonic()
            chaos.say(f"-- {dict(Counter(run.status().state for run in space.store.runs()))}")
    chaos.mend_all()
    return time.monotonic() - chaos.began if _closed(space) else None


def _closed(space: Workspace) -> bool:
    return all(directory.closed is not None for directory in submissions(space.store, "tiny"))


def _report(chaos: Chaos, space: Workspace, weights: dict[str, str], over: float | None) -> int:
    runs = [space.store.run(fingerprint) for fingerprint in weights]
    statuses = [run.status() for run in runs]
    evaluation = space.evaluation.fingerprint
    finished = sum(run.evaluated(evaluation) for run in runs)
    same = sum(status.weights == weights[run.fingerprint] for run, status in zip(runs, statuses, strict=True))
    ends = [times_trained(run) if run.log.exists() else 0 for run in runs]
    attempts = sum(status.attempt for status in statuses)
    held, useful = _gpu_seconds(space), _useful_seconds(runs)
    causes = Counter(
        cause
        for one in submissions(space.store, "tiny")
        for batch in Ledger(one).batches()
        for cause in batch.causes.values()
    )
    print("\nblows      ", ", ".join(f"{count} {what}" for what, count in chaos.done.most_common()))
    print("sent again ", ", ".join(f"{count} {what}" for what, count in causes.most_common()) or "none")
    print(f"over after  {'never' if over is None else f'{over:.0f} s'}")
    print(f"finished    {finished} of {len(runs)}; {attempts} attempts")
    print(f"same bytes  {same} of {len(runs)} as in a quiet run")
    print(f"trained to the end more than once: {sum(count > 1 for count in ends)}, never: {ends.count(0)}")
    print(f"GPU-seconds {held:.0f} held by jobs, of which {useful:.0f} trained or evaluated what counts")
    for run, status in zip(runs, statuses, strict=True):
        if status.failure is not None:
            print(f"failed      {run.fingerprint[:12]} {status.failure.kind}: {status.failure.message[:200]}")
    good = over is not None and finished == same == len(runs) and all(count == 1 for count in ends)
    print("all is well" if good else "NOT WELL")
    return 0 if good else 1


def _gpu_seconds(space: Workspace) -> float:
    """What all jobs of the sweep held, by their own records."""
    total = 0.0
    for directory in submissions(space.store, "tiny"):
        for worker in directory.workers():
            last = worker.ended or _written(directory, worker.name)
            total += GPUS * (worker.spent + last - worker.started)
    return total


def _written(directory: SubmissionDirectory, name: str) -> float:
    return (directory.path / "workers" / f"{name}.json").stat().st_mtime


def _useful_seconds(runs: list[Any]) -> float:
    """What the runs' final weights and scores took, at the speed that each of them had in the end."""
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
