"""Stop requests of a job: signals and the time limit."""

from __future__ import annotations

import signal

import pytest

from assay.config.cluster import Cluster, Slurm
from assay.launch.slurm.job import _StopRequest

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
    """Clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a clock at the start of a job."""
    monkeypatch.delenv("SLURM_JOB_START_TIME", raising=False)
    return Clock()


def test_a_job_stops_grace_seconds_before_its_time_limit(clock: Clock) -> None:
    with _StopRequest(HOUR, clock=clock).listening() as stop:
        clock.now += 3500
        assert not stop()
        clock.now += 50
        assert stop()
        assert stop.time_limit_reached


def test_the_time_of_a_suspension_does_not_count(clock: Clock) -> None:
    with _StopRequest(HOUR, clock=clock).listening() as stop:
        for _ in range(3):
            clock.now += 1000
            assert not stop()
            clock.now += 100_000
            signal.raise_signal(signal.SIGCONT)
            assert not stop()
        clock.now += 600
        assert stop()
        assert stop.time_limit_reached


def test_sigusr2_counts_only_long_before_the_time_limit(clock: Clock) -> None:
    """SLURM sends it up to a minute early; long before the limit, it means preemption."""
    with _StopRequest(HOUR, clock=clock).listening() as stop:
        clock.now += 3500
        signal.raise_signal(signal.SIGUSR2)
        assert not stop()
    with _StopRequest(HOUR, clock=clock).listening() as stop:
        signal.raise_signal(signal.SIGUSR2)
        assert stop()
        assert not stop.time_limit_reached
