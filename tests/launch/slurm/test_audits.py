"""An audit on a cluster: what was killed is looked at by the same command again, and nothing is looked at twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.audit.task import Task
from assay.launch.slurm.audit_records import AuditDirectory, audits
from assay.launch.slurm.audit_submit import split
from assay.sources import Source
from assay.store import Store
from tests.audit.listings import FORMS, LISTINGS, PROSE
from tests.cli.calls import Said, caller
from tests.launch.waiting import until
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
  jobs_at_once: 1 # loops are compiled once: 12 s of a core
  setup: ["until [ -e {gate} ]; do sleep 0.1; done"]
"""
SOURCE = 'files: ["data/{name}/*.jsonl"]\ndomain: web\nlanguage: en\nlicence: MIT\n'


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
        "audit", "crawl", "news", *(arguments if "cluster=local" in arguments else ("cluster=tests", *arguments))
    )


def test_a_killed_shard_is_looked_at_by_the_same_command_again_and_no_other(
    bare_cluster: Cluster, assay: Callable[..., Said], tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    sent = assay("--jobs", "2", "--json")
    assert (sent.code, sent.json["state"], sent.json["sent"], sent.json["jobs"]) == (0, "sent", 4, 2)
    again = assay()
    assert again.out.startswith("under way, sent ")
    assert len(audits(store)) == 1

    first = audits(store)[0]
    [job] = first.batches.jobs("shards")
    until(lambda: bare_cluster.job(f"{job}_0")["JobState"] == "RUNNING", "the first task to begin")
    bare_cluster.command("scancel", f"{job}_0")
    (tmp_path / "gate").touch()
    until(lambda: first.closed, "the first audit to end")
    assert first.closed is not None
    killed = set(first.batches.batch(1).tasks[0])
    assert (first.closed.outcome, first.closed.left) == ("incomplete", len(killed)), said(first)
    [stands] = assay("--status", "--json").json["audits"]
    assert (stands["state"], stands["shards"], stands["done"]) == ("incomplete", 4, 4 - len(killed))
    until(lambda: "cancelled" in states(assay), "accounting to know of the killed task")
    assert "the same command again" in " ".join(assay("--status").out.split())

    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("sums.json")}
    assert assay("--json").json["sent"] == len(killed)
    second = audits(store)[0]
    assert {key for task in second.batches.batch(1).tasks for key in task} == killed
    until(lambda: second.closed, "the second audit to end")
    assert second.closed is not None
    assert second.closed.outcome == "audited", said(second)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept

    found = assay("--json")
    [gutter] = [one for one in found.json["findings"] if one["detector"] == "line_number_gutter"]
    assert (found.code, gutter["source"], gutter["documents"], gutter["new"]) == (1, "crawl", 30, True)
    assert assay("--json").code == 0  # somebody was shown it
    assert len(audits(store)) == 2
    here = assay("--json", "cluster=local", "--workers", "0")
    assert plain(here) == plain(found)


def states(assay: Callable[..., Said]) -> set[str]:
    [stands] = assay("--status", "--json").json["audits"]
    return {one["state"] for one in stands["jobs"]}


def plain(said: Said) -> list[tuple[str, str, int, float]]:
    """What was found, but for whether it is new."""
    return [(one["source"], one["detector"], one["documents"], one["share"]) for one in said.json["findings"]]


def said(directory: AuditDirectory) -> str:
    """What its jobs have printed."""
    return "\n".join(f"-- {path.name}\n{path.read_text()}" for path in sorted(directory.submitit.glob("*.out")))


# --- how files are dealt out


def task(size: int) -> Task:
    source = Source(name="web", files=("a.jsonl",), domain="web", language="en", licence=None)
    return Task(source=source, part=0, parts=1, key=f"{size:064}", size=size)


@pytest.mark.parametrize("jobs", [1, 3, 8, 1000])
def test_every_file_is_dealt_out_once_and_no_job_has_much_more_than_its_share(jobs: int) -> None:
    tasks = [task(size) for size in range(1, 101)]
    parts = split(tasks, jobs)
    assert sorted(one.key for part in parts for one in part) == [one.key for one in tasks]
    assert len(parts) == min(jobs, 100)
    loads = [sum(one.size for one in part) for part in parts]
    assert max(loads) - min(loads) <= 100  # the largest file: nobody can do better for certain
    assert split(tasks[::-1], jobs) == parts


def test_nothing_is_dealt_out_where_nothing_is_left() -> None:
    assert split([], 4) == []
