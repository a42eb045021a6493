"""SLURM clusters for tests: each pytest worker starts its own clusters once, and every test starts with an idle one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.slurm.cluster import Cluster, missing

_FIXTURES = ("cluster", "bare_cluster")


@pytest.fixture
def cluster(accounting_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Select an idle cluster with accounting for SLURM's commands in the test."""
    return _entered(accounting_cluster, monkeypatch)


@pytest.fixture
def bare_cluster(plain_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Select an idle cluster without accounting: `sacct` fails."""
    return _entered(plain_cluster, monkeypatch)


@pytest.fixture(scope="session")
def accounting_cluster() -> Iterator[Cluster]:
    """Start the cluster that the fixture `cluster` resets for each test."""
    yield from _cluster(accounting=True)


@pytest.fixture(scope="session")
def plain_cluster() -> Iterator[Cluster]:
    """Start the cluster that the fixture `bare_cluster` resets for each test."""
    yield from _cluster(accounting=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Add the queue, the nodes and the logs to the report of a failure."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for name in _FIXTURES:
            if name in item.funcargs:
                report.sections.append((f"{name}: queue, nodes, logs", item.funcargs[name].log_tail()))
    return report


def _cluster(*, accounting: bool) -> Iterator[Cluster]:
    if reason := missing():
        if os.environ.get("ASSAY_REQUIRE_SLURM") == "1":
            pytest.fail(f"ASSAY_REQUIRE_SLURM=1, and {reason}", pytrace=False)
        pytest.skip(reason)
    with Cluster.temporary(accounting=accounting) as cluster:
        yield cluster


def _entered(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    cluster.reset()
    return cluster
