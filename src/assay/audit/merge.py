"""From what was seen of single files to findings of a source: sums, and what is too much for a clean source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assay.audit.examine import EXAMPLES, foremost
from assay.audit.findings import Example, Finding, Part, Severity
from assay.structure import from_mapping

SURE = 0.001
"""How rarely a clean source may have so many hits by chance, before they are a finding; shared among its parts."""
FEWEST = 3
"""Documents of a finding, in sources that have so many: one or two are isolated whatever their share."""
BYTES_A_TOKEN = 4.0
SHOWN_PARTS = 50

MADE: dict[str, tuple[Severity, float, str]] = {
    "exact_duplicates": (
        "medium",
        0.01,
        "the same text as an earlier document: it is seen more often than the mix says",
    ),
    "near_duplicates": ("medium", 0.05, "four fifths or more of an earlier document's word sequences"),
    "benchmark_contamination": (
        "high",
        0.001,
        "13 words in a row of a benchmark's question: its score measures memory",
    ),
}
"""What is found over documents and not in single ones: severity, clean share, reason."""


def too_many(hits: int, of: int, clean: float, *, tests: int = 1) -> bool:
    """Whether so many hits are more than a clean source has: the binomial tail, with Bonferroni's correction.

    >>> too_many(5, 100, 0.001), too_many(1, 1000, 0.001)
    (True, False)
    """
    from scipy.special import bdtrc

    return hits >= min(FEWEST, of) and hits > clean * of and float(bdtrc(hits - 1, of, clean)) < SURE / tests


def summed(partials: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sums of a source's files; each may be gone when the next is asked for."""
    total: dict[str, Any] = {
        "documents": 0,
        "bytes": 0,
        "parts": {},
        "hits": {},
        "unread": [],
        "unread_count": 0,
        "lengths": {},
        "shares": {},
    }
    for partial in partials:
        for key in ("documents", "bytes", "unread_count"):
            total[key] += partial[key]
        total["unread"] = foremost([*total["unread"], *partial["unread"]])
        _add_parts(total["parts"], partial["parts"])
        for power, count in partial["lengths"].items():
            total["lengths"][str(power)] = total["lengths"].get(str(power), 0) + count
        for what, counts in partial["shares"].items():
            total["shares"][what] = [
                a + b for a, b in zip(total["shares"].get(what, [0] * len(counts)), counts, strict=True)
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
        into = total.setdefault(kind, {})
        for name, (count, size) in names.items():
            both = into.setdefault(name, [0, 0])
            both[0] += count
            both[1] += size


def findings(
    source: str,
    digest: str,
    total: Mapping[str, Any],
    known: Mapping[str, tuple[int, Severity, float, str]],
    *,
    bytes_a_token: float = BYTES_A_TOKEN,
) -> list[Finding]:
    """What a source's sums amount to.

    Args:
        source: its name.
        digest: of its version.
        total: what `summed` gave.
        known: version, severity, clean share and reason of each detector.
        bytes_a_token: of the source's text.
    """
    made = []
    for name, hit in total["hits"].items():
        version, severity, clean, reason = known[name]
        parts = {kind: _ordered(names, total["parts"].get(kind, {})) for kind, names in hit["parts"].items() if names}
        tests = sum(map(len, (total["parts"].get(kind, {}) for kind in ("snapshot", "host")))) + 1
        much = too_many(hit["documents"], total["documents"], clean, tests=tests) or any(
            too_many(part.documents, part.of, clean, tests=tests)
            for kind in ("snapshot", "host")
            for part in parts.get(kind, {}).values()
        )
        made.append(
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
                isolated=not much,
                parts=parts,
                examples=tuple(from_mapping(Example, each, where="example") for each in hit["examples"]),
                detail={key: hit[key] for key in ("tasks", "with") if hit.get(key)},
            )
        )
    return made


def _ordered(hit: Mapping[str, Sequence[int]], of: Mapping[str, Sequence[int]]) -> dict[str, Part]:
    made = {name: Part(documents=count, of=of.get(name, [count])[0], bytes=size) for name, (count, size) in hit.items()}
    return dict(sorted(made.items(), key=lambda item: (-item[1].share, -item[1].documents, item[0]))[:SHOWN_PARTS])
