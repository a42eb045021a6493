"""Store people's annotations of documents in an append-only log that the project keeps in git.

`audits/SOURCE.jsonl` has one JSON object per line. Order has no meaning, and repeated lines count once. The union of
the lines therefore merges two branches (`merge=union` in `audits/.gitattributes`). Lines that cannot be read are
counted and skipped. An example is a line that a full disk truncated.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from assay.config.sources import check_name
from assay.core.errors import ConfigError, Damaged
from assay.core.serde import from_record

Verdict = Literal["good", "bad", "unsure"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
MOST_NOTE = 2_000
"""Maximum characters of a note, so that lines stay readable in code review."""
FOLDER = "audits"
_ATTRIBUTES = "*.jsonl merge=union\n"


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """A person's verdict on a document."""

    source: str
    digest: str
    """Digest of the source version with the document."""
    document: str
    """Id of the document."""
    text: str
    """SHA-256 of the document's text in UTF-8."""
    verdict: Verdict
    note: str = ""
    by: str
    """Name of the annotator."""
    when: str
    """Time in UTC, in ISO 8601 with seconds: `2026-11-23T12:30:00+00:00`."""

    def __post_init__(self) -> None:
        check_name("source", self.source)
        if self.verdict not in VERDICTS:
            raise ConfigError(
                f"annotation: `verdict` {self.verdict!r} is invalid; expected a known label.",
                fix=f"Choose one of {', '.join(VERDICTS)}.",
            )
        if not self.by.strip():
            raise ConfigError("annotation: `by` is empty.", fix="Set `by` to the name of the annotator.")
        if len(self.note) > MOST_NOTE:
            raise ConfigError(
                f"annotation: a note of {len(self.note):,} characters is invalid; expected at most {MOST_NOTE:,}.",
                fix="Shorten the note.",
            )
        try:
            datetime.datetime.fromisoformat(self.when)
        except ValueError:
            raise ConfigError(
                f"annotation: `when` {self.when!r} is invalid; expected an ISO 8601 time.",
                fix="Write a time such as 2026-11-23T12:30:00+00:00.",
            ) from None


@dataclass(frozen=True, kw_only=True)
class AnnotationLog:
    """The annotations of a source."""

    annotations: tuple[Annotation, ...]
    """Distinct annotations, the oldest first."""
    unread: int = 0
    """Number of lines that could not be read."""


@dataclass(frozen=True, kw_only=True)
class AnnotationCounts:
    """Counts of the annotations of a version of a source."""

    documents: int = 0
    """Number of annotated documents."""
    good: int = 0
    bad: int = 0
    unsure: int = 0
    """Number of documents with a unanimous verdict: good, bad and unsure."""
    disputed: int = 0
    """Number of documents on which annotators disagree."""
    people: tuple[str, ...] = ()
    """Names of the annotators."""
    last: str | None = None
    """Time of the newest annotation."""
    elsewhere: int = 0
    """Number of documents with annotations only in other versions of the source."""


def path_of(project: Path, source: str) -> Path:
    """Return the path of a source's log."""
    check_name("source", source)
    return project / FOLDER / f"{source}.jsonl"


def append(project: Path, annotation: Annotation) -> Path:
    """Append an annotation to the log; keep a truncated last line separate.

    Returns:
        Path of the log.
    """
    path = path_of(project, annotation.source)
    path.parent.mkdir(parents=True, exist_ok=True)
    attributes = path.parent / ".gitattributes"
    if not attributes.exists():
        attributes.write_text(_ATTRIBUTES, encoding="utf-8")
    line = json.dumps(asdict(annotation), ensure_ascii=True, sort_keys=True).encode() + b"\n"
    with path.open("a+b") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        size = handle.seek(0, os.SEEK_END)
        if size:
            handle.seek(size - 1)
            line = line if handle.read(1) == b"\n" else b"\n" + line
        handle.write(line)
        handle.flush()
        os.fsync(handle.fileno())
    return path


def read(project: Path, source: str) -> AnnotationLog:
    """Read the log of a source; return an empty log without annotations."""
    try:
        lines = path_of(project, source).read_bytes().split(b"\n")
    except FileNotFoundError:
        return AnnotationLog(annotations=())
    distinct: dict[Annotation, None] = {}
    unread = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            distinct[from_record(Annotation, json.loads(line), where=source)] = None
        except (Damaged, ValueError, TypeError, RecursionError):
            unread += 1
    return AnnotationLog(
        annotations=tuple(sorted(distinct, key=lambda entry: (_time(entry), entry.by, entry.document))), unread=unread
    )


def newest(annotations: Iterable[Annotation]) -> dict[str, dict[str, Annotation]]:
    """Return the last annotation of each document by each person, by document and person."""
    latest: dict[str, dict[str, Annotation]] = {}
    for annotation in sorted(annotations, key=lambda entry: (_time(entry), entry.verdict, entry.note)):
        latest.setdefault(annotation.document, {})[annotation.by] = annotation
    return latest


def summary(annotations: Iterable[Annotation], digest: str | None) -> AnnotationCounts:
    """Count the annotations of a version of a source.

    Args:
        annotations: annotations of the source.
        digest: digest of the version.
    """
    of_source = list(annotations)
    of_version = [annotation for annotation in of_source if annotation.digest == digest]
    latest = newest(of_version)
    verdicts = [{annotation.verdict for annotation in people.values()} for people in latest.values()]
    return AnnotationCounts(
        documents=len(latest),
        good=verdicts.count({"good"}),
        bad=verdicts.count({"bad"}),
        unsure=verdicts.count({"unsure"}),
        disputed=sum(len(distinct) > 1 for distinct in verdicts),
        people=tuple(sorted({annotation.by for annotation in of_version})),
        last=max(of_version, key=_time).when if of_version else None,
        elsewhere=len({annotation.document for annotation in of_source} - set(latest)),
    )


def _time(annotation: Annotation) -> float:
    when = datetime.datetime.fromisoformat(annotation.when)
    return (when if when.tzinfo else when.replace(tzinfo=datetime.UTC)).timestamp()
