"""Findings: defects that an audit found in one version of a source, and the folder in which they are kept.

A finding belongs to a source's digest: another version of the source has findings of its own. The folder is::

    audits/<source>/<digest>/findings/<id>.json    a finding, under the digest of its content
                             audits/<id>.json      one audit: when, with which detectors, of what, with which findings
    audits/.files/<key>/                           what detectors made of single files; see `assay.audit.engine`

Files are written whole under names that their content gives, and are never changed, so that audits may run at the same
time, may be killed and run again, and the folders of two machines are merged by copying one over the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from assay.errors import AssayError
from assay.files import read_json, write_json
from assay.fingerprint import fingerprint
from assay.sources import check_name
from assay.structure import from_mapping, to_mapping

Severity = Literal["low", "medium", "high"]
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high")
"""From what is worth knowing, over what should be mended, to what must not be trained on."""
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Example:
    """One document that has the defect, and the place in it."""

    document: str
    """The document's id."""
    where: str
    """Its file, and the line or row in it, counted from 1."""
    text: str
    """The place and what is around it, as the document has it; secrets are masked. Hostile: escape it wherever it is shown."""
    matches: tuple[tuple[int, int], ...]
    """Where the defect is in `text`: begin and end of each match, in characters."""
    offset: int = 0
    """Characters of the document before `text`; 0 where `text` was masked or is no part of the document."""
    note: str = ""
    """What was found, in a few words: `1 to 843`."""
    url: str | None = None
    original: str | None = None
    """The original (raw) document, below the source's `originals`."""
    snapshot: str | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """How much of a part of a source is hit: of one snapshot, host or file."""

    documents: int
    """That have the defect."""
    of: int
    """That there are."""
    bytes: int
    """Of text in the documents that have it."""

    @property
    def share(self) -> float:
        """Share of the part's documents that have it."""
        return self.documents / max(1, self.of)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A defect in one version of a source, and how much of it there is."""

    detector: str
    version: int
    """Of the detector; a change in what it finds raises it."""
    source: str
    digest: str
    """Of the source's files, as `assay.corpus.read.source_digest` gives it: the version that has the defect."""
    severity: Severity
    reason: str
    """What the defect is, and why it matters, in one line."""
    documents: int
    """That have the defect."""
    of: int
    """Documents in the source."""
    bytes: int
    """Of text in the documents that have it."""
    of_bytes: int
    """Of text in the source."""
    matched_bytes: int
    """Of text that is the defect itself."""
    tokens: int
    """Estimate of the tokens that are the defect itself: `matched_bytes` by the source's bytes a token, or 4."""
    clean: float
    """Share of documents that a clean source may have; more is a finding, fewer are isolated hits."""
    isolated: bool = False
    """Whether there is no more of it, in the source and in each of its parts, than a clean source may have."""
    parts: dict[str, dict[str, Part]] = field(default_factory=dict)
    """By `snapshot`, `host` and `file`: the parts that have it, those with the largest share first."""
    examples: tuple[Example, ...] = ()
    detail: dict[str, Any] = field(default_factory=dict)
    """What only this detector knows, such as the tasks whose questions are in the text."""

    @property
    def share(self) -> float:
        """Share of the source's documents that have it."""
        return self.documents / max(1, self.of)

    @property
    def bytes_share(self) -> float:
        """Share of the source's text that is in documents that have it."""
        return self.bytes / max(1, self.of_bytes)

    @property
    def matched_share(self) -> float:
        """Share of the source's text that is the defect itself."""
        return self.matched_bytes / max(1, self.of_bytes)

    @property
    def key(self) -> tuple[str, str]:
        """What makes a finding the same one in a later version of its source: the source and the detector."""
        return (self.source, self.detector)

    @cached_property
    def id(self) -> str:
        """The digest of its content, which is its file's name."""
        return fingerprint("finding", to_mapping(self))

    def reaches(self, least: Severity) -> bool:
        """Whether it is as severe as that, or more."""
        return SEVERITIES.index(self.severity) >= SEVERITIES.index(least)

    def as_json(self) -> dict[str, Any]:
        """The finding for other programs, with its shares worked out."""
        plain: dict[str, Any] = to_mapping(self)
        parts = {
            kind: {name: {**to_mapping(part), "share": part.share} for name, part in parts.items()}
            for kind, parts in self.parts.items()
        }
        return {
            "id": self.id,
            **plain,
            "share": self.share,
            "bytes_share": self.bytes_share,
            "matched_share": self.matched_share,
            "parts": parts,
        }


@dataclass(frozen=True, kw_only=True)
class Unread:
    """A place in a source that could not be read, or that a detector could not get through."""

    where: str
    reason: str
    detector: str | None = None
    """The detector that failed there; ``None`` where the text itself could not be read."""
    rest: bool = False
    """Whether it was not asked about the documents that follow in the file, either."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """One look at one version of a source, from its first file to its last."""

    source: str
    digest: str
    finished: float
    """Seconds since the epoch."""
    detectors: dict[str, int]
    """Their versions, by name."""
    documents: int
    bytes: int
    """Of text."""
    findings: tuple[str, ...]
    """Ids of what was found, isolated hits included."""
    unread: tuple[Unread, ...] = ()
    """The first of them, before them those that say something of all that follows in their file."""
    unread_count: int = 0
    summary: dict[str, Any] = field(default_factory=dict)
    """Distributions and contrasts, as `assay.audit.report` makes them."""

    @cached_property
    def id(self) -> str:
        """The digest of its content, which is its file's name."""
        return fingerprint("audit", {"at": repr(self.finished), "source": self.source, "findings": list(self.findings)})


class Findings:
    """The folder of findings."""

    def __init__(self, store: Path) -> None:
        """Look into a store's folder; nothing is made before something is added."""
        self.root = store / "audits"
        self.files = self.root / ".files"  # no name of a source begins with a dot

    def add(self, audit: Audit, findings: Sequence[Finding]) -> None:
        """Keep an audit and what it found; findings first, so that whoever sees the audit finds them."""
        folder = self._folder(audit.source, audit.digest)
        for finding in findings:
            path = folder / "findings" / f"{finding.id}.json"
            if not path.exists():
                write_json(path, {"format": FORMAT, "finding": to_mapping(finding)})
        write_json(folder / "audits" / f"{audit.id}.json", {"format": FORMAT, "audit": to_mapping(audit)})

    def sources(self) -> list[str]:
        """Names of the sources that were ever audited."""
        return sorted(path.name for path in self.root.glob("*") if path.is_dir() and any(path.glob("*/audits/*.json")))

    def digests(self, source: str) -> list[str]:
        """The audited versions of a source, the one whose audit is newest last."""
        newest = {audit.digest: audit.finished for audit in self.audits(source)}  # the last of each is its newest
        return sorted(newest, key=lambda digest: newest[digest])

    def audits(self, source: str, digest: str | None = None) -> list[Audit]:
        """Audits of a source, or of one of its versions, the newest last."""
        check_name("source", source)
        found = [
            from_mapping(Audit, _opened(path, "audit"), where=str(path))
            for path in self.root.glob(f"{source}/{digest or '*'}/audits/*.json")
        ]
        return sorted(found, key=lambda audit: (audit.finished, audit.id))

    def current(self, source: str, digest: str) -> list[Finding]:
        """What is known of a version of a source: of each detector, what the newest audit with it found.

        Isolated hits are among them; see `Finding.isolated`. The most severe and most frequent come first.
        """
        newest: dict[str, Finding | None] = {}
        for audit in self.audits(source, digest):
            newest |= dict.fromkeys(audit.detectors)
            newest |= {finding.detector: finding for finding in self._of(audit)}
        return ranked(finding for finding in newest.values() if finding is not None)

    def get(self, source: str, digest: str, identity: str) -> Finding:
        """One finding.

        Raises:
            AssayError: there is none of this id, or its file is damaged.
        """
        path = self._folder(source, digest) / "findings" / f"{identity}.json"
        try:
            return from_mapping(Finding, _opened(path, "finding"), where=str(path))
        except FileNotFoundError:
            raise AssayError(
                f"{path}: the finding is missing.", fix="Copy it here, or run `assay audit` again."
            ) from None

    def all(self) -> Iterator[Finding]:
        """What is known of every version of every source that was audited."""
        for source in self.sources():
            for digest in self.digests(source):
                yield from self.current(source, digest)

    def seen(self, source: str) -> set[str]:
        """Detectors that have ever had a finding in the source, whatever its version, isolated hits aside."""
        return {
            finding.detector
            for digest in self.digests(source)
            for audit in self.audits(source, digest)
            for finding in self._of(audit)
            if not finding.isolated
        }

    def _of(self, audit: Audit) -> list[Finding]:
        return [self.get(audit.source, audit.digest, identity) for identity in audit.findings]

    def _folder(self, source: str, digest: str) -> Path:
        check_name("source", source)
        return self.root / source / digest


def ranked(findings: Any) -> list[Finding]:
    """Findings with those first that should be read first: severe ones, then frequent ones; isolated hits last."""
    return sorted(findings, key=lambda f: (f.isolated, -SEVERITIES.index(f.severity), -f.share, f.source, f.detector))


def _opened(path: Path, kind: str) -> Mapping[str, Any]:
    record = read_json(path)
    if not isinstance(record, dict) or record.get("format") != FORMAT or not isinstance(record.get(kind), dict):
        raise AssayError(
            f"{path}: not {kind} of format {FORMAT}.", fix="Another version of assay wrote it; move it away."
        )
    found: dict[str, Any] = record[kind]
    return found
