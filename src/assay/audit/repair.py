"""Write a version of a source without a defect.

Documents without a safe fix stay unchanged or are dropped.
"""

from __future__ import annotations

import contextlib
import difflib
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from assay.audit.detectors.registry import masked
from assay.audit.fixers import FIXERS
from assay.config.sources import Source
from assay.core.errors import NotFound, Refused, did_you_mean
from assay.core.files import replacing
from assay.corpus.source_reader import SourceDocument, documents

CONTEXT, HUNK, LINES, WIDTH = 2, 10, 24, 200
"""Limits of a sample: context lines, lines per change and side, lines in total, characters per line."""
PREVIEW = 4000
"""Number of characters, from the beginning of a document, that are compared for a sample."""
MOST_UNSURE = 100
"""Maximum number of listed ids of unsure documents."""


@dataclass(frozen=True, kw_only=True)
class RepairSample:
    """Difference between a document before and after its repair."""

    document: str
    where: str
    difference: tuple[str, ...]
    """Lines with the prefix `-` (removed), `+` (added) or blank (unchanged), shortened and with secrets masked."""


@dataclass(frozen=True, kw_only=True)
class RepairSummary:
    """Summary of the repair of a source."""

    source: str
    detector: str
    documents: int
    repaired: int
    """Number of repaired documents."""
    unsure: int
    """Number of documents that still have the defect, because the fixer was unsure."""
    dropped: bool
    """Whether the new version omits the unsure documents."""
    removed: int
    """Number of removed passages over all documents."""
    bytes_before: int
    """UTF-8 bytes of the original documents."""
    bytes_after: int
    """UTF-8 bytes of the written documents."""
    samples: tuple[RepairSample, ...]
    unsure_documents: tuple[str, ...]
    """Ids of the first unsure documents, at most `MOST_UNSURE`."""


def require_fixer(detector: str) -> None:
    """Raise an error for a detector without a fixer."""
    if detector not in FIXERS:
        raise NotFound(
            f"detector {detector!r} has no fixer. {did_you_mean(detector, FIXERS)}",
            fix=f"Choose a detector with a fixer: {', '.join(FIXERS)}.",
        )


def repair(
    source: Source,
    detector: str,
    out: Path | None,
    *,
    leave_out: bool = False,
    samples: int = 3,
    mask: Callable[[str], str] = masked,
    progress: Callable[[int], None] | None = None,
) -> RepairSummary:
    """Write the documents of a source with a defect removed.

    Args:
        source: source to repair; its files are read as a stream.
        detector: name of the detector of the defect.
        out: file to write atomically as gzipped JSONL with `id`, `text` and the known origin of each document. None
            writes no file.
        leave_out: whether to drop documents for which the fixer is unsure.
        samples: number of repaired documents to sample.
        mask: masks the secrets of a text without changing its length.
        progress: called with the number of bytes read.

    Raises:
        AssayError: the detector has no fixer, or the source cannot be read.
    """
    require_fixer(detector)
    counts = _Counts(samples=[], unsure=[])
    with contextlib.nullcontext() if out is None else replacing(out) as path, _written(path) as write:
        for document in documents(source, progress=progress):
            repaired = _repair(document, detector, counts, leave_out=leave_out, most=samples, mask=mask)
            if repaired is not None:
                write(repaired)
        if leave_out and counts.documents == counts.unsure_count:  # raised here, so that no file is written
            raise Refused(
                f"the fixer of {detector} is unsure of every document of source {source.name!r}; the repaired source would be empty.",
                fix="Extract the source again, and audit the new version.",
            )
    return RepairSummary(
        source=source.name,
        detector=detector,
        documents=counts.documents,
        repaired=counts.repaired,
        unsure=counts.unsure_count,
        dropped=leave_out,
        removed=counts.removed,
        bytes_before=counts.before,
        bytes_after=counts.after,
        samples=tuple(counts.samples),
        unsure_documents=tuple(counts.unsure),
    )


@dataclass
class _Counts:
    """Counts and samples of a repair."""

    samples: list[RepairSample]
    unsure: list[str]
    documents: int = 0
    repaired: int = 0
    unsure_count: int = 0
    removed: int = 0
    before: int = 0
    after: int = 0


@contextlib.contextmanager
def _written(path: Path | None) -> Iterator[Callable[[SourceDocument], object]]:
    """Yield a function that writes a document; without a path, the function writes nothing."""
    if path is None:
        yield lambda _: None
        return
    # Without name and time in the header, the same documents give the same bytes.
    with path.open("wb") as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
        yield lambda document: packed.write(_line(document))


def _line(document: SourceDocument) -> bytes:
    """Serialize a document as a line of JSON, without its empty fields."""
    record = {name: value for name, value in vars(document).items() if value is not None and name != "where"}
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def _repair(
    document: SourceDocument, detector: str, counts: _Counts, *, leave_out: bool, most: int, mask: Callable[[str], str]
) -> SourceDocument | None:
    """Repair a document; return None to drop it."""
    fixed = FIXERS[detector](document.text)
    counts.documents += 1
    counts.before += len(document.text.encode("utf-8", "surrogatepass"))
    if fixed.unsure:
        counts.unsure_count += 1
        if len(counts.unsure) < MOST_UNSURE:
            counts.unsure.append(document.id)
        if leave_out:
            return None
    counts.after += len(fixed.text.encode("utf-8", "surrogatepass"))
    if not fixed.removed:
        return document
    counts.repaired += 1
    counts.removed += fixed.removed
    if len(counts.samples) < most:
        difference = _difference(mask(document.text), mask(fixed.text))
        counts.samples.append(RepairSample(document=document.id, where=document.where, difference=difference))
    return replace(document, text=fixed.text)


def _difference(before: str, after: str) -> tuple[str, ...]:
    """Return the first changed lines of both texts, with context lines."""
    old, new = (text[:PREVIEW].split("\n") for text in (before, after))
    lines: list[str] = []
    for group in difflib.SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(CONTEXT):
        for kind, start, stop, new_start, new_stop in group:
            if kind == "equal":
                lines += [f" {line}" for line in old[start:stop]]
            else:  # bounded, so that the lines of one side do not fill the sample
                lines += [f"-{line}" for line in old[start:stop][:HUNK]]
                lines += [f"+{line}" for line in new[new_start:new_stop][:HUNK]]
    return tuple(line[:WIDTH] for line in lines[:LINES])
