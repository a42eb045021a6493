"""What tests of several parts share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.tiny import tiny_study as make

if TYPE_CHECKING:
    from assay.config.study import Study


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:  # xdist calls it so
    """One process more than cores: those that have SLURM, W&B or a browser at work wait half of the time."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.fixture
def tiny_study(tmp_path: Path) -> Callable[..., Study]:
    """Makes a study that takes seconds, in a folder of the test's own; see `tests.helpers.tiny.tiny_study`."""

    def study(*, steps: int = 12, folder: str = "project", **overrides: Any) -> Study:
        return make(
            tmp_path / folder, steps=steps, overrides={key.replace("__", "."): v for key, v in overrides.items()}
        )

    return study


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> None:
    """Shells have what runs behind them ignore SIGINT, and what tests start would inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on a real SLURM go first: they wait more than they work, and at the end one process would do them alone."""
    items.sort(key=lambda item: "slurm" not in item.path.parts)
