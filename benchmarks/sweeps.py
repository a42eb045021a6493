"""Measure the time of `assay plan` and `assay status` for large sweeps: `python benchmarks/sweeps.py`.

Each store, in a temporary folder, has a sweep of 20 mixes. All its runs were submitted, and every other run is done. The
measured time is that of the whole command, including the start of Python.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from assay.config.compose import compose
from assay.core.files import write_json
from assay.plan.prepare import prepare_corpora
from assay.plan.workspace import Workspace
from assay.store.submissions import Submission, SubmissionDirectory, SubmittedRun

if TYPE_CHECKING:
    from assay.plan.plan import PlannedRun

RUNS = (100, 1_000, 2_000, 4_000)
MIXES = 20
TIMES = 3
COMMANDS = {"plan": ["plan"], "status": ["status"], "status --json": ["status", "--json"]}
SOURCES = ("web", "code", "books", "science", "news", "forums")
SWEEP = """# @package _global_
defaults: [override /policy: large]
sweep: {{name: large, baseline: mix_00, candidates: [{candidates}], seeds: [{seeds}]}}
tracking: {{mode: disabled}}
paths: {{store: store, benchmarks: null}}
"""
POLICY = "{name: large, primary: [{task: mmlu, metric: acc, better: higher}], alpha: 0.05, min_seeds: 3}"


def make_project(root: Path, runs: int) -> Workspace:
    """Create a project with six small tokenized sources and a sweep with a number of runs."""
    draw = random.Random(0)
    files = {"conf/policy/large.yaml": POLICY}
    for name in SOURCES:
        lines = [json.dumps({"text": " ".join(f"{name}{draw.randint(0, 99)}" for _ in range(60))}) for _ in range(200)]
        files[f"{name}.jsonl"] = "\n".join(lines)
        files[f"conf/source/{name}.yaml"] = (
            f"{{files: [{name}.jsonl], domain: {name}, language: en, license: CC0-1.0, clearance: {{state: cleared, by: us}}}}"
        )
    weights = ", ".join(f"{name}: {1 / len(SOURCES)}" for name in SOURCES)
    mixes = [f"mix_{i:02d}" for i in range(MIXES)]
    files[f"conf/mix/{mixes[0]}.yaml"] = f"{{weights: {{{weights}}}, max_epochs: 400}}"
    for i, name in enumerate(mixes[1:]):
        files[f"conf/mix/{name}.yaml"] = f"{{base: mix_00, edits: [{{scale: {{{SOURCES[i % 6]}: {1.1 + 0.1 * i}}}}}]}}"
    seeds = ", ".join(map(str, range(runs // MIXES)))
    files["sweeps/large.yaml"] = SWEEP.format(candidates=", ".join(mixes[1:]), seeds=seeds)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    space = Workspace(compose(["sweep=large"], root=root))
    prepare_corpora(space.sources, space.mixes.sweep_sources)
    return space


def submit_and_do_half(space: Workspace) -> None:
    """Write the records of a sweep of which half is done and whose jobs have ended."""
    plan = space.planner.plan()
    submitted = tuple(SubmittedRun(fingerprint=r.fingerprint or "", mix=r.mix, seed=r.seed) for r in plan.runs)
    submission = Submission(
        id="20260101T000000-000000",
        sweep=plan.sweep.name,
        created=time.time(),
        cluster="local",
        executor="local",
        workers=8,
        code="c" * 64,
        digests=space.sources.digests(space.mixes.sweep_sources),
        runs=submitted,
        evaluation=space.runs.evaluation,
        study=space.study.raw,
    )
    SubmissionDirectory(space.store.sweep(plan.sweep.name) / "submissions" / submission.id).create(submission)
    for place, planned in enumerate(plan.runs):
        assert planned.spec is not None
        run = space.store.run(planned.spec.fingerprint)
        run.create(planned.spec, space.runs.labels(planned.mix, planned.seed))
        if place % 2 == 0:
            finish(space, planned)


def finish(space: Workspace, planned: PlannedRun) -> None:
    """Record a run as trained and evaluated, with only those results that `assay status` reads."""
    assert planned.spec is not None
    spec, run = planned.spec, space.store.run(planned.spec.fingerprint)
    run.update(
        state="done",
        step=spec.steps,
        steps=spec.steps,
        tokens=spec.tokens,
        tokens_per_second=5_000.0 + planned.seed,
        started=time.time() - 200,
        finished=time.time(),
        train_seconds=spec.tokens / 5_000,
        evaluate_seconds=30.0,
        attempt=1,
        weights="a" * 64,
    )
    run.model.mkdir()
    (run.model / "model.safetensors").touch()
    evaluation = run.evaluation(space.runs.evaluation.fingerprint)
    write_json(evaluation / "scores.json", {"scores": []})
    (evaluation / "items.parquet").write_bytes(b"PAR1PAR1")


def seconds(root: Path, arguments: list[str]) -> float:
    """Return the median wall time of a command in a project."""
    times = []
    for _ in range(TIMES):
        started = time.perf_counter()
        command = [sys.executable, "-m", "assay", *arguments]
        subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    """Print the table."""
    title = f"Seconds per command with the start of Python, median of {TIMES}: {MIXES} mixes, half of the runs done"
    table = Table()
    for column in ("runs", *COMMANDS, "--help"):
        table.add_column(column, justify="right")
    for runs in map(int, sys.argv[1:]) if len(sys.argv) > 1 else RUNS:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            submit_and_do_half(make_project(root, runs))
            times = [seconds(root, [*arguments, "sweep=large"]) for arguments in COMMANDS.values()]
            table.add_row(f"{runs:,}", *(f"{median:.2f}" for median in times), f"{seconds(root, ['--help']):.2f}")
    Console(width=120).print(title, table, sep="\n")


if __name__ == "__main__":
    main()
