from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.launch.waiting import end_workers

if TYPE_CHECKING:
    from assay.study import Study
    from assay.workspace import Workspace


@pytest.fixture
def workspace(tiny_study: Callable[..., Study]) -> Iterator[Callable[..., Workspace]]:
    """Makes the workspace of a tiny study; what it has left running is killed when the test ends."""
    from assay.workspace import Workspace

    made: list[Workspace] = []

    def make(**changes: Any) -> Workspace:
        made.append(Workspace(tiny_study(**changes)))
        return made[-1]

    yield make
    for space in made:
        end_workers(space.store)
