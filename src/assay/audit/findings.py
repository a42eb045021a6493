"""Store findings: defects that an audit detected in one version of a source.

A finding belongs to the digest of a source. Another version of the source has separate findings. The folder is::

    audits/<source>/<digest>/findings/<id>.json    a finding; the id is the digest of its content
                             audits/<id>.json      one audit: time, detectors, documents, ids of findings
    audits/.files/<key>/                           results of single files; see `assay.audit.engine`

Writes are atomic, names follow from the content, and files never change. Audits may therefore run concurrently, or be
killed and repeated. To merge the folders of two machines, copy both into one folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from assay.config.sources import check_name
from assay.core.errors import Damaged
from assay.core.files import read_json, write_json
from assay.core.fingerprint import fingerprint
from assay.core.serde import from_record, to_mapping

Severity = Literal["low", "medium", "high"]
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high")
"""Severity of a finding. low: for information; medium: should be repaired; high: training must not use the source."""
FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class Example:
    """A document with the defect, and the location of the defect in it."""

    document: str
    """Id of the document."""
    where: str
    """File of the document, and the line or row in the file, counted from 1."""
    text: str
    """The defect and the text around it, with secrets masked. Untrusted: escape it in every output."""
    matches: tuple[tuple[int, int], ...]
    """Start and end of each match in `text`, in characters."""
    offset: int = 0
    """Characters of the document before `text`; 0 if `text` is masked or not part of the document."""
    note: str = ""
    """Short description of the match, such as `1 to 843, code between`."""
    rule: str = ""
    """The rule that fired, for detectors with several rules, such as `code_between`."""
    url: str | None = None
    original: str | None = None
    """Path of the original (raw) document below the source's `originals`."""
    snapshot: str | None = None


@dataclass(frozen=True, kw_only=True)
class FindingPart:
    """Counts of a finding in one snapshot, host or file of a source."""

    documents: int
    """Number of documents with the defect."""
    of: int
    """Number of documents in the part."""
    bytes: int
    """UTF-8 bytes of the documents with the defect."""

    @property
    def fraction(self) -> float:
        """Fraction of the part's documents with the defect."""
        return self.documents / max(1, self.of)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A defect in one version of a source, with its extent."""

    detector: str
    version: int
    """Version of the detector. Raise it when the detector's results change."""
    source: str
    digest: str
    """Digest of the version with the defect; see `assay.corpus.source_reader.source_digest`."""
    severity: Severity
    reason: str
    """The defect and its consequence, in one line."""
    documents: int
    """Number of documents with the defect."""
    of: int
    """Number of documents in the source."""
    bytes: int
    """UTF-8 bytes of the documents with the defect."""
    of_bytes: int
    """UTF-8 bytes of the source."""
    matched_bytes: int
    """UTF-8 bytes of the matches."""
    tokens: int
    """Estimated tokens of the matches: `matched_bytes` divided by the source's bytes per token (default: 4)."""
    clean: float
    """Maximum fraction of documents with hits in a clean source. Fewer hits are isolated."""
    isolated: bool = False
    """Whether neither the source nor any of its parts has more hits than a clean source may have."""
    parts: dict[str, dict[str, FindingPart]] = field(default_factory=dict)
    """Parts with the defect by kind (`snapshot`, `host`, `file`) and name, the largest fraction first."""
    examples: tuple[Example, ...] = ()
    detail: dict[str, Any] = field(default_factory=dict)
    """Details of some detectors, such as the tasks whose items are in the text."""

    @property
    def fraction(self) -> float:
        """Fraction of the source's documents with the defect."""
        return self.documents / max(1, self.of)

    @property
    def bytes_fraction(self) -> float:
        """Fraction of the source's text in documents with the defect."""
        return self.bytes / max(1, self.of_bytes)

    @property
    def matched_fraction(self) -> float:
        """Fraction of the source's text that matches."""
        return self.matched_bytes / max(1, self.of_bytes)

    @property
    def key(self) -> tuple[str, str]:
        """Identity of the finding across versions of its source: source and detector."""
        return (self.source, self.detector)

    @cached_property
    def id(self) -> str:
        """Digest of the content, which names the file."""
        return fingerprint("finding", to_mapping(self))

    def reaches(self, least: Severity) -> bool:
        """Return whether the severity is at least `least`."""
        return SEVERITIES.index(self.severity) >= SEVERITIES.index(least)

    def as_json(self) -> dict[str, Any]:
        """Serialize the finding with its fractions."""
        plain: dict[str, Any] = to_mapping(self)
        parts = {
            kind: {name: {**to_mapping(part), "fraction": part.fraction} for name, part in parts.items()}
            for kind, parts in self.parts.items()
        }
        return {
            "id": self.id,
            **plain,
            "fraction": self.fraction,
            "bytes_fraction": self.bytes_fraction,
            "matched_fraction": self.matched_fraction,
            "parts": parts,
        }


@dataclass(frozen=True, kw_only=True)
class Unread:
    """A location that could not be read, or on which a detector failed."""

    where: str
    reason: str
    detector: str | None = None
    """The detector that failed; None if the text could not be read."""
    rest: bool = False
    """Whether the detector was disabled for the rest of the file."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """One complete audit of one version of a source."""

    source: str
    digest: str
    finished: float
    """Seconds since the epoch."""
    detectors: dict[str, int]
    """Versions of the detectors that ran, by name."""
    documents: int
    bytes: int
    """UTF-8 bytes of the source's text."""
    findings: tuple[str, ...]
    """Ids of the findings, with isolated hits included."""
    unread: tuple[Unread, ...] = ()
    """The first failures. Failures that disabled a detector for the rest of a file come first."""
    unread_count: int = 0
    summary: dict[str, Any] = field(default_factory=dict)
    """Histograms of document length, symbol ratio and digit ratio."""

    @cached_property
    def id(self) -> str:
        """Digest of the content, which names the file."""
        return fingerprint("audit", {"at": repr(self.finished), "source": self.source, "findings": list(self.findings)})


class Findings:
    """The findings and audits in a store."""

    def __init__(self, store: Path) -> None:
        """Open a store's folder. `add` creates the subfolders."""
        self.root = store / "audits"
        self.files = self.root / ".files"  # source names never begin with a dot

    def add(self, audit: Audit, findings: Sequence[Finding]) -> None:
        """Write the findings of an audit, then the audit.

        The order guarantees that every finding that an audit lists exists.
        """
        folder = self._folder(audit.source, audit.digest)
        for finding in findings:
            path = folder / "findings" / f"{finding.id}.json"
            if not path.exists():
                write_json(path, {"format": FORMAT, "finding": to_mapping(finding)})
        write_json(folder / "audits" / f"{audit.id}.json", {"format": FORMAT, "audit": to_mapping(audit)})

    def sources(self) -> list[str]:
        """Return the names of all audited sources."""
        return sorted(path.name for path in self.root.glob("*") if path.is_dir() and any(path.glob("*/audits/*.json")))

    def digests(self, source: str) -> list[str]:
        """List the audited versions of a source; the version with the newest audit is last."""
        newest = {
            audit.digest: audit.finished for audit in self.audits(source)
        }  # later audits of a digest replace earlier ones
        return sorted(newest, key=lambda digest: newest[digest])

    def audits(self, source: str, digest: str | None = None) -> list[Audit]:
        """Read the audits of a source or of one of its versions, the newest last."""
        check_name("source", source)
        audits = [
            from_record(Audit, _read_record(path, "audit"), where=str(path))
            for path in self.root.glob(f"{source}/{digest or '*'}/audits/*.json")
        ]
        return sorted(audits, key=lambda audit: (audit.finished, audit.id))

    def current(self, source: str, digest: str) -> list[Finding]:
        """Return each detector's finding, from the newest audit of a version that ran the detector.

        The result includes isolated hits (see `Finding.isolated`). It is sorted by severity and frequency, the highest
        first.
        """
        newest: dict[str, Finding | None] = {}
        for audit in self.audits(source, digest):
            newest |= dict.fromkeys(audit.detectors)
            newest |= {finding.detector: finding for finding in self._of(audit)}
        return ranked(finding for finding in newest.values() if finding is not None)

    def get(self, source: str, digest: str, identity: str) -> Finding:
        """Read one finding.

        Raises:
            AssayError: the finding is missing, or its file is damaged.
        """
        path = self._folder(source, digest) / "findings" / f"{identity}.json"
        try:
            return from_record(Finding, _read_record(path, "finding"), where=str(path))
        except FileNotFoundError:
            raise Damaged(
                f"{path}: the finding is missing.", fix="Restore the file, or run `assay audit` again."
            ) from None

    def all(self) -> Iterator[Finding]:
        """Yield the current findings of all versions of all audited sources."""
        for source in self.sources():
            for digest in self.digests(source):
                yield from self.current(source, digest)

    def detectors_with_findings(self, source: str) -> set[str]:
        """Return the detectors with a finding in any version of the source, except isolated hits."""
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
    """Sort findings by severity, then frequency, the highest first, with isolated hits last."""
    return sorted(
        findings, key=lambda f: (f.isolated, -SEVERITIES.index(f.severity), -f.fraction, f.source, f.detector)
    )


def _read_record(path: Path, kind: str) -> Mapping[str, Any]:
    record = read_json(path)
    if not isinstance(record, dict) or record.get("format") != FORMAT or not isinstance(record.get(kind), dict):
        raise Damaged(
            f"{path}: the file has no {kind} of format {FORMAT}.",
            fix="Move the file away, and run `assay audit` again. Another version of assay wrote this file.",
        )
    content: dict[str, Any] = record[kind]
    return content
