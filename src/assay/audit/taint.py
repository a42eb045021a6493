"""List the versions of sources that training may not use, and the waivers that allow them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from assay.audit.findings import Audit, Finding, Findings
from assay.config.reason import Code, Reason
from assay.config.sources import Source
from assay.config.taint import TaintRule
from assay.core.errors import AssayError, Damaged


def blocks(versions: Iterable[tuple[Source, str | None]], taints: Taints) -> tuple[Reason, ...]:
    """List the reasons that forbid training on versions of sources.

    Sources without clearance come first, then defects without a waiver. The plan, SLURM jobs, the gate, commands and
    pages all call this function.

    Args:
        versions: declared sources, each with the digest of its version. The digest is ``None`` if the files of the
            source are missing on this machine; the function then checks only the clearance.
        taints: the findings of audits.
    """
    versions = tuple(versions)
    refusals = [refusal for source, digest in versions if (refusal := source.refuse(digest)) is not None]
    defects = [defect for source, digest in versions if digest is not None for defect in taints.of(source, digest)]
    return (*refusals, *defects)


class Taints:
    """The taints of sources: audit findings that forbid training, unless a waiver allows it."""

    def __init__(self, store: Path, rule: TaintRule) -> None:
        """Open the findings of a store.

        Args:
            store: folder of the store.
            rule: minimum severity and minimum fraction of documents at which a finding taints its source.
        """
        self._findings, self._rule = Findings(store), rule
        self._found: dict[str, tuple[Finding, ...]] = {}

    def of(self, source: Source, digest: str) -> tuple[Reason, ...]:
        """Return the defects of a version that have no waiver, the worst first.

        If the audit record of the version is damaged, the only returned reason is that damage.

        Args:
            source: declared source, with its waivers.
            digest: digest of the version.
        """
        try:
            return tuple(taint for taint, waived in self._all(source, digest) if not waived)
        except Damaged as error:
            return (unreadable(source.name, digest, error),)

    def waived(self, source: Source, digest: str) -> list[tuple[Reason, str]]:
        """Return the defects that have a waiver, each with the waiver's author, date and reason."""
        return [(taint, by) for taint, by in self._all(source, digest) if by]

    def open(self, digest: str) -> tuple[Finding, ...]:
        """Return the findings in a version, tainting or not, without isolated hits."""
        return tuple(finding for finding in self.findings(digest) if not finding.isolated)

    def findings(self, digest: str) -> tuple[Finding, ...]:
        """Return the findings in a version from the audits under every source name."""
        if digest not in self._found:
            names = [path.parent.name for path in self._findings.root.glob(f"*/{digest}") if path.is_dir()]
            self._found[digest] = tuple(f for name in sorted(names) for f in self._findings.current(name, digest))
        return self._found[digest]

    def audits(self, digest: str) -> list[Audit]:
        """Return the audits of a version under every source name."""
        names = [path.parent.name for path in self._findings.root.glob(f"*/{digest}") if path.is_dir()]
        return [audit for name in names for audit in self._findings.audits(name, digest)]

    def audited(self, digest: str) -> float | None:
        """Return the Unix time in seconds of a version's last audit; None without an audit."""
        return max((audit.finished for audit in self.audits(digest)), default=None)

    def _all(self, source: Source, digest: str) -> list[tuple[Reason, str]]:
        found = []
        for finding in self.findings(digest):
            if not taints(self._rule, finding):
                continue
            figures = {
                "digest": digest,
                "detector": finding.detector,
                "severity": finding.severity,
                "fraction": finding.fraction,
                "documents": finding.documents,
                "reason": finding.reason,
                "finding": finding.id,
            }
            taint = Reason(code=Code.DEFECT, subject=source.name, figures=figures)
            waivers = [w for w in source.waivers if w.detector == finding.detector and digest.startswith(w.version)]
            found.append((taint, "; ".join(f"{w.by}, {w.date.isoformat()}: {w.reason}" for w in waivers)))
        return found


def taints(rule: TaintRule, finding: Finding) -> bool:
    """Return whether a finding taints its source. Isolated hits never taint a source."""
    if rule.severity == "never" or finding.isolated:
        return False
    return finding.reaches(rule.severity) and finding.fraction >= rule.fraction


def unreadable(source: str, digest: str, error: AssayError) -> Reason:
    """Return the reason that a version's audit record is unreadable, so its defects are unknown."""
    figures = {"digest": digest, "error": error.what.rstrip(".")}
    return Reason(code=Code.FINDINGS_UNREADABLE, subject=source, figures=figures)
