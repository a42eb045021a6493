"""A SLURM for the tests here: each worker of pytest's brings up its own, once, and every test finds it at rest."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.slurm.cluster import Cluster, missing

_FIXTURES = ("cluster", "bare_cluster")


@pytest.fixture
def cluster(accounting_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster with accounting, at rest, to which SLURM's commands go while the test runs."""
    return _entered(accounting_cluster, monkeypatch)


@pytest.fixture
def bare_cluster(plain_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """As `cluster`, without accounting: `sacct` fails."""
    return _entered(plain_cluster, monkeypatch)


@pytest.fixture(scope="session")
def accounting_cluster() -> Iterator[Cluster]:
    """What `cluster` is made of; tests take that."""
    yield from _cluster(accounting=True)


@pytest.fixture(scope="session")
def plain_cluster() -> Iterator[Cluster]:
    """What `bare_cluster` is made of; tests take that."""
    yield from _cluster(accounting=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failure is shown with the queue, the nodes and the logs as they were then."""
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
