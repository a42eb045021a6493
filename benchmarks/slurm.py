"""SLURM overhead of a sweep: `python benchmarks/slurm.py [submit] [overhead]`, as root, with SLURM installed.

The script starts its own cluster (tests/slurm). It compares assay with submitit, used as in its manual, and with Hydra's
launcher for submitit, which it installs into a temporary folder if the package index has it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]  # hence the imports below, which E402 reports

from tests.helpers.tiny import tiny_study  # noqa: E402
from tests.slurm.cluster import Cluster, missing  # noqa: E402

from assay.launch.submit import submit  # noqa: E402
from assay.plan.prepare import prepare_corpora  # noqa: E402
from assay.plan.workspace import Workspace  # noqa: E402
from assay.store.submissions import submissions  # noqa: E402
from sweeps import make_project  # noqa: E402  # a script in this folder

RUNS = (100, 1_000, 4_000)
LATER = "now+1day"
"""Start time of the jobs of the first table, which measures only their submission."""
TRAINED, STEPS = 6, 400
"""Sequential runs of the second table, and their steps."""

PLAIN = """
import sys, submitit
from work import nothing
executor = submitit.SlurmExecutor(folder="logs")
executor.update_parameters(partition="main", time=60, array_parallelism=4000, additional_parameters={"begin": "now+1day"})
executor.map_array(nothing, range(int(sys.argv[1])))
"""
WORK = """
import json, sys, time
from pathlib import Path

def nothing(number):
    return number

def one_run(file, mix, seed):
    # The training and evaluation of an assay run, without job management.
    from dataclasses import replace
    from assay.evaluate.evaluation import evaluate
    from assay.config.study import Study
    from assay.train.loop import train
    from assay.corpus.loader import SequenceReader
    from assay.plan.workspace import Workspace
    space = Workspace(Study.parse(json.loads(Path(file).read_text())))
    spec = space.runs.spec(mix, seed)
    run = space.store.run(spec.fingerprint)
    run.create(spec, space.runs.labels(mix, seed))
    began = time.perf_counter()
    train(spec, run, SequenceReader.open(spec, space.store.corpora), tokenizer=space.sources.tokenizer_folder, settings=replace(space.study.training, device="cpu"))
    folders = {name: space.sources.corpus_folder(name) for name in space.runs.evaluation.validation}
    evaluate(run, space.runs.evaluation, folders, mirror=None, device="cpu")
    return time.perf_counter() - began
"""
HYDRA = """
import hydra, json, time
from pathlib import Path
from work import nothing, one_run

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    if cfg.file is None:
        return nothing(cfg.number)
    seconds = one_run(cfg.file, cfg.mix, cfg.number)
    Path(f"{cfg.file}.{cfg.mix}.{cfg.number}.seconds").write_text(str(seconds))

main()
"""
HYDRA_CONF = """
defaults:
  - _self_
  - override hydra/launcher: submitit_slurm
number: 0
file: null
mix: base
hydra:
  launcher: {partition: main, timeout_min: 60, cpus_per_task: 1, tasks_per_node: 1, array_parallelism: 4000}
"""


def main() -> None:
    """Print the tables."""
    chosen = set(sys.argv[1:]) or {"submit", "overhead"}
    if reason := missing():
        print(reason)
        return
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    with tempfile.TemporaryDirectory() as made, Cluster.temporary() as cluster:
        os.environ.update(cluster.environment)
        folder = Path(made)
        launcher = _install_launcher(folder / "launcher")
        if "submit" in chosen:
            _measure_submission(folder, cluster, launcher=launcher)
        if "overhead" in chosen:
            _overhead(folder, cluster, launcher=launcher)


def _install_launcher(folder: Path) -> bool:
    """Install hydra-submitit-launcher into a folder on PYTHONPATH; assay already has its dependencies."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    done = subprocess.run([*command, "hydra-submitit-launcher"], check=False, capture_output=True)
    os.environ["PYTHONPATH"] += f":{folder}"
    return done.returncode == 0


def _scripts(folder: Path) -> Path:
    """Create a folder with the programs for the other two launchers."""
    (folder / "conf").mkdir(parents=True)
    for name, text in {"plain.py": PLAIN, "work.py": WORK, "app.py": HYDRA, "conf/config.yaml": HYDRA_CONF}.items():
        (folder / name).write_text(text)
    os.environ["PYTHONPATH"] += f":{folder}"
    return folder


# --- submission and status


def _measure_submission(folder: Path, cluster: Cluster, *, launcher: bool) -> None:
    table = Table()
    for column in ("runs", "assay submit", "again", "status", "status --json", "submitit", "hydra launcher"):
        table.add_column(column, justify="right")
    scripts = _scripts(folder / "submit")
    for runs in RUNS:
        project = folder / f"project{runs}"
        make_project(project, runs)
        study = ["sweep=large", "cluster=slurm", f"+cluster.slurm.options.begin={LATER}"]
        times = [_seconds([sys.executable, "-m", "assay", "submit", *study], project) for _ in range(2)]
        status_times = [
            _seconds([sys.executable, "-m", "assay", "status", *study, *more], project) for more in ([], ["--json"])
        ]
        _empty(cluster)
        times += [*status_times, _seconds([sys.executable, "plain.py", str(runs)], scripts)]
        _empty(cluster)
        times.append(_until_queued(cluster, scripts, runs) if launcher else float("nan"))
        _empty(cluster)
        table.add_row(f"{runs:,}", *(f"{taken:.1f}" for taken in times))
    Console(width=120).print(
        "Seconds until all jobs are submitted, and seconds of a status command; Python startup included", table
    )


def _seconds(command: list[str], folder: Path) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - started


def _until_queued(cluster: Cluster, scripts: Path, runs: int) -> float:
    """Measure the time until all jobs are queued: Hydra's launcher itself waits until its jobs have ended."""
    begin = f"+hydra.launcher.additional_parameters.begin={LATER}"
    command = [sys.executable, "app.py", "--multirun", f"number=range({runs})", begin]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=scripts, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(cluster.command("squeue", "--noheader", "--array", "--format=%i").splitlines()) < runs:
        if process.poll() is not None:
            return float("nan")
        time.sleep(0.1)
    taken = time.perf_counter() - started
    process.kill()
    process.wait()
    return taken


def _empty(cluster: Cluster) -> None:
    cluster.command("scancel", "--user", str(os.getuid()))
    while cluster.command("squeue", "--noheader"):
        time.sleep(0.2)


# --- overhead per run


def _overhead(folder: Path, cluster: Cluster, *, launcher: bool) -> None:
    table = Table("launcher", "jobs", "wall s", "of which training and evaluation", "overhead per run, s")
    scripts = _scripts(folder / "overhead")
    variants: dict[str, Callable[[], tuple[float, float, int]]] = {
        "submitit, one job per run": lambda: _plain(folder / "plain", scripts),
        "assay, one job per run": lambda: _assay(folder / "single", cluster, runs_per_job=1),
        f"assay, {TRAINED} runs per job": lambda: _assay(folder / "packed", cluster, runs_per_job=TRAINED),
        f"assay, {TRAINED} runs per job, 2 concurrent": lambda: _assay(
            folder / "concurrent", cluster, runs_per_job=TRAINED, runs_per_gpu=2
        ),
    }
    if launcher:
        variants["hydra launcher, one job per run"] = lambda: _hydra(folder / "hydra", scripts)
    for name, measure in variants.items():
        wall, work, jobs = measure()
        concurrent = 2 if "2 concurrent" in name else 1
        table.add_row(name, str(jobs), f"{wall:.1f}", f"{work:.1f}", f"{(wall - work / concurrent) / TRAINED:.1f}")
    title = f"{TRAINED} runs of {STEPS} steps, one job at a time on an empty cluster, until the scores of the last run are written"
    Console(width=120).print(title, table)


def _space(folder: Path, **slurm: Any) -> Workspace:
    profile = {
        "name": "bench",
        "executor": "slurm",
        "cpus_per_worker": 1,
        "device": "cpu",
        "environment": {},
        "timeout_hours": 1.0,
        "slurm": {"partition": "main", "jobs_at_once": 1, **slurm},
    }
    changes = {"cluster": profile, "sweep.seeds": list(range(TRAINED // 2)), "sweep.candidates": ["no_books"]}
    workspace = Workspace(tiny_study(folder, steps=STEPS, overrides=changes))
    prepare_corpora(workspace.sources, workspace.mixes.sweep_sources)
    return workspace


def _assay(folder: Path, cluster: Cluster, **slurm: Any) -> tuple[float, float, int]:
    workspace = _space(folder, **slurm)
    started = time.time()
    submit(workspace, workspace.planner.plan())
    directory = submissions(workspace.store, "tiny")[-1]
    while directory.closed is None:
        time.sleep(0.5)
    statuses = [run.status() for run in workspace.store.runs()]
    wall = max(status.finished or 0.0 for status in statuses) - started
    _empty(cluster)
    return wall, sum(s.train_seconds + s.evaluate_seconds for s in statuses), len(directory.workers())


def _plain(folder: Path, scripts: Path) -> tuple[float, float, int]:
    workspace = _space(folder)
    file = folder / "study.json"
    file.write_text(json.dumps(workspace.study.raw))
    code = (
        "import json, sys, submitit; from work import one_run; e = submitit.SlurmExecutor(folder='logs2');"
        "e.update_parameters(partition='main', time=60, cpus_per_task=1, array_parallelism=1);"
        f"mixes = ['base'] * {TRAINED // 2} + ['no_books'] * {TRAINED // 2};"
        f"seeds = [*range({TRAINED // 2})] * 2;"
        f"jobs = e.map_array(one_run, ['{file}'] * {TRAINED}, mixes, seeds);"
        "print(json.dumps([job.result() for job in jobs]))"
    )
    started = time.time()
    done = subprocess.run([sys.executable, "-c", code], cwd=scripts, check=True, capture_output=True, text=True)
    return _written(workspace) - started, sum(json.loads(done.stdout.splitlines()[-1])), TRAINED


def _hydra(folder: Path, scripts: Path) -> tuple[float, float, int]:
    workspace = _space(folder)
    file = folder / "study.json"
    file.write_text(json.dumps(workspace.study.raw))
    started = time.time()
    seeds = ",".join(map(str, range(TRAINED // 2)))
    command = [sys.executable, "app.py", "--multirun", f"number={seeds}", "mix=base,no_books", f"file={file}"]
    subprocess.run([*command, "hydra.launcher.array_parallelism=1"], cwd=scripts, check=True, capture_output=True)
    work = sum(float(path.read_text()) for path in folder.glob("study.json.*.seconds"))
    return _written(workspace) - started, work, TRAINED


def _written(workspace: Workspace) -> float:
    """Return the modification time of the latest scores."""
    return max(path.stat().st_mtime for path in workspace.store.root.glob("runs/*/evaluations/*/scores.json"))


if __name__ == "__main__":
    main()
