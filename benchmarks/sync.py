"""What it takes to send a sweep to W&B: `python benchmarks/sync.py [RUNS [DELAY]]`. Makes its own store, in a temporary folder.

`assay sync --send` is called as people call it, through W&B's real client, with a server on loopback that speaks its
protocol: once to the end, again with nothing new, and ended by SIGKILL in the middle and called again. What the server
has is compared with the store: every run once, every record of its history once. DELAY is what it waits before each
answer, in seconds, as a server would that is far away.
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
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "publish")]

import wandb_stub  # noqa: E402
from tests.finished import finish  # noqa: E402

from sweeps import MIXES, make_project  # noqa: E402

if TYPE_CHECKING:
    from assay.plan import PlannedRun
    from assay.workspace import Workspace

RUNS, RECORDS = 300, 100
SYNC = [sys.executable, "-m", "assay", "sync", "sweep=large", "--send", "--json"]
POLICY = """{name: large, alpha: 0.05, min_seeds: 3,
  primary: [{task: validation/code, metric: bits_per_byte, better: lower}]}"""
SAME = ("loss", "bits_per_byte", "lr", "grad_norm", "tokens_per_second")


class Call(NamedTuple):
    """One call of `assay sync`.

    Attributes:
        what: which one it was.
        seconds: from its start to its end.
        runs: of W&B's that it sent, as far as the server has them.
        requests: that the server had.
        problems: what it said was not told.
    """

    what: str
    seconds: float
    runs: int
    requests: int
    problems: list[str]


def fill(space: Workspace, planned: PlannedRun) -> None:
    """A run that is trained and scored, with its history."""
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
    """`assay sync` at work, in a home without anybody's keys."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    asked = {"HOME": str(root / "home"), "WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": url}
    with subprocess.Popen(SYNC, cwd=root, env=own | asked, stdout=subprocess.PIPE) as process:
        yield process


def call(what: str, root: Path, url: str, received: wandb_stub.Received, *, kill_at: float = math.inf) -> Call:
    """Call it once; it is ended as soon as the server has so many runs."""
    before, asked, started = len(received.runs), received.requests, time.perf_counter()
    with syncing(root, url) as process:
        while process.poll() is None and len(received.runs) < kill_at:
            time.sleep(0.05)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        assert process.stdout is not None
        printed = process.stdout.read()
    if process.returncode not in (0, -signal.SIGKILL):
        sys.exit(f"{what}: `assay sync` ended with {process.returncode}")
    said = json.loads(printed)["problems"] if printed else []
    seconds = time.perf_counter() - started
    return Call(what, seconds, len(received.runs) - before, received.requests - asked, said)


def differences(space: Workspace, received: wandb_stub.Received, *, taken_up: int) -> list[str]:
    """Where the server does not have what the store has, once."""
    found = [f"no answer to {name}" for name in received.unknown]
    trained = {name: run for name, run in received.runs.items() if run.fields["jobType"] == "train"}
    for run in space.store.runs():
        told = trained.pop(run.fingerprint[:32], None)
        history = [] if told is None else told.history
        wanted = [[line["step"], *(line[key] for key in SAME)] for line in run.history()]
        if [[row["_step"], *(row[f"train/{key}"] for key in SAME)] for row in history] != wanted:
            found.append(f"{run.fingerprint[:8]}: {len(history)} records of {len(wanted)}")
    found += [f"{name} is not in the store" for name in trained]
    names = [run.fields.get("displayName") for run in received.runs.values()]
    found += [f"{name} is there twice" for name in sorted({str(one) for one in names if names.count(one) > 1})]
    again = sum(run.taken_up for run in received.runs.values())
    unfinished = sum(run.state != "finished" for run in received.runs.values())
    return [
        *found,
        *([f"{again} runs were taken up again, {taken_up} at most had been on their way"] if again > taken_up else []),
        *([f"{unfinished} are not finished"] if unfinished else []),
    ]


def main() -> None:
    """Print the table, and whatever is wrong."""
    from assay.publish.tracking.sender import AT_ONCE

    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    delay = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    table = Table(*("assay sync --send", "seconds", "runs of W&B's", "a second", "requests"))
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        space = make_project(root, runs)
        (root / "conf" / "policy" / "large.yaml").write_text(POLICY)
        for planned in space.plan().runs:
            fill(space, planned)
        untold, wrong = shutil.copytree(root / "store", root / "untold"), []
        with wandb_stub.serve(delay=delay) as (url, received):
            calls = [call(what, root, url, received) for what in ("to the end", "again, nothing new")]
            wrong += differences(space, received, taken_up=0)
        shutil.rmtree(root / "store")
        untold.rename(root / "store")
        with wandb_stub.serve(delay=delay) as (url, received):
            half = calls[0].runs // 2
            calls.append(call("ended by SIGKILL halfway", root, url, received, kill_at=half))
            calls.append(call("called again", root, url, received))
            wrong += differences(space, received, taken_up=AT_ONCE)
    for one in calls:
        table.add_row(
            one.what, f"{one.seconds:.0f}", str(one.runs), f"{one.runs / one.seconds:.1f}", f"{one.requests:,}"
        )
    title = f"{runs} trained and scored runs of {MIXES} mixes, {RECORDS} records each, {AT_ONCE} told at a time, {delay:g} s an answer"
    Console(width=100).print(title, table, sep="\n")
    said = [f"{one.what}: {problem}" for one in calls for problem in one.problems]
    print(*(said + wrong or ["every run and every record was there once; nothing failed"]), sep="\n")
    if said or wrong:
        sys.exit(1)


if __name__ == "__main__":
    main()
