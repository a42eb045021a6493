"""What training needs of its data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Reader(Protocol):
    """What training needs of `assay.corpus.loader.SequenceReader`."""

    names: tuple[str, ...]

    def read(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids (sequences, length + 1), and the index of each sequence's source."""

    def delivered(self, stop: int) -> dict[str, dict[str, Any]]:
        """What each source has given before a position."""

    def epoch_starts(self, start: int, stop: int) -> Sequence[Any]:
        """The second and later epochs that begin there: `source`, `epoch`, `position`."""
