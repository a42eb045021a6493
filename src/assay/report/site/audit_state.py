"""Define the audit state of one source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from assay.audit.review.annotations import AnnotationCounts, AnnotationLog

if TYPE_CHECKING:
    from assay.audit.explore.contrasts import Contrast
    from assay.audit.findings import Audit, Finding
    from assay.audit.scan.distributions import Distribution, Measure
    from assay.config.reason import Reason
    from assay.config.sources import Source


@dataclass(frozen=True, kw_only=True)
class AuditState:
    """Findings, taints, distributions and annotations of one source."""

    source: Source
    """The declared source, with an absolute path to its originals."""
    digest: str | None = None
    """Digest of the present version; None if the source's files are unavailable."""
    problem: str = ""
    shown: str | None = None
    """Version of the findings: the present version if it was audited, otherwise the last audited version."""
    audit: Audit | None = None
    """Latest audit of the version `shown`."""
    findings: tuple[Finding, ...] = ()
    """Findings of the version `shown`, with isolated hits last."""
    taints: tuple[Reason, ...] = ()
    waived: tuple[tuple[Reason, str], ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    distributions: Mapping[Measure, Distribution] = field(default_factory=dict)
    log: AnnotationLog = field(default_factory=lambda: AnnotationLog(annotations=()))
    annotations: AnnotationCounts = field(default_factory=AnnotationCounts)

    @property
    def open(self) -> tuple[Finding, ...]:
        """The findings above the rate of isolated hits."""
        return tuple(finding for finding in self.findings if not finding.isolated)

    @property
    def present(self) -> bool:
        """Whether the findings belong to the present version of the files."""
        return self.digest is not None and self.shown == self.digest

    @property
    def annotated_fraction(self) -> float | None:
        """Fraction of the version's documents that have annotations."""
        return self.annotations.documents / self.audit.documents if self.audit and self.audit.documents else None

    def tainting(self, detector: str) -> bool:
        """Return whether the detector's finding blocks training on the source."""
        return any(taint.figures.get("detector") == detector for taint in self.taints)
