"""What follows from findings: which versions of sources may not be trained on, and who said that one may all the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from assay.audit.findings import Audit, Finding, Findings, Severity
from assay.errors import AssayError
from assay.fingerprint import SHORT
from assay.sources import Source


@dataclass(frozen=True, kw_only=True)
class TaintRule:
    """What a source must not have, and what has to be known of it, to be trained on."""

    severity: Literal["low", "medium", "high", "never"]
    """Findings less severe are listed, and stop nothing; `never` lets all of them pass."""
    share: float
    """Of a source's documents: findings in fewer are listed, and stop nothing."""
    provenance: tuple[Literal["origin", "snapshot", "processing"], ...] = ()
    """What has to be stated of a source, beside its licence and clearance, before it is trained on."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise AssayError(f"taint: share is {self.share}; it is a share of documents, from 0 to 1.")

    def unstated(self, source: Source) -> list[str]:
        """What is asked for, and not stated of a source."""
        return [name for name in self.provenance if not getattr(source, name)]

    def taints(self, finding: Finding) -> bool:
        """Whether this finding does; isolated hits never do."""
        if self.severity == "never" or finding.isolated:
            return False
        return finding.reaches(self.severity) and finding.share >= self.share


@dataclass(frozen=True, kw_only=True)
class Taint:
    """A defect for which a version of a source may not be trained on."""

    source: str
    """Its name now; it may have been audited under another."""
    digest: str
    detector: str
    severity: Severity
    share: float
    """Of the source's documents."""
    documents: int
    reason: str
    finding: str
    """The finding's id."""

    @property
    def sentence(self) -> str:
        """What is wrong with which version."""
        return (
            f"source {self.source!r} (version {self.digest[:SHORT]}) has the defect {self.detector} in "
            f"{self.share:.2%} of its documents: {self.reason.rstrip('.')}"
        )

    @property
    def fix(self) -> str:
        """What to do about it."""
        from assay.audit.fixers import FIXERS  # its detectors are compiled, which not everybody needs

        mend = (
            f"`assay repair {self.source} --drop-unsure`"
            if self.detector in FIXERS
            else "filter it, or extract it anew"
        )
        return (
            f"repair it ({mend}), or waive it in conf/source/{self.source}.yaml: waivers: [{{detector: "
            f"{self.detector}, version: {self.digest[:SHORT]}, by: WHO, date: YYYY-MM-DD, reason: WHY}}]"
        )


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """What audits found in a version of a source, where the record cannot be read: nobody knows that it is clean."""

    source: str
    digest: str
    problem: str

    @property
    def sentence(self) -> str:
        """What is wrong with which version."""
        return f"what audits found in source {self.source!r} (version {self.digest[:SHORT]}) cannot be read: {self.problem}"

    @property
    def fix(self) -> str:
        """What to do about it."""
        return f"restore the file, or move it away and audit again: `assay audit {self.source}`"


class Taints:
    """The taints of sources, from what audits of them found."""

    def __init__(self, store: Path, rule: TaintRule) -> None:
        """Look at a store's findings.

        Args:
            store: the store's folder.
            rule: from when on a finding taints.
        """
        self._findings, self._rule = Findings(store), rule
        self._found: dict[str, tuple[Finding, ...]] = {}

    def of(self, source: Source, digest: str) -> list[Taint]:
        """The taints of a version of a source that nobody has waived, the worst first.

        Args:
            source: as it is declared, with its waivers.
            digest: of the version.
        """
        return [taint for taint, waived in self._all(source, digest) if not waived]

    def waived(self, source: Source, digest: str) -> list[tuple[Taint, str]]:
        """Those that somebody has waived, with who, when and why."""
        return [(taint, by) for taint, by in self._all(source, digest) if by]

    def open(self, digest: str) -> tuple[Finding, ...]:
        """Every finding in this version, isolated hits aside, tainting or not."""
        return tuple(finding for finding in self.findings(digest) if not finding.isolated)

    def findings(self, digest: str) -> tuple[Finding, ...]:
        """All that is known of a version, by whatever name it was audited."""
        if digest not in self._found:
            names = [path.parent.name for path in self._findings.root.glob(f"*/{digest}") if path.is_dir()]
            self._found[digest] = tuple(f for name in sorted(names) for f in self._findings.current(name, digest))
        return self._found[digest]

    def audits(self, digest: str) -> list[Audit]:
        """The audits of a version, by whatever name it was audited."""
        names = [path.parent.name for path in self._findings.root.glob(f"*/{digest}") if path.is_dir()]
        return [audit for name in names for audit in self._findings.audits(name, digest)]

    def audited(self, digest: str) -> float | None:
        """When a version was last audited, in seconds since the epoch; ``None`` where it never was."""
        return max((audit.finished for audit in self.audits(digest)), default=None)

    def _all(self, source: Source, digest: str) -> list[tuple[Taint, str]]:
        found = []
        for finding in self.findings(digest):
            if not self._rule.taints(finding):
                continue
            taint = Taint(
                source=source.name,
                digest=digest,
                detector=finding.detector,
                severity=finding.severity,
                share=finding.share,
                documents=finding.documents,
                reason=finding.reason,
                finding=finding.id,
            )
            waivers = [w for w in source.waivers if w.detector == finding.detector and digest.startswith(w.version)]
            found.append((taint, "; ".join(f"{w.by}, {w.date.isoformat()}: {w.reason}" for w in waivers)))
        return found
