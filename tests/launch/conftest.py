"""Studies that are really submitted, and whose workers end with the test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.launch.polling import end_workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from assay.config.study import Study
    from assay.plan.workspace import Workspace


class MakeWorkspace(Protocol):
    """Provide a function that creates the workspace of a tiny study; `changes` as in `tests.conftest.tiny_study`."""

    def __call__(self, **changes: Any) -> Workspace: ...


@pytest.fixture
def workspace(tiny_study: Callable[..., Study]) -> Iterator[MakeWorkspace]:
    """Kill all processes of its studies when the test ends."""
    from assay.plan.workspace import Workspace

    made: list[Workspace] = []

    def make(**changes: Any) -> Workspace:
        made.append(Workspace(tiny_study(**changes)))
        return made[-1]

    yield make
    for space in made:
        end_workers(space.store)
