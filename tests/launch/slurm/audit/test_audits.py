"""Audits on a cluster: repeating the command scans the lost shards, and no shard twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.audit.task import AuditTask
from assay.config.sources import Source
from assay.launch.slurm.audit.records import AuditDirectory, audits
from assay.launch.slurm.audit.submit import distribute_tasks
from assay.store.runs import Store
from tests.audit.detectors.numbered_pages import FORMS, LISTINGS, PROSE
from tests.cli.invoke import Said, caller
from tests.launch.polling import until
from tests.slurm.cluster import Cluster

PROFILE = """
executor: slurm
cpus_per_worker: 1
device: cpu
environment: {{}}
timeout_hours: 0.2
slurm:
  partition: main
  grace_seconds: 10
  jobs_at_once: 1 # one job at a time compiles the loops only once: 12 s of a core
  setup: ["until [ -e {gate} ]; do sleep 0.1; done"]
"""
SOURCE = 'files: ["data/{name}/*.jsonl"]\ndomain: web\nlanguage: en\nlicense: MIT\n'


def write(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")


@pytest.fixture
def assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    listed = [FORMS["blank"](code, 1) for code in LISTINGS.values()]
    for number in range(3):
        write(tmp_path / f"data/crawl/{number}.jsonl", [f"{text}\nedition {number}" for text in listed])
    write(tmp_path / "data/news/0.jsonl", [f"{number} {PROSE}" for number in range(20)])
    for name in ("crawl", "news"):
        path = tmp_path / f"conf/source/{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SOURCE.format(name=name))
    (tmp_path / "conf/cluster").mkdir()
    (tmp_path / "conf/cluster/tests.yaml").write_text(PROFILE.format(gate=tmp_path / "gate"))
    monkeypatch.chdir(tmp_path)
    call = caller(monkeypatch, capsys)
    return lambda *arguments: call(
        "audit",
        *(["status"] if "status" in arguments else ["scan", "crawl", "news"]),
        *([] if "cluster=local" in arguments else ["cluster=tests"]),
        *(argument for argument in arguments if argument != "status"),
    )


def test_repeating_the_command_scans_only_the_shards_of_a_cancelled_job(
    bare_cluster: Cluster, assay: Callable[..., Said], tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    sent = assay("--jobs", "2", "--json")
    assert (sent.code, sent.json["state"], sent.json["sent"], sent.json["jobs"]) == (0, "sent", 4, 2)
    again = assay()
    assert again.out.startswith("under way, submitted ")
    assert len(audits(store)) == 1

    first = audits(store)[0]
    [job] = first.ledger.jobs("shards")
    until(lambda: bare_cluster.job(f"{job}_0")["JobState"] == "RUNNING", "the first task to begin")
    bare_cluster.command("scancel", f"{job}_0")
    (tmp_path / "gate").touch()
    until(lambda: first.closed, "the first audit to end")
    assert first.closed is not None
    killed = set(first.ledger.batch(1).tasks[0])
    assert (first.closed.outcome, first.closed.left) == ("incomplete", len(killed)), job_logs(first)
    [status] = assay("status", "--json").json["audits"]
    assert (status["state"], status["shards"], status["done"]) == ("incomplete", 4, 4 - len(killed))
    until(lambda: "cancelled" in states(assay), "accounting to know of the killed task")
    assert "repeat the command" in " ".join(assay("status").out.split())

    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("sums.json")}
    assert assay("--json").json["sent"] == len(killed)
    second = audits(store)[0]
    assert {key for task in second.ledger.batch(1).tasks for key in task} == killed
    until(lambda: second.closed, "the second audit to end")
    assert second.closed is not None
    assert second.closed.outcome == "audited", job_logs(second)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept

    result = assay("--json")
    [gutter] = [finding for finding in result.json["findings"] if finding["detector"] == "line_number_gutter"]
    assert (result.code, gutter["source"], gutter["documents"], gutter["new"]) == (1, "crawl", 30, True)
    assert assay("--json").code == 0  # the finding was printed before
    assert len(audits(store)) == 2
    here = assay("--json", "cluster=local", "--workers", "0")
    assert plain(here) == plain(result)


def states(assay: Callable[..., Said]) -> set[str]:
    [status] = assay("status", "--json").json["audits"]
    return {job["state"] for job in status["jobs"]}


def plain(result: Said) -> list[tuple[str, str, int, float]]:
    """Return the findings without the mark for new ones."""
    return [
        (finding["source"], finding["detector"], finding["documents"], finding["fraction"])
        for finding in result.json["findings"]
    ]


def job_logs(directory: AuditDirectory) -> str:
    """Read the logs of all jobs of an audit."""
    return "\n".join(f"-- {path.name}\n{path.read_text()}" for path in sorted(directory.submitit.glob("*.out")))


# --- distribution of files over jobs


def make_task(size: int) -> AuditTask:
    source = Source(name="web", files=("a.jsonl",), domain="web", language="en", license=None)
    return AuditTask(source=source, part=0, parts=1, key=f"{size:064}", size=size)


@pytest.mark.parametrize("jobs", [1, 3, 8, 1000])
def test_every_file_is_assigned_once_and_jobs_have_similar_sizes(jobs: int) -> None:
    tasks = [make_task(size) for size in range(1, 101)]
    parts = distribute_tasks(tasks, jobs)
    assert sorted(task.key for part in parts for task in part) == [task.key for task in tasks]
    assert len(parts) == min(jobs, 100)
    loads = [sum(task.size for task in part) for part in parts]
    assert max(loads) - min(loads) <= 100  # the largest file; no smaller bound holds in general
    assert distribute_tasks(tasks[::-1], jobs) == parts


def test_without_tasks_there_are_no_jobs() -> None:
    assert distribute_tasks([], 4) == []
