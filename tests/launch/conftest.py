"""Studies that are submitted for real, and whose workers never outlive the test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.launch.waiting import end_workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from assay.study import Study
    from assay.workspace import Workspace


class MakeWorkspace(Protocol):
    """Makes the workspace of a tiny study; `changes` as `tests.conftest.tiny_study` takes them."""

    def __call__(self, **changes: Any) -> Workspace: ...


@pytest.fixture
def workspace(tiny_study: Callable[..., Study]) -> Iterator[MakeWorkspace]:
    """What its studies have left running is killed when the test ends."""
    from assay.workspace import Workspace

    made: list[Workspace] = []

    def make(**changes: Any) -> Workspace:
        made.append(Workspace(tiny_study(**changes)))
        return made[-1]

    yield make
    for space in made:
        end_workers(space.store)
