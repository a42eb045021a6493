"""When a job of a cluster stops by itself."""

from __future__ import annotations

import signal

import pytest

from assay.launch.slurm.job import _Notice
from assay.settings import Cluster, Slurm

HOUR = Cluster(
    name="tests",
    executor="slurm",
    cpus_per_worker=1,
    device="cpu",
    environment={},
    timeout_hours=1.0,
    slurm=Slurm(grace_seconds=60.0),
)


class Clock:
    """Tells what it is set to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """At a job's beginning."""
    monkeypatch.delenv("SLURM_JOB_START_TIME", raising=False)
    return Clock()


def test_a_job_stops_a_grace_before_its_time_is_up(clock: Clock) -> None:
    with _Notice(HOUR, clock=clock).listening() as notice:
        clock.now += 3500
        assert not notice()
        clock.now += 50
        assert notice()
        assert notice.time_is_up


def test_the_time_that_a_job_was_suspended_is_not_its_own(clock: Clock) -> None:
    with _Notice(HOUR, clock=clock).listening() as notice:
        for _ in range(3):
            clock.now += 1000
            assert not notice()
            clock.now += 100_000
            signal.raise_signal(signal.SIGCONT)
            assert not notice()
        clock.now += 600
        assert notice()
        assert notice.time_is_up


def test_the_signal_that_comes_before_the_end_counts_only_where_the_end_is_far(clock: Clock) -> None:
    """SLURM sends it up to a minute early; long before, it means that the job has to make room."""
    with _Notice(HOUR, clock=clock).listening() as notice:
        clock.now += 3500
        signal.raise_signal(signal.SIGUSR2)
        assert not notice()
    with _Notice(HOUR, clock=clock).listening() as notice:
        signal.raise_signal(signal.SIGUSR2)
        assert notice()
        assert not notice.time_is_up
