"""A file that is looked at by one process, what it is looked at with, and the looking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.audit import copies
from assay.audit.detectors import Detector, detectors
from assay.audit.examine import Questions, examine
from assay.audit.unknown import Seen
from assay.corpus.read import Look
from assay.files import read_json, replacing, write_json
from assay.sources import Source
from assay.structure import to_mapping

SECONDS = 5.0
"""That a detector may take for a document, or for a megabyte of it."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides what is seen in a file."""

    declared: tuple[dict[str, Any], ...] = ()
    """A team's own detectors; see `assay.audit.detectors`."""
    without: tuple[str, ...] = ()
    questions: str | None = None
    """The index of the benchmarks' questions, as `assay.audit.contamination` writes it."""
    seconds: float = SECONDS

    def detectors(self) -> list[Detector]:
        """The detectors, ready to look."""
        return detectors(self.declared, without=self.without)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A file, or a part of one, that is looked at by one process."""

    source: Source
    """With this one file."""
    part: int
    parts: int
    key: str
    size: int
    skip: tuple[tuple[int, str], ...] = ()


def work(  # noqa: PLR0917  # what it is about, and where it tells of it
    task: Task,
    settings: Settings,
    looking: Sequence[Detector],
    folder: Path,
    progress: Callable[[int], None],
    beat: Callable[[int, str], None],
) -> None:
    """Look at a file, and put what was seen under its key."""
    skip: dict[int, set[str]] = {}
    for number, name in task.skip:
        skip.setdefault(number, set()).add(name)
    unknown = Seen()
    sums, prints = examine(
        task.source,
        looking,
        look=Look(part=task.part, parts=task.parts),
        questions=_questions(settings.questions),
        seconds=settings.seconds,
        skip=skip,
        progress=progress,
        beat=beat,
        seen=unknown.add,
    )
    with replacing(folder / task.key) as temporary:
        temporary.mkdir()
        copies.keep(temporary, prints)
        unknown.write(temporary)
        write_json(temporary / "sums.json", to_mapping(sums))


def _questions(index: str | None) -> Questions | None:
    if index is None:
        return None
    folder = Path(index)
    return Questions(
        grams=np.load(folder / "grams.npy", allow_pickle=False),
        task=np.load(folder / "task.npy", allow_pickle=False),
        names=tuple(read_json(folder / "names.json")),
    )
