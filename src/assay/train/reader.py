"""Define the interface of training data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Reader(Protocol):
    """The methods of `assay.corpus.loader.SequenceReader` that training uses."""

    names: tuple[str, ...]

    def read(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return token ids (sequences, length + 1), and the index of each sequence's source (sequences,)."""

    def delivered(self, stop: int) -> dict[str, dict[str, Any]]:
        """Return what each source has delivered before a position."""

    def epoch_starts(self, start: int, stop: int) -> Sequence[Any]:
        """Return the second and later epochs that begin at these positions.

        Each entry has `source`, `epoch` and `position`.
        """
