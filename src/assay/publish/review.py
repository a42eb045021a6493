"""What a pull request shows of verdicts that are no one sweep's: imported results, and a branch's changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from assay.publish.markdown import code, escape, judged

if TYPE_CHECKING:
    from assay.gate import SweepVerdict


def imported(verdict: SweepVerdict, *, results: str, notes: Sequence[str]) -> str:
    """The verdict on imported results as GitHub-flavoured Markdown.

    Args:
        verdict: on all candidates.
        results: what they were imported as.
        notes: what was left out.
    """
    parts = [
        f"## {verdict.decision}: {code(results)}",
        f"Imported results, baseline {code(verdict.baseline)}, policy {code(verdict.policy)}.",
        *candidates(verdict),
        *map(escape, notes),
    ]
    return "\n\n".join(parts) + "\n"


def candidates(verdict: SweepVerdict) -> list[str]:
    """Each candidate's verdict, and what judging several means, as paragraphs."""
    found = [
        "\n".join([f"### {one.decision}: {code(name)}", "", *judged(one)]) for name, one in verdict.candidates.items()
    ]
    return [*found, *([escape(verdict.note)] if verdict.note else [])]
