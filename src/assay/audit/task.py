"""Define scan tasks (a file or a part of it), the settings of a scan, and the scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.audit import duplicates
from assay.audit.detectors.registry import Detector, detectors
from assay.audit.scan.collector import DocumentCollector
from assay.audit.scan.scan_file import ItemGrams, scan_documents
from assay.config.sources import Source
from assay.core.files import read_json, replacing, write_json
from assay.core.serde import to_mapping
from assay.corpus.source_reader import ReadOptions

SECONDS = 5.0
"""Time limit of a detector in seconds per document, or per megabyte of a larger document."""


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """Settings that determine the result of a scan."""

    declared: tuple[dict[str, Any], ...] = ()
    """The project's detectors; see `assay.audit.detectors.registry`."""
    without: tuple[str, ...] = ()
    """Names of excluded detectors."""
    questions: str | None = None
    """Folder of the index of benchmark items; see `assay.audit.contamination`."""
    seconds: float = SECONDS

    def detectors(self) -> list[Detector]:
        """Return the built-in and the declared detectors, without the excluded detectors."""
        return detectors(self.declared, without=self.without)


@dataclass(frozen=True, kw_only=True)
class AuditTask:
    """A file, or a part of it, that one process scans."""

    source: Source
    """The source, restricted to this file."""
    part: int
    parts: int
    key: str
    """Fingerprint of all inputs of the result."""
    size: int
    """Size of the stored file or part in bytes."""
    skip: tuple[tuple[int, str], ...] = ()
    """Documents, by number from 0, each with the name of a detector that must not scan it."""


def scan_task(  # noqa: PLR0917  # inputs and callbacks
    task: AuditTask,
    settings: AuditSettings,
    selected: Sequence[Detector],
    folder: Path,
    progress: Callable[[int], None],
    beat: Callable[[int, str], None],
) -> None:
    """Scan a file, and store the result under the task's key."""
    skip: dict[int, set[str]] = {}
    for number, name in task.skip:
        skip.setdefault(number, set()).add(name)
    collector = DocumentCollector()
    sums, hashes = scan_documents(
        task.source,
        selected,
        options=ReadOptions(part=task.part, parts=task.parts),
        questions=_questions(settings.questions),
        seconds=settings.seconds,
        skip=skip,
        progress=progress,
        beat=beat,
        observe=collector.add,
    )
    with replacing(folder / task.key) as temporary:
        temporary.mkdir()
        duplicates.write_hashes(temporary, hashes)
        collector.write(temporary)
        write_json(temporary / "sums.json", to_mapping(sums))


def _questions(index: str | None) -> ItemGrams | None:
    if index is None:
        return None
    folder = Path(index)
    return ItemGrams(
        grams=np.load(folder / "grams.npy", allow_pickle=False),
        task=np.load(folder / "task.npy", allow_pickle=False),
        names=tuple(read_json(folder / "names.json")),
    )
