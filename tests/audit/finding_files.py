"""Write findings as an audit does, for tests of their consequences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assay.audit.findings import Audit, Finding, Findings, Severity

if TYPE_CHECKING:
    from assay.plan.workspace import Workspace


def put_finding(
    space: Workspace, source: str, *, severity: Severity = "high", documents: int = 5, **fields: Any
) -> Finding:
    """Write a finding of a source's current version to the store."""
    digest = space.sources.digest(source)
    finding = Finding(
        detector="line_number_gutter",
        version=1,
        source=source,
        digest=digest,
        severity=severity,
        reason="line numbers of a listing became text",
        documents=documents,
        of=10,
        bytes=100,
        of_bytes=1000,
        matched_bytes=10,
        tokens=3,
        clean=0.001,
        **fields,
    )
    audit = Audit(
        source=source,
        digest=digest,
        finished=1.0,
        detectors={finding.detector: 1},
        documents=10,
        bytes=1000,
        findings=(finding.id,),
    )
    Findings(space.store.root).add(audit, [finding])
    return finding
