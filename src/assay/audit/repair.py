"""A repaired version of a source: every document through a fixer, and the unsure ones as they were, or left out."""

from __future__ import annotations

import contextlib
import difflib
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from assay.audit.detectors import masked
from assay.audit.fixers import FIXERS
from assay.corpus.read import Document, documents
from assay.errors import AssayError, did_you_mean
from assay.files import replacing
from assay.sources import Source

CONTEXT, HUNK, LINES, WIDTH = 2, 10, 24, 200
"""Lines around a change, lines that one change takes and puts, lines in all, and characters of a line that a sample shows."""
PREVIEW = 4000
"""Characters from the beginning of a document that are compared for a sample."""
MOST_UNSURE = 100
"""Documents whose ids are listed; the others are counted."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A document before and after."""

    document: str
    where: str
    difference: tuple[str, ...]
    """Lines with `-` before what is gone, `+` before what came instead, and a blank before what stays; shortened, secrets masked."""


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """What a fixer did to a source."""

    source: str
    detector: str
    documents: int
    mended: int
    """Documents that were changed."""
    unsure: int
    """Documents that have the defect, and were left as they were, or left out."""
    left_out: bool
    """Whether the unsure documents are not in the new version."""
    removed: int
    """Places that were taken out, over all documents."""
    bytes_before: int
    """Of text in UTF-8."""
    bytes_after: int
    samples: tuple[Sample, ...]
    unsure_documents: tuple[str, ...]
    """The first of them, by id."""


def fixable(detector: str) -> None:
    """Refuse a detector without a fixer."""
    if detector not in FIXERS:
        raise AssayError(
            f"there is no fixer for {detector!r}. {did_you_mean(detector, FIXERS)}",
            fix=f"Defects that can be mended by rule: {', '.join(FIXERS)}.",
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
) -> Repaired:
    """Write a source's documents with a defect mended.

    Args:
        source: which one; its files are read as a stream.
        detector: what found the defect.
        out: the file to write, gzipped JSONL with `id`, `text` and what is known of each document's origin; it appears when it is
            whole. None to look only.
        leave_out: write no document that the fixer is unsure of.
        samples: how many changed documents to show.
        mask: gives a sample's text with its secrets masked, as long as it was.
        progress: told how many bytes of the files were read.

    Raises:
        AssayError: the detector has no fixer, or the source cannot be read.
    """
    fixable(detector)
    seen = _Seen(samples=[], unsure=[])
    with contextlib.nullcontext() if out is None else replacing(out) as path, _written(path) as write:
        for document in documents(source, progress=progress):
            mended = _mended(document, detector, seen, leave_out=leave_out, most=samples, mask=mask)
            if mended is not None:
                write(mended)
        if leave_out and seen.documents == seen.unsure_count:  # raised here, so that no file appears
            raise AssayError(
                f"the fixer of {detector} is unsure of every document of source {source.name!r}: nothing would be left.",
                fix="Extract the source anew, and audit it.",
            )
    return Repaired(
        source=source.name,
        detector=detector,
        documents=seen.documents,
        mended=seen.mended,
        unsure=seen.unsure_count,
        left_out=leave_out,
        removed=seen.removed,
        bytes_before=seen.before,
        bytes_after=seen.after,
        samples=tuple(seen.samples),
        unsure_documents=tuple(seen.unsure),
    )


@dataclass
class _Seen:
    """What was counted so far."""

    samples: list[Sample]
    unsure: list[str]
    documents: int = 0
    mended: int = 0
    unsure_count: int = 0
    removed: int = 0
    before: int = 0
    after: int = 0


@contextlib.contextmanager
def _written(path: Path | None) -> Iterator[Callable[[Document], object]]:
    """Takes documents, one after the other; into nothing where there is no path."""
    if path is None:
        yield lambda _: None
        return
    # Without a name and a time in its head, the same documents make the same file.
    with path.open("wb") as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
        yield lambda document: packed.write(_line(document))


def _line(document: Document) -> bytes:
    """A document as a line of JSON; what is not known of it is left out."""
    record = {name: value for name, value in vars(document).items() if value is not None and name != "where"}
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def _mended(
    document: Document, detector: str, seen: _Seen, *, leave_out: bool, most: int, mask: Callable[[str], str]
) -> Document | None:
    """The document as it goes into the new version; None where it does not."""
    fixed = FIXERS[detector](document.text)
    seen.documents += 1
    seen.before += len(document.text.encode("utf-8", "surrogatepass"))
    if fixed.unsure:
        seen.unsure_count += 1
        if len(seen.unsure) < MOST_UNSURE:
            seen.unsure.append(document.id)
        if leave_out:
            return None
    seen.after += len(fixed.text.encode("utf-8", "surrogatepass"))
    if not fixed.removed:
        return document
    seen.mended += 1
    seen.removed += fixed.removed
    if len(seen.samples) < most:
        difference = _difference(mask(document.text), mask(fixed.text))
        seen.samples.append(Sample(document=document.id, where=document.where, difference=difference))
    return replace(document, text=fixed.text)


def _difference(before: str, after: str) -> tuple[str, ...]:
    """The first lines that changed, with the lines around them, and as many of what came instead."""
    old, new = (text[:PREVIEW].split("\n") for text in (before, after))
    found: list[str] = []
    for group in difflib.SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(CONTEXT):
        for kind, start, stop, new_start, new_stop in group:
            if kind == "equal":
                found += [f" {line}" for line in old[start:stop]]
            else:  # where all lines change, those of one side alone would fill the sample
                found += [f"-{line}" for line in old[start:stop][:HUNK]]
                found += [f"+{line}" for line in new[new_start:new_stop][:HUNK]]
    return tuple(line[:WIDTH] for line in found[:LINES])
