"""The hours of a job that SLURM requeued, or that a later job replaced, count once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from assay.core.lease_files import Holder, LeaseGenerations
from assay.core.processes import ProcessIdentity
from assay.launch.slurm.status import read_jobs
from assay.store.runs import Store
from assay.store.submissions import Submission, SubmissionDirectory, SubmittedRun, Worker
from tests.launch.planned_sweeps import EVALUATION
from tests.launch.slurm.test_monitor import profile

if TYPE_CHECKING:
    from assay.config.study import Study

RUN = "a" * 64
HOUR = 3600.0


@pytest.fixture
def directory(tmp_path: Path, tiny_study: Callable[..., Study]) -> SubmissionDirectory:
    """An open submission to a cluster, whose jobs have one CPU each."""
    store = Store(tmp_path / "store")
    directory = SubmissionDirectory(store.sweep("tiny") / "submissions" / "20260101T000000-abcdef")
    directory.create(
        Submission(
            id=directory.path.name,
            sweep="tiny",
            created=0.0,
            cluster="tests",
            executor="slurm",
            workers=1,
            code="c" * 64,
            digests={},
            runs=(SubmittedRun(fingerprint=RUN, mix="base", seed=0),),
            evaluation=EVALUATION,
            study=tiny_study(cluster={**profile({}), "cpus_per_worker": 1}).raw,
        )
    )
    (directory.path / "batches").mkdir()
    return directory


def record(directory: SubmissionDirectory, name: str, job: str, *, ago: float, spent: float = 0.0) -> None:
    """Record a worker that began a run some hours ago, and has no end."""
    began = time.time() - ago * HOUR
    worker = Worker(
        name=name, process=ProcessIdentity.of(os.getpid()), job=job, started=began, runs=(RUN,), spent=spent
    )
    directory.record_worker(worker)
    os.utime(directory.path / "workers" / f"{name}.json", (began, began))


def touch(directory: SubmissionDirectory, generation: int, job: str, *, ago: float) -> None:
    """Leave a lease of the run that a job touched last some hours ago."""
    leases = LeaseGenerations(directory.store.run(RUN).path)
    holder = Holder(token=f"{generation}", process=ProcessIdentity.of(os.getpid()), job=job)
    assert leases.create(generation, holder)
    os.utime(leases.file(generation), (time.time() - ago * HOUR,) * 2)


def hours(directory: SubmissionDirectory) -> float:
    jobs = read_jobs(directory.store, "tiny", [])
    assert jobs is not None
    assert jobs.hours is not None
    return jobs.hours.spent


def test_a_killed_job_counts_until_its_last_activity(directory: SubmissionDirectory) -> None:
    """It waits for its restart since then."""
    record(directory, "b1-0", "70_0", ago=5.0)
    touch(directory, 1, "70_0", ago=4.0)
    assert hours(directory) == pytest.approx(1.0, abs=0.01)


def test_a_job_that_replaces_a_lost_one_counts_once(directory: SubmissionDirectory) -> None:
    record(directory, "b1-0", "70_0", ago=5.0)
    touch(directory, 1, "70_0", ago=4.0)
    record(directory, "b2-0", "71_0", ago=2.0)
    touch(directory, 2, "71_0", ago=0.0)
    assert hours(directory) == pytest.approx(1.0 + 2.0, abs=0.01)


def test_a_job_that_restarted_under_its_name_keeps_its_earlier_hours(directory: SubmissionDirectory) -> None:
    record(directory, "b1-0", "70_0", ago=2.0, spent=1.0 * HOUR)
    touch(directory, 2, "70_0", ago=0.5)
    assert hours(directory) == pytest.approx(1.0 + 1.5, abs=0.01)


def test_a_killed_job_that_started_no_run_counts_until_its_record(directory: SubmissionDirectory) -> None:
    record(directory, "b1-0", "70_0", ago=3.0)
    assert hours(directory) == pytest.approx(0.0, abs=0.01)
