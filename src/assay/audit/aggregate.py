"""Sum the scan results of files, and derive the findings of a source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assay.audit.findings import Example, Finding, FindingPart, Severity
from assay.audit.scan.scan_file import EXAMPLES, first_unread
from assay.core.serde import from_record

ALPHA = 0.001
"""Probability of a false finding in a clean source, divided among the source's parts (Bonferroni)."""
FEWEST = 3
"""Minimum number of documents of a finding. Fewer hits are isolated, for any size of the source."""
BYTES_A_TOKEN = 4.0
SHOWN_PARTS = 50

CORPUS_DETECTORS: dict[str, tuple[Severity, float, str]] = {
    "exact_duplicates": (
        "medium",
        0.01,
        "the same text as an earlier document: training sees it more often than the mix specifies",
    ),
    "near_duplicates": ("medium", 0.05, "four fifths or more of the word sequences of an earlier document"),
    "benchmark_contamination": (
        "high",
        0.001,
        "13 consecutive words of a benchmark item: its score measures memorization",
    ),
}
"""Severity, clean fraction and reason of the detectors that compare documents with each other or with benchmarks."""


def too_many(hits: int, of: int, clean: float, *, tests: int = 1) -> bool:
    """Test whether a source has significantly more hits than a clean source.

    The test uses the upper tail of the binomial distribution at level `ALPHA`, with Bonferroni correction. Fewer hits
    than `FEWEST` are never significant, unless all documents have a hit.

    Args:
        hits: number of documents with a hit.
        of: number of documents.
        clean: fraction of documents with a hit in a clean source.
        tests: number of tests, for the correction.

    >>> too_many(5, 100, 0.001), too_many(1, 1000, 0.001)
    (True, False)
    """
    from scipy.special import bdtrc

    return hits >= min(FEWEST, of) and hits > clean * of and float(bdtrc(hits - 1, of, clean)) < ALPHA / tests


def sum_files(partials: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum the results of a source's files, with the result of one file in memory at a time."""
    total: dict[str, Any] = {
        "documents": 0,
        "bytes": 0,
        "parts": {},
        "hits": {},
        "unread": [],
        "unread_count": 0,
        "lengths": {},
        "fractions": {},
    }
    for partial in partials:
        for key in ("documents", "bytes", "unread_count"):
            total[key] += partial[key]
        total["unread"] = first_unread([*total["unread"], *partial["unread"]])
        _add_parts(total["parts"], partial["parts"])
        for power, count in partial["lengths"].items():
            total["lengths"][str(power)] = total["lengths"].get(str(power), 0) + count
        for name, counts in partial["fractions"].items():
            total["fractions"][name] = [
                a + b for a, b in zip(total["fractions"].get(name, [0] * len(counts)), counts, strict=True)
            ]
        for name, hit in partial["hits"].items():
            record = total["hits"].setdefault(
                name, {"documents": 0, "bytes": 0, "matched": 0, "parts": {}, "examples": [], "tasks": {}}
            )
            for key in ("documents", "bytes", "matched"):
                record[key] += hit[key]
            _add_parts(record["parts"], hit["parts"])
            record["examples"] = (record["examples"] + hit["examples"])[:EXAMPLES]
            for task, count in hit.get("tasks", {}).items():
                record["tasks"][task] = record["tasks"].get(task, 0) + count
    return total


def _add_parts(total: dict[str, dict[str, list[int]]], parts: Mapping[str, Mapping[str, Sequence[int]]]) -> None:
    for kind, names in parts.items():
        counts = total.setdefault(kind, {})
        for name, (count, size) in names.items():
            pair = counts.setdefault(name, [0, 0])
            pair[0] += count
            pair[1] += size


def findings(
    source: str,
    digest: str,
    total: Mapping[str, Any],
    known: Mapping[str, tuple[int, Severity, float, str]],
    *,
    bytes_a_token: float = BYTES_A_TOKEN,
) -> list[Finding]:
    """Derive findings from a source's sums.

    Args:
        source: name of the source.
        digest: digest of the source's version.
        total: result of `sum_files`.
        known: version, severity, clean fraction and reason by detector. The clean fraction is the fraction of
            documents with a hit in a clean source.
        bytes_a_token: mean bytes of text per token of the source.
    """
    result = []
    for name, hit in total["hits"].items():
        version, severity, clean, reason = known[name]
        parts = {
            kind: _largest_parts(names, total["parts"].get(kind, {})) for kind, names in hit["parts"].items() if names
        }
        tests = sum(map(len, (total["parts"].get(kind, {}) for kind in ("snapshot", "host")))) + 1
        excessive = too_many(hit["documents"], total["documents"], clean, tests=tests) or any(
            too_many(part.documents, part.of, clean, tests=tests)
            for kind in ("snapshot", "host")
            for part in parts.get(kind, {}).values()
        )
        result.append(
            Finding(
                detector=name,
                version=version,
                source=source,
                digest=digest,
                severity=severity,
                reason=reason,
                documents=hit["documents"],
                of=total["documents"],
                bytes=hit["bytes"],
                of_bytes=total["bytes"],
                matched_bytes=hit["matched"],
                tokens=round(hit["matched"] / bytes_a_token),
                clean=clean,
                isolated=not excessive,
                parts=parts,
                examples=tuple(from_record(Example, record, where="example") for record in hit["examples"]),
                detail={key: hit[key] for key in ("tasks", "with") if hit.get(key)},
            )
        )
    return result


def _largest_parts(hit: Mapping[str, Sequence[int]], of: Mapping[str, Sequence[int]]) -> dict[str, FindingPart]:
    parts = {
        name: FindingPart(documents=count, of=of.get(name, [count])[0], bytes=size)
        for name, (count, size) in hit.items()
    }
    return dict(sorted(parts.items(), key=lambda item: (-item[1].fraction, -item[1].documents, item[0]))[:SHOWN_PARTS])
