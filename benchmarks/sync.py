"""Time to send a sweep to W&B: `python benchmarks/sync.py [RUNS [DELAY]]`. Uses its own store in a temporary folder.

The benchmark calls `assay sync --send` through W&B's real client, with a loopback server that implements W&B's
protocol: once to the end, again with nothing new, and again after SIGKILL halfway. It compares the server with the
store: every run and every history record exactly once. DELAY is the time before each reply of the server in seconds, to
simulate a distant server.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # hence the imports below, which E402 reports

from tests.helpers.finished import finish  # noqa: E402
from tests.report.wandb import wandb_stub  # noqa: E402

from sweeps import MIXES, make_project  # noqa: E402

if TYPE_CHECKING:
    from assay.plan.plan import PlannedRun
    from assay.plan.workspace import Workspace

RUNS, RECORDS = 300, 100
SYNC = [sys.executable, "-m", "assay", "sync", "sweep=large", "--send", "--json"]
POLICY = """{name: large, alpha: 0.05, min_seeds: 3,
  primary: [{task: validation/code, metric: bits_per_byte, better: lower}]}"""
SAME = ("loss", "bits_per_byte", "lr", "grad_norm", "tokens_per_second")


class Call(NamedTuple):
    """One call of `assay sync`.

    Attributes:
        name: description of the call.
        seconds: wall time.
        runs: number of W&B runs that were new on the server.
        requests: number of requests that the server received.
        problems: the problems that the command reported.
    """

    name: str
    seconds: float
    runs: int
    requests: int
    problems: list[str]


def fill(space: Workspace, planned: PlannedRun) -> None:
    """Write a trained and scored run with its history."""
    spec = planned.spec
    assert spec is not None
    run = finish(space, planned.mix, planned.seed)
    run.update(weights="a" * 64, started=1_794_999_000.0)
    draw, lines = random.Random(f"{planned.mix} {planned.seed}"), []
    for place in range(1, RECORDS + 1):
        loss = 4 + 4 * math.exp(-6 * place / RECORDS) + draw.gauss(0, 0.03)
        figures = dict(zip(SAME, (loss, loss / 2.5, 0.001, 0.7, 9_000.0), strict=True))
        step = spec.steps * place // RECORDS
        by_source = dict.fromkeys(spec.corpora, loss)
        lines.append({"step": step, "tokens": step * spec.tokens_per_step, **figures, "loss_by_source": by_source})
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))


@contextmanager
def syncing(root: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `assay sync` with a home folder without keys."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    settings = {"HOME": str(root / "home"), "WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": url}
    with subprocess.Popen(SYNC, cwd=root, env=environment | settings, stdout=subprocess.PIPE) as process:
        yield process


def call(name: str, root: Path, url: str, received: wandb_stub.Received, *, kill_at: float = math.inf) -> Call:
    """Call `assay sync` once, and kill it as soon as the server has `kill_at` runs."""
    before, requests, started = len(received.runs), received.requests, time.perf_counter()
    with syncing(root, url) as process:
        while process.poll() is None and len(received.runs) < kill_at:
            time.sleep(0.05)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        assert process.stdout is not None
        printed = process.stdout.read()
    if process.returncode not in (0, -signal.SIGKILL):
        sys.exit(f"{name}: `assay sync` ended with {process.returncode}")
    problems = json.loads(printed)["problems"] if printed else []
    seconds = time.perf_counter() - started
    return Call(name, seconds, len(received.runs) - before, received.requests - requests, problems)


def differences(space: Workspace, received: wandb_stub.Received, *, resumptions: int) -> list[str]:
    """Return the differences between the server and the store.

    Args:
        space: the project.
        received: the server's state.
        resumptions: maximum number of resumed runs.
    """
    problems = [f"the server does not implement {name}" for name in received.unknown]
    trained = {name: run for name, run in received.runs.items() if run.fields["jobType"] == "train"}
    for run in space.store.runs():
        server_run = trained.pop(run.fingerprint[:32], None)
        history = [] if server_run is None else server_run.history
        expected = [[line["step"], *(line[key] for key in SAME)] for line in run.history()]
        if [[row["_step"], *(row[f"train/{key}"] for key in SAME)] for row in history] != expected:
            problems.append(f"{run.fingerprint[:8]}: {len(history)} of {len(expected)} records")
    problems += [f"{name} is not in the store" for name in trained]
    names = [run.fields.get("displayName") for run in received.runs.values()]
    problems += [f"{name} exists twice" for name in sorted({str(name) for name in names if names.count(name) > 1})]
    resumed = sum(run.resumptions for run in received.runs.values())
    unfinished = sum(run.state != "finished" for run in received.runs.values())
    return [
        *problems,
        *([f"{resumed} runs were resumed; expected at most {resumptions}"] if resumed > resumptions else []),
        *([f"{unfinished} are not finished"] if unfinished else []),
    ]


def main() -> None:
    """Print the table and all differences."""
    from assay.report.wandb.uploader import AT_ONCE

    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    delay = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    table = Table(*("assay sync --send", "seconds", "W&B runs", "runs per second", "requests"))
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        space = make_project(root, runs)
        (root / "conf" / "policy" / "large.yaml").write_text(POLICY)
        for planned in space.planner.plan().runs:
            fill(space, planned)
        unpublished, wrong = shutil.copytree(root / "store", root / "unpublished"), []
        with wandb_stub.serve(delay=delay) as (url, received):
            calls = [call(name, root, url, received) for name in ("to the end", "again, nothing new")]
            wrong += differences(space, received, resumptions=0)
        shutil.rmtree(root / "store")
        unpublished.rename(root / "store")
        with wandb_stub.serve(delay=delay) as (url, received):
            half = calls[0].runs // 2
            calls.append(call("killed halfway by SIGKILL", root, url, received, kill_at=half))
            calls.append(call("again after SIGKILL", root, url, received))
            wrong += differences(space, received, resumptions=AT_ONCE)
    for sync in calls:
        table.add_row(
            sync.name, f"{sync.seconds:.0f}", str(sync.runs), f"{sync.runs / sync.seconds:.1f}", f"{sync.requests:,}"
        )
    title = (
        f"{runs} trained and scored runs of {MIXES} mixes, {RECORDS} records each, {AT_ONCE} concurrent uploads, "
        f"{delay:g} s per reply"
    )
    Console(width=100).print(title, table, sep="\n")
    problems = [f"{sync.name}: {problem}" for sync in calls for problem in sync.problems] + wrong
    print(*(problems or ["the server has every run and every record once; nothing failed"]), sep="\n")
    if problems:
        sys.exit(1)


if __name__ == "__main__":
    main()
