"""Who looked at which document, and what he thought of it: a log of lines, kept with the project in git.

`audits/SOURCE.jsonl` has one JSON object a line, which is only ever appended. Order means nothing and a line that is there
twice counts once, so that the logs of two branches are merged by having the lines of both (`merge=union`, which
`audits/.gitattributes` tells git). A line that cannot be read, such as one that was cut by a full disk, is passed over.
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

from assay.errors import AssayError
from assay.sources import check_name
from assay.structure import from_mapping

Verdict = Literal["good", "bad", "unsure"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
MOST_NOTE = 2_000
"""Characters of a note: lines stay short enough to be read in a review."""
FOLDER = "audits"
_ATTRIBUTES = "*.jsonl merge=union\n"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """One person's word on one document."""

    source: str
    digest: str
    """Of the version of the source that the document was read in."""
    document: str
    """Its id."""
    text: str
    """SHA-256 of the document's text in UTF-8."""
    verdict: Verdict
    note: str = ""
    by: str
    when: str
    """In UTC, as ISO 8601 with seconds: `2026-11-23T12:30:00+00:00`."""

    def __post_init__(self) -> None:
        check_name("source", self.source)
        if self.verdict not in VERDICTS:
            raise AssayError(f"the verdict {self.verdict!r}.", fix=f"It is one of {', '.join(VERDICTS)}.")
        if not self.by.strip():
            raise AssayError("a judgement needs `by`: who judges.")
        if len(self.note) > MOST_NOTE:
            raise AssayError(f"a note of {len(self.note):,} characters.", fix=f"Write {MOST_NOTE:,} at most.")
        try:
            datetime.datetime.fromisoformat(self.when)
        except ValueError:
            raise AssayError(f"when: {self.when!r} is no time.") from None


@dataclass(frozen=True, kw_only=True)
class Log:
    """What a log says."""

    judgements: tuple[Judgement, ...]
    """Each once, the oldest first."""
    unread: int = 0
    """Lines that are none."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What people think of a version of a source."""

    documents: int = 0
    """That somebody judged."""
    good: int = 0
    bad: int = 0
    unsure: int = 0
    """Documents whose newest words are all of that kind."""
    disputed: int = 0
    """Documents on which the newest words of two persons differ."""
    people: tuple[str, ...] = ()
    last: str | None = None
    """When the newest judgement was made."""
    elsewhere: int = 0
    """Documents that were judged in other versions of the source alone."""


def path_of(project: Path, source: str) -> Path:
    """The log of a source."""
    check_name("source", source)
    return project / FOLDER / f"{source}.jsonl"


def append(project: Path, judgement: Judgement) -> Path:
    """Write a judgement down, behind whatever is there; a half-written line before it stays, on a line of its own.

    Returns:
        The log.
    """
    path = path_of(project, judgement.source)
    path.parent.mkdir(parents=True, exist_ok=True)
    attributes = path.parent / ".gitattributes"
    if not attributes.exists():
        attributes.write_text(_ATTRIBUTES, encoding="utf-8")
    line = json.dumps(asdict(judgement), ensure_ascii=True, sort_keys=True).encode() + b"\n"
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


def read(project: Path, source: str) -> Log:
    """The log of a source; an empty one where nobody has judged anything."""
    try:
        lines = path_of(project, source).read_bytes().split(b"\n")
    except FileNotFoundError:
        return Log(judgements=())
    found: dict[Judgement, None] = {}
    unread = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            found[from_mapping(Judgement, json.loads(line), where=source)] = None
        except (AssayError, ValueError, TypeError, RecursionError):
            unread += 1
    return Log(judgements=tuple(sorted(found, key=lambda one: (_time(one), one.by, one.document))), unread=unread)


def newest(judgements: Iterable[Judgement]) -> dict[str, dict[str, Judgement]]:
    """The last word of each person on each document: by document, then by person."""
    found: dict[str, dict[str, Judgement]] = {}
    for one in sorted(judgements, key=lambda one: (_time(one), one.verdict, one.note)):
        found.setdefault(one.document, {})[one.by] = one
    return found


def summary(judgements: Iterable[Judgement], digest: str | None) -> Judged:
    """What people think of a version of a source.

    Args:
        judgements: of the source.
        digest: of the version.
    """
    all_of_them = list(judgements)
    here = [one for one in all_of_them if one.digest == digest]
    words = newest(here)
    verdicts = [{one.verdict for one in people.values()} for people in words.values()]
    return Judged(
        documents=len(words),
        good=verdicts.count({"good"}),
        bad=verdicts.count({"bad"}),
        unsure=verdicts.count({"unsure"}),
        disputed=sum(len(each) > 1 for each in verdicts),
        people=tuple(sorted({one.by for one in here})),
        last=max(here, key=_time).when if here else None,
        elsewhere=len({one.document for one in all_of_them} - set(words)),
    )


def _time(one: Judgement) -> float:
    when = datetime.datetime.fromisoformat(one.when)
    return (when if when.tzinfo else when.replace(tzinfo=datetime.UTC)).timestamp()
